"""The process that reads videos for a worker, so that what crashes a decoder or hangs it costs one video.

`decoder.Decoder` starts it and asks; the answers go back through a pipe. Neither TensorFlow nor Beam is
imported here: the process starts in a fraction of a second and is small.
"""

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
_UNREADABLE = "it is missing or cannot be opened"
_CHUNK = 1 << 20


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


def _open(path: str, location: str | None, connection: Connection) -> BinaryIO:
    if location is None:
        return io.BufferedReader(_WorkersFile(connection), _CHUNK)
    try:
        if not stat.S_ISREG(os.stat(location).st_mode):  # opening a named pipe would wait for ever
            raise video.VideoError(path, "it is no regular file")
        return open(location, "rb")
    except OSError as error:
        raise video.VideoError(path, _UNREADABLE) from error


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
        with _open(path, location, connection) as file:
            for item in _TASKS[task](path, file, *arguments):
                yield "item", item
        yield "done", None
    except video.VideoError as error:
        yield "rejected", error.reason
    except OSError:
        yield "rejected", _UNREADABLE
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
