"""Digests by which files, and directories of files, are told apart."""

import hashlib
import os
from collections.abc import Mapping

from stat_tf import files


def of(path: str) -> str:
    """SHA-256, hexadecimal, of a file, or of a directory's files with their paths in it; remote ones are read too.

    Raises:
      OSError: It is missing or cannot be read.
    """
    return of_all(of_files(path)) if files.is_dir(path) else _of_file(path)


def of_files(directory: str) -> dict[str, str]:
    """SHA-256 of each of a directory's files, by its path there.

    Raises:
      OSError: One of them cannot be read.
    """
    return {name: _of_file(os.path.join(directory, name)) for name in files.walk(directory)}


def of_all(each: Mapping[str, str]) -> str:
    """The digest of a directory, of what `of_files` has found in it."""
    whole = hashlib.sha256()
    for name, digest in each.items():
        whole.update(f"{name}\0{digest}\n".encode(errors="surrogateescape"))
    return whole.hexdigest()


def _of_file(path: str) -> str:
    whole = hashlib.sha256()
    for chunk in files.chunks(path):
        whole.update(chunk)
    return whole.hexdigest()
