"""Annotation and video files, wherever Beam's file systems can reach them."""

import contextlib
import io
import itertools
import os
import shutil
from collections.abc import Iterator
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline import hdfs
from stat_tf import errors, stores
from stat_tf.files import is_remote

VIDEO_SUFFIXES = (".avi", ".mp4", ".mkv", ".webm", ".mov", ".m4v", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ts")
_CHUNK_BYTES = 2**22
_PASSED_OVER = (".", "lost+found")  # directories of nobody's videos, and of one's own alone


def connect(beam_arguments: list[str], *paths: str | None) -> None:
    """Makes Beam's file systems ready before its pipeline does, and finds out whether remote paths are of use.

    Args:
      beam_arguments: Beam's options. Where they say how to reach S3, a path there is not tried out.
      *paths: What the job reads and writes; None for what is not given.

    Raises:
      UserError: Beam has no file system for a path, or the store refuses or does not answer.
    """
    options = PipelineOptions(beam_arguments)
    FileSystems.set_options(options)
    remote = [path for path in paths if path and is_remote(path)]
    hdfs.check(options, filter(hdfs.holds, remote))
    for path in itertools.filterfalse(hdfs.holds, remote):
        try:
            FileSystems.get_filesystem(path)
        except ValueError as error:
            raise errors.UserError(
                f"Beam has no file system for {path}: check the path; docs/storage.md says what to install."
            ) from error
        if not any(argument.startswith("--s3_") for argument in beam_arguments):
            stores.check(path)


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
        with opened(path) as file:
            return file.read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.UserError(f"{path} is not a text file in UTF-8.") from error
    except OSError as error:
        raise errors.UserError(f"{path} cannot be read: check --{flag}.") from error


def exists(path: str) -> bool:
    """Whether there is a file or a directory.

    Raises:
      OSError: A store refuses or does not answer; from some come errors of their own.
    """
    return hdfs.exists(path) if hdfs.holds(path) else FileSystems.exists(path)


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """Opens a file to read it.

    Raises:
      OSError: It is not there or cannot be read; from some stores come errors of their own.
    """
    with (
        hdfs.explained(path) if hdfs.holds(path) else contextlib.nullcontext(),
        FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file,
    ):
        yield file


def write(path: str, data: bytes) -> None:
    """Writes a file, in place of the one that is there. Beam cannot make an empty object in S3.

    Raises:
      OSError: It cannot be written; from some stores come errors of their own.
    """
    if not data and path.startswith("s3://"):
        stores.put_empty(path)
    else:
        upload(io.BytesIO(data), path)


def upload(local: BinaryIO, path: str) -> None:
    """Copies an open file to a store, a part at a time; to S3, one that is not empty.

    Raises:
      OSError: It cannot be written; from some stores come errors of their own.
    """
    if hdfs.holds(path):
        hdfs.write(path, local)
    else:
        with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as copy:
            shutil.copyfileobj(local, copy, _CHUNK_BYTES)


def move(source: str, target: str) -> None:
    """Moves a file that several tries may make at once, all alike, to its place.

    Raises:
      OSError: It cannot be moved; from some stores come errors of their own.
    """
    if hdfs.holds(target):
        hdfs.move(source, target)
    else:
        FileSystems.rename([source], [target])


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


def shown(name: str) -> str:
    """A name as text that can be printed and stored: of bytes that are no UTF-8, their escapes."""
    return os.fsencode(name).decode(errors="backslashreplace")


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


def _below(root: str) -> list[FileMetadata]:
    """The files below a remote directory, without those below a directory of a like name."""
    return hdfs.tree(root) if hdfs.holds(root) else FileSystems.match([root.rstrip("/") + "/**"])[0].metadata_list


def list_objects(root: str) -> list[str]:
    """Full paths of the files below a remote directory."""
    return [entry.path for entry in _below(root)]


def describe(path: str) -> list[tuple[str, int, float]]:
    """Path, bytes and time of change (0 where the store does not say) of a remote file, or of each below a directory.

    Raises:
      OSError: The store refuses or does not answer.
    """
    itself = [] if hdfs.holds(path) else FileSystems.match([path])[0].metadata_list
    found = {entry.path: entry for entry in (*itself, *_below(path))}
    return [(name, found[name].size_in_bytes, found[name].last_updated_in_seconds or 0) for name in sorted(found)]


def sizes(directory: str) -> dict[str, int]:
    """Bytes of the files in a directory, without those in directories below, by their names; {} if it is not there."""
    if is_remote(directory):
        prefix = directory.rstrip("/") + "/"
        if hdfs.holds(directory):
            found = hdfs.children(directory)
        else:
            found = FileSystems.match([prefix + "*"])[0].metadata_list
        return {entry.path.removeprefix(prefix): entry.size_in_bytes for entry in found}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(directory) as entries:
        return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    return {}


def _identity(directory: str) -> tuple[int, int] | None:
    """What tells a directory from others, by whatever path it is reached; None if it cannot be told."""
    try:
        status = os.stat(directory)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def list_files(root: str, flag: str) -> list[str]:
    """Lists every file below a directory, relative to it, with forward slashes, sorted.

    Links to directories are followed, but for those that lead back to where they are.

    Raises:
      UserError: The directory is missing, or it or one below it cannot be read.
    """
    check_directory(root, flag)
    if is_remote(root):
        try:
            found = list_objects(root)
        except OSError as error:
            raise errors.UserError(f"{root} cannot be listed ({errors.brief(error)}): check --{flag}.") from error
        return sorted(path.removeprefix(root.rstrip("/") + "/") for path in found)

    def refuse(error: OSError) -> None:
        if not os.path.basename(error.filename).startswith(_PASSED_OVER):
            why = error.strerror.lower()
            raise errors.UserError(f"The directory {error.filename} cannot be read ({why}): check --{flag}.")

    found = []
    above = {root: {_identity(root)}}  # of a directory: itself and those that it is in, by whatever links
    for folder, folders, names in os.walk(root, onerror=refuse, followlinks=True):
        path = above.pop(folder)
        inside = {name: _identity(os.path.join(folder, name)) for name in folders}
        folders[:] = [name for name, identity in inside.items() if identity not in path]
        above |= {os.path.join(folder, name): path | {inside[name]} for name in folders}
        found.extend(os.path.relpath(os.path.join(folder, name), root) for name in names)
    return sorted(path.replace(os.sep, "/") for path in found)
