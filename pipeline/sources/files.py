"""Annotation and video files, wherever Beam's file systems can reach them."""

import os

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from stat_tf import errors

VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts")
_PASSED_OVER = (".", "lost+found")  # directories of nobody's videos, and of one's own alone


def is_remote(path: str) -> bool:
    """Whether a path has a scheme, as gs://bucket/name."""
    return "://" in path


def absolute(path: str | None) -> str | None:
    """A local path as seen from anywhere, for workers start in directories of their own; others as they are."""
    return path if not path or is_remote(path) else os.path.abspath(path)


def read_text(path: str, flag: str) -> str:
    """Reads a UTF-8 text file.

    Args:
      path: The file.
      flag: The flag that led here, for the message.

    Raises:
      UserError: It is missing, unreadable or not UTF-8.
    """
    try:
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.UserError(f"{path} is not a text file in UTF-8.") from error
    except OSError as error:
        raise errors.UserError(f"{path} cannot be read: check --{flag}.") from error


def read_lines(path: str, flag: str) -> list[tuple[str, list[str]]]:
    """Reads a list of words: ("FILE line N", words) of every line that is not blank.

    Raises:
      UserError: As `read_text`, or a line holds what no file name can.
    """
    found = []
    for number, line in enumerate(read_text(path, flag).splitlines(), start=1):
        where = f"{path} line {number}"
        check_name(line, where)
        if line.strip():
            found.append((where, line.split()))
    return found


def is_utf8(name: str) -> bool:
    """Whether a name can be written in UTF-8; one that the file system holds in other bytes cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_name(text: str, where: str) -> None:
    """Checks that a text can be, or be part of, a file name.

    Raises:
      UserError: It holds a NUL character or half of a surrogate pair.
    """
    if "\0" in text or not is_utf8(text):
        raise errors.UserError(f"{where} holds a character that no file name can have: {text!r}.")


def check_directory(root: str, flag: str) -> None:
    """Checks that a directory is there; remote ones are found out about when they are read.

    Raises:
      UserError: It is missing.
    """
    if not is_remote(root) and not os.path.isdir(root):
        raise errors.UserError(f"There is no directory {root}: check --{flag}.")


def list_objects(root: str) -> list[str]:
    """Full paths of the objects below a remote directory, without those below a directory of a like name."""
    found = FileSystems.match([root.rstrip("/") + "/**"])[0].metadata_list
    return [entry.path for entry in found]


def list_files(root: str, flag: str) -> list[str]:
    """Lists every file below a directory, relative to it, with forward slashes, sorted.

    Raises:
      UserError: The directory is missing, or it or one below it cannot be read.
    """
    check_directory(root, flag)
    if is_remote(root):
        return sorted(path.removeprefix(root.rstrip("/") + "/") for path in list_objects(root))

    def refuse(error: OSError) -> None:
        if not os.path.basename(error.filename).startswith(_PASSED_OVER):
            why = error.strerror.lower()
            raise errors.UserError(f"The directory {error.filename} cannot be read ({why}): check --{flag}.")

    found = []
    for folder, _, names in os.walk(root, onerror=refuse, followlinks=True):
        found.extend(os.path.relpath(os.path.join(folder, name), root) for name in names)
    return sorted(path.replace(os.sep, "/") for path in found)
