"""Directories of numbered versions, as TF Serving polls them."""

import os
from collections.abc import Iterator

from stat_tf import errors, files

# The file that makes a directory a SavedModel. In a remote store it is written last: a version without it is still
# being written, or never will be.
GRAPH_NAME = "saved_model.pb"


def numbers(directory: str) -> list[int]:
    """The numbers that are taken in a directory, highest first; none where there is no such directory."""
    names = files.list_dir(directory) if files.is_dir(directory) else []
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def is_whole(directory: str, number: int) -> bool:
    """Whether all of a version is there."""
    return files.exists(os.path.join(directory, str(number), GRAPH_NAME))


def whole(directory: str) -> Iterator[int]:
    """The versions in a directory that are whole, newest first."""
    return (number for number in numbers(directory) if is_whole(directory, number))


def newest(directory: str) -> int:
    """The newest version in a directory that is whole; 0 where there is none."""
    return next(whole(directory), 0)


def following(directory: str) -> int:
    """The number for the next version: above all that are taken, so that none ever stands for two models."""
    return max(numbers(directory), default=0) + 1


def check_base(directory: str, flag: str) -> None:
    """Checks that a directory is one of versions, or none yet.

    Raises:
      UserError: It is itself a version: what is put into it would not be found, and what is in it not compared with.
    """
    if files.exists(os.path.join(directory, GRAPH_NAME)):
        raise errors.UserError(f"--{flag}={directory} is a version, with a {GRAPH_NAME}: give the directory above it.")
