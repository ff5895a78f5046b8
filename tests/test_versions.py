"""Numbered versions: which are taken, which are whole, and which number is free."""

import itertools

import pytest

from stat_tf import errors, files, versions

_numbers = itertools.count()


@pytest.fixture(params=["local", "ram"])
def root(request, tmp_path):
    return str(tmp_path) if request.param == "local" else f"ram://versions{next(_numbers)}/served"


def test_versions_without_a_graph_are_taken_but_not_whole(root):
    assert (versions.numbers(root), versions.newest(root), versions.following(root)) == ([], 0, 1)
    for name in ("2/saved_model.pb", "9/saved_model.pb", "10/variables/variables.index", "notes/saved_model.pb", "7"):
        files.copy(__file__, f"{root}/{name}")
    assert versions.numbers(root) == [10, 9, 7, 2]
    assert list(versions.whole(root)) == [9, 2]
    assert (versions.newest(root), versions.following(root)) == (9, 11)


def test_version_is_not_taken_for_the_directory_of_versions(root):
    versions.check_base(root, "output")
    files.copy(__file__, f"{root}/1/saved_model.pb")
    versions.check_base(root, "output")
    with pytest.raises(errors.UserError, match=f"--output={root}/1 is a version, .*: give the directory above it"):
        versions.check_base(f"{root}/1", "output")
