"""The process that reads videos for a worker, so that what crashes a decoder or hangs it costs one video.

`decoder.Decoder` starts it and asks; the answers go back through a pipe. Neither TensorFlow nor Beam is
imported here: the process starts in a fraction of a second and is small.
"""

import contextlib
import errno
import hashlib
import io
import os
import resource
import stat
import sys
import threading
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import BinaryIO

from pipeline import worker
from stat_tf.data import cutting, decoding, part_reader, video

# Frames of 8K, as many as a codec may refer to, take half of it; what claims more is damaged, or made to harm.
_MEMORY_LIMIT = 2 << 30
UNREADABLE = "it is missing or cannot be opened"
# What is wrong with a file when it cannot be opened, of all that may be wrong with the machine or its disks.
_OF_THE_FILE = {
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
}
_CHUNK = 1 << 20
_LOCAL_CHUNK = 1 << 16


class _WorkersFile(io.RawIOBase):
    """A file that the worker has opened, as it may lie anywhere; read through the pipe."""

    def __init__(self, connection: Connection):
        super().__init__()
        self._connection = connection

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        content = self._ask("read", len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._ask("seek", offset, whence)

    def _ask(self, what: str, *arguments: int) -> bytes | int:
        self._connection.send((what, arguments))
        answer = self._connection.recv()
        if isinstance(answer, OSError):
            raise answer
        return answer


class _LocalFile(io.FileIO):
    """A file that remembers its last error on being read, which decoders take for damage."""

    error: OSError | None = None

    def readinto(self, buffer: memoryview) -> int:
        try:
            return super().readinto(buffer)
        except OSError as error:
            self.error = error
            raise


class _Unread(Exception):
    """A file cannot be read, through no fault of its own."""


def _open_local(path: str, location: str) -> _LocalFile:
    try:
        if not stat.S_ISREG(os.stat(location).st_mode):  # opening a named pipe would wait for ever
            raise video.VideoError(path, "it is no regular file")
        return _LocalFile(location)
    except OSError as error:
        if error.errno in _OF_THE_FILE:
            raise video.VideoError(path, UNREADABLE) from error
        raise _Unread(_words(error)) from error


def _words(error: OSError) -> str:
    return os.strerror(error.errno).lower()


@contextlib.contextmanager
def _opened(path: str, location: str | None, connection: Connection) -> Iterator[BinaryIO]:
    """Opens a file; raises `_Unread` in the end if reading it failed, whatever the reader made of that."""
    if location is None:
        with io.BufferedReader(_WorkersFile(connection), _CHUNK) as file:
            yield file
        return
    raw = _open_local(path, location)
    with io.BufferedReader(raw, _LOCAL_CHUNK) as file:
        try:
            yield file
        finally:
            if raw.error:
                raise _Unread(_words(raw.error))


def _read_clip(path: str, file: BinaryIO, wanted: dict) -> Iterator[str | video.VideoClip]:
    yield hashlib.file_digest(file, "sha256").hexdigest()
    yield video.read_clip(path, **wanted, file=file)


def _cut_video(path: str, file: BinaryIO, seconds: float) -> Iterator[str | list[cutting.Run]]:
    yield hashlib.file_digest(file, "sha256").hexdigest()
    yield cutting.cut_video(path, seconds, file)


def _read_parts(
    path: str, file: BinaryIO, run: cutting.Run, wanted: dict
) -> Iterator[tuple[cutting.Part, video.VideoClip | video.VideoError]]:
    yield from part_reader.PartReader(**wanted).read(path, run, file)


_TASKS = {"read_clip": _read_clip, "cut_video": _cut_video, "read_parts": _read_parts}


def _answers(connection: Connection, task: str, path: str, location: str | None, arguments: tuple) -> Iterator[tuple]:
    """Does a task; yields messages of a kind and a value, of which the last says how it ended."""
    try:
        with _opened(path, location, connection) as file:
            for item in _TASKS[task](path, file, *arguments):
                yield "item", item
        yield "done", None
    except video.VideoError as error:
        yield "rejected", error.reason
    except _Unread as error:
        yield "unread", str(error)
    except OSError:
        yield "rejected", UNREADABLE
    except MemoryError:
        yield "rejected", decoding.TOO_MUCH_MEMORY
    except Exception:
        yield "failed", traceback.format_exc()


def serve(connection: Connection) -> None:
    """Does what is asked, task after task, until the other side closes the pipe."""
    connection.send(("ready", None))
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        for answer in _answers(connection, *task):
            connection.send(answer)


def main() -> None:
    """Serves the worker that started this process, over the pipe whose descriptor it names; ends when it does."""
    # Decoding lets other threads run, so that this one notices even while a decoder hangs.
    threading.Thread(target=worker.leave_with, args=[os.getppid()], daemon=True).start()
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_LIMIT, _MEMORY_LIMIT))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        serve(Connection(int(sys.argv[1])))
    except (BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        sys.exit(1)  # the worker is gone, or was interrupted together with this process


if __name__ == "__main__":
    main()
