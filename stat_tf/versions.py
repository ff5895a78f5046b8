"""Directories of numbered versions, as TF Serving polls them."""

from stat_tf import files


def numbers(directory: str) -> list[int]:
    """The versions in a directory, newest first; none where there is no such directory."""
    names = files.list_dir(directory) if files.is_dir(directory) else []
    return sorted((int(name) for name in names if name.isdecimal()), reverse=True)


def newest(directory: str) -> int:
    """The highest version in a directory; 0 where there is none."""
    return max(numbers(directory), default=0)
