"""The main program of the Bazel tests: a test file run by itself would define tests and run none."""

import sys

import pytest

if __name__ == "__main__":
    sys.exit(pytest.main(sys.argv[1:]))
