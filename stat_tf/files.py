"""Files, local or in a remote store (`gs://`, `s3://`, `hdfs://`), that appear whole or not at all.

Local paths go through Python's own functions, others through TensorFlow's file systems. What is not there is a
`FileNotFoundError` in either case; whatever else goes wrong with a remote store is a `UserError` (see `stores`).
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from stat_tf import errors, stores

_CHUNK_BYTES = 2**22


def is_remote(path: str) -> bool:
    """Whether a path has a scheme, as gs://bucket/name."""
    return bool(stores.scheme(path))


def check_local(path: str, flag: str, why: str) -> None:
    """Checks that a path is one of this machine.

    Args:
      path: What the flag says.
      flag: The flag, without dashes.
      why: Why it has to be, as a clause.

    Raises:
      UserError: It is remote.
    """
    if is_remote(path):
        raise errors.UserError(f"--{flag}={path} must be a path of this machine, since {why}.")


def exists(path: str) -> bool:
    """Whether there is such a file or directory."""
    return _is_directory(path) is not None if is_remote(path) else os.path.exists(path)


def is_dir(path: str) -> bool:
    """Whether there is such a directory; in an object store, whether names below it are taken."""
    return bool(_is_directory(path)) if is_remote(path) else os.path.isdir(path)


def size(path: str) -> int | None:
    """Bytes of a file; None where there is none."""
    try:
        if not is_remote(path):
            return os.path.getsize(path)
        with _file_system(path) as gfile:
            return gfile.stat(path).length
    except FileNotFoundError:
        return None


def list_dir(path: str) -> list[str]:
    """The names in a directory, in no order.

    Raises:
      OSError: There is no such directory.
    """
    if not is_remote(path):
        return os.listdir(path)
    with _file_system(path) as gfile:
        # Some mark directories by a slash; an object store may hold one with an empty name for the directory itself.
        return [name for name in (name.rstrip("/") for name in gfile.listdir(path)) if name]


def walk(path: str) -> Iterator[str]:
    """The files below a directory, by their paths in it, in an order that is the same everywhere.

    A directory's files come before those of the directories in it, each sorted by name; links to directories are left
    out.

    Raises:
      OSError: A directory cannot be read, or a remote one is not there; a local one has no files then.
    """
    if not is_remote(path):
        for folder, folders, names in os.walk(path, onerror=_heed):
            folders.sort()
            yield from (os.path.relpath(os.path.join(folder, name), path) for name in sorted(names))
        return
    folders = []
    for name in sorted(set(list_dir(path))):
        if is_dir(os.path.join(path, name)):
            folders.append(name)
        else:
            yield name
    for folder in folders:
        yield from (os.path.join(folder, name) for name in walk(os.path.join(path, folder)))


def _heed(error: OSError) -> None:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        raise error


def describe(path: str) -> list[tuple[str, int, int]]:
    """Path, bytes and time of change, in nanoseconds, of a remote file, or of each below a remote directory.

    Raises:
      OSError: There is no such thing.
    """
    paths = [os.path.join(path, name) for name in walk(path)] if is_dir(path) else [path]
    with _file_system(path) as gfile:
        found = [(each, gfile.stat(each)) for each in paths]
    return [(each, status.length, status.mtime_nsec) for each, status in found]


def make_dirs(path: str) -> None:
    """Makes a directory and those above it, where they are missing; in an object store there is nothing to make.

    Raises:
      OSError: It cannot be made.
    """
    if not is_remote(path):
        os.makedirs(path, exist_ok=True)
        return
    with _file_system(path) as gfile:
        gfile.makedirs(path)


def remove_tree(path: str) -> None:
    """Deletes a directory with all in it, if there is one; of a local one, what can be deleted."""
    if not is_remote(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    with contextlib.suppress(FileNotFoundError), _file_system(path) as gfile:
        gfile.rmtree(path)


def remove(path: str) -> None:
    """Deletes a file.

    Raises:
      OSError: It cannot be deleted.
    """
    if not is_remote(path):
        os.remove(path)
        return
    with _file_system(path) as gfile:
        gfile.remove(path)


def rename(source: str, target: str) -> None:
    """Renames a file, or a directory; in an object store that is a copy and a deletion of each object, one by one.

    Raises:
      OSError: It cannot be done.
    """
    if not is_remote(source):
        os.rename(source, target)
        return
    with _file_system(source) as gfile:
        gfile.rename(source, target)


def chunks(path: str) -> Iterator[bytes]:
    """Reads a file, some megabytes at a time.

    Raises:
      OSError: It is missing or cannot be read.
    """
    if not is_remote(path):
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
        return
    with _file_system(path) as gfile, gfile.GFile(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def read_bytes(path: str) -> bytes:
    """Reads a file.

    Raises:
      OSError: It is missing or cannot be read.
    """
    if not is_remote(path):
        with open(path, "rb") as file:
            return file.read()
    with _file_system(path) as gfile, gfile.GFile(path, "rb") as file:
        return file.read()


def read_text(path: str) -> str:
    """Reads a UTF-8 file.

    Raises:
      OSError: It is missing or cannot be read.
      UnicodeDecodeError: It is not UTF-8.
    """
    return read_bytes(path).decode()


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file, whole or not at all.

    Raises:
      OSError: It cannot be written.
    """
    write_bytes(path, text.encode())


def write_bytes(path: str, data: bytes) -> None:
    """Writes a file, whole or not at all: aside in the same directory, then renamed.

    In an object store there is no need for that: an object is there when all of it has arrived.

    Raises:
      OSError: It cannot be written.
    """
    aside = f"{path}.tmp"
    if not is_remote(path):
        try:
            with open(aside, "wb") as file:
                file.write(data)
            os.replace(aside, path)
        except OSError:
            with contextlib.suppress(OSError):
                os.remove(aside)
            raise
        return
    with _file_system(path) as gfile:
        written = aside if stores.has_directories(path) else path
        with gfile.GFile(written, "wb") as file:
            file.write(data)
        if written != path:
            gfile.rename(written, path, overwrite=True)


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[str]:
    """For readers that need a file of this machine: a local file as it is, another as a temporary copy.

    Yields:
      The path to read.

    Raises:
      OSError: A remote file is missing, or there is no room for it.
    """
    if not is_remote(path):
        yield path
        return
    with tempfile.NamedTemporaryFile(suffix=os.path.splitext(path)[1]) as copy:
        for chunk in chunks(path):
            copy.write(chunk)
        copy.flush()
        yield copy.name


def copy(source: str, target: str) -> None:
    """Copies a file, over one that is there; the directory is made where it is missing.

    Raises:
      OSError: It cannot be read or written.
    """
    if not (is_remote(source) or is_remote(target)):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        shutil.copyfile(source, target)
        return
    if is_remote(source):
        stores.connect(source)
    with _file_system(target if is_remote(target) else source) as gfile:
        gfile.makedirs(os.path.dirname(target))
        gfile.copy(source, target, overwrite=True)


def upload_tree(source: str, target: str, last: str) -> None:
    """Copies a directory's files; the one named `last`, by which readers know it, when all is there.

    Raises:
      OSError: It cannot be written.
    """
    for name in sorted(walk(source), key=lambda name: (name == last, name)):
        copy(os.path.join(source, name), os.path.join(target, name))


def _is_directory(path: str) -> bool | None:
    """Whether a remote path is a directory; None where there is nothing."""
    try:
        with _file_system(path) as gfile:
            return gfile.stat(path).is_directory
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _file_system(path: str) -> Iterator:
    """TensorFlow's file system functions, ready for a remote path; their errors are explained."""
    stores.connect(path)
    import tensorflow as tf

    with stores.explained(path):
        yield tf.io.gfile
