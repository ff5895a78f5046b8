"""Videos read in a process of its own: what crashes a decoder, hangs it or takes all memory costs one video.

The process is the worker's companion for all its clips. Beside its start, a third of a second, a clip costs the
passing of its frames through a pipe.
"""

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from multiprocessing import connection as connections
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipeline import decoder_process
from pipeline.sources import files
from stat_tf import errors
from stat_tf.data.cutting import Part, Run
from stat_tf.data.video import VideoClip, VideoError

TIMEOUT = 600.0  # seconds; decoding all of a film may take that long
_ATTEMPTS = 2
_LONGEST_END = 10  # seconds


class _Crash(Exception):
    """The process ended in the middle of a task."""


class Decoder:
    """Reads videos for one thread.

    A video that the process crashes on is tried again, in a new one, before it is given up: the process may have
    been killed for another's sake. One that takes too long is not.
    """

    def __init__(self, timeout: float):
        """Creates the decoder; its process starts with the first video.

        Args:
          timeout: Seconds that reading a clip, cutting a video or going through its bytes may take.
        """
        self._timeout = timeout
        self._process = None
        self._pipe = None

    def read_clip(self, path: str, location: str, wanted: dict) -> tuple[str, VideoClip | VideoError]:
        """Reads a video that is one clip.

        Args:
          path: The video's name, for messages.
          location: Where it lies.
          wanted: What to read of it: the keyword arguments of `video.read_clip`.

        Returns:
          The SHA-256 of its bytes ("" if they cannot be read), and the clip or what is wrong with it.

        Raises:
          UserError: It may be as good as any, but its disk or store does not let it be read.
        """
        return self._digest_and_result("read_clip", path, location, wanted)

    def cut_video(self, path: str, location: str, seconds: float) -> tuple[str, list[Run] | VideoError]:
        """Cuts a video into parts of `seconds`, as `cutting.cut_video`; else as `read_clip`."""
        return self._digest_and_result("cut_video", path, location, seconds)

    def read_parts(
        self, path: str, location: str, run: Run, wanted: dict
    ) -> Iterator[tuple[Part, VideoClip | VideoError]]:
        """Reads a run's parts, as `part_reader.PartReader.read` does.

        Args:
          path: The video's name, for messages.
          location: Where it lies.
          run: The run.
          wanted: What to read of each part: the arguments of `PartReader`.

        Yields:
          Each part once, in no particular order, with its clip or with what is wrong with it.
        """
        waiting = dict.fromkeys(run.parts)
        try:
            for part, result in self._ask("read_parts", path, location, run, wanted):
                del waiting[part]
                yield part, result
        except VideoError as error:
            yield from ((part, error) for part in waiting)

    def close(self) -> None:
        """Ends the process; the next video starts another."""
        if self._process:
            self._pipe.close()
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for a dead disk ends when that does
                self._process.wait(_LONGEST_END)
            self._process = None

    def _digest_and_result(self, task: str, path: str, location: str, argument: object) -> tuple[str, object]:
        found = []
        try:
            for item in self._ask(task, path, location, argument):
                found.append(item)
        except VideoError as error:
            found.append(error)
        return ("", *found) if len(found) == 1 else tuple(found)

    def _ask(self, task: str, path: str, location: str, *arguments: object) -> Iterator[object]:
        """Yields a task's items; raises `VideoError` where there are no more, for what is wrong with the video."""
        given = 0
        for _ in range(_ATTEMPTS):
            try:
                # The items come in the same order each time.
                for number, item in enumerate(self._attempt(task, path, location, *arguments)):
                    if number == given:
                        given += 1
                        yield item
                return
            except _Crash as crash:
                reason = str(crash)
        raise VideoError(path, reason)

    def _attempt(self, task: str, path: str, location: str, *arguments: object) -> Iterator[object]:
        file = None
        if files.is_remote(location):
            try:
                file = FileSystems.open(location, compression_type=CompressionTypes.UNCOMPRESSED)
            except Exception as error:
                raise _unread(path, location, error) from error
        ended = False
        try:
            self._start()
            self._send((task, path, None if file else location, arguments))
            yield from self._items(path, location, file)
            ended = True
        except VideoError:
            ended = True
            raise
        finally:
            if not ended:  # or the next task would get this one's answers
                self.close()
            if file:
                file.close()

    def _start(self) -> None:
        if self._process and self._process.poll() is not None:
            self.close()
        if self._process:
            return
        self._pipe, theirs = connections.Pipe()
        # What this process can import, that one can. Libraries that it does not need would reserve memory a thread.
        modules = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "PYTHONPATH": modules, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.decoder_process", str(theirs.fileno())],
                env=environment,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,  # a crash has a reason; memory that is dumped with it helps nobody
            )
        try:
            self._pipe.recv()  # however long it takes to start
        except (EOFError, OSError) as error:
            code = self._process.wait()
            self.close()
            raise RuntimeError(f"The decoding process does not start (exit code {code}).") from error

    def _send(self, message: object) -> None:
        try:
            self._pipe.send(message)
        except OSError as error:
            raise _Crash(self._how_it_ended()) from error

    def _items(self, path: str, location: str, file: BinaryIO | None) -> Iterator[object]:
        deadline = time.monotonic() + self._timeout
        while True:
            if not self._pipe.poll(max(0, deadline - time.monotonic())):
                self.close()
                raise VideoError(path, f"reading it takes longer than {self._timeout:g} s")
            try:
                kind, value = self._pipe.recv()
            except (EOFError, OSError) as error:
                raise _Crash(self._how_it_ended()) from error
            if kind == "item":
                yield value
                deadline = time.monotonic() + self._timeout
            elif kind == "done":
                return
            elif kind == "rejected":
                raise VideoError(path, value)
            elif kind == "failed":
                raise RuntimeError(f"Reading {path} failed:\n{value}")
            elif kind == "unread":
                raise _not_the_videos_fault(location, value)
            else:
                self._send(self._file_operation(path, location, file, kind, value))

    def _how_it_ended(self) -> str:
        code = self._process.wait(_LONGEST_END)
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"the decoder crashes on it ({how})"

    def _file_operation(
        self, path: str, location: str, file: BinaryIO, name: str, arguments: tuple[int, ...]
    ) -> bytes | int | OSError:
        """Reads or seeks on the process's behalf; a place before the start, as damage may ask for, is an error."""
        try:
            if name == "seek" and _leads_before_start(file, *arguments):
                return OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return getattr(file, name)(*arguments)
        except Exception as error:
            self.close()  # it waits for an answer
            raise _unread(path, location, error) from error


def _leads_before_start(file: BinaryIO, offset: int, whence: int) -> bool:
    """Whether there is no such place. Some of Beam's files would go there, and fail on reading."""
    start = {os.SEEK_SET: 0, os.SEEK_CUR: file.tell()}.get(whence)
    return start is not None and start + offset < 0


def _unread(path: str, location: str, error: Exception) -> VideoError | errors.UserError:
    """What to make of a remote file that cannot be read, by whatever error its store's client tells of it."""
    try:
        exists = files.exists(location)
    except Exception as unknown:
        return _not_the_videos_fault(location, errors.brief(unknown))
    if exists:
        return _not_the_videos_fault(location, errors.brief(error))
    return VideoError(path, decoder_process.UNREADABLE)


def _not_the_videos_fault(location: str, why: str) -> errors.UserError:
    """Ends the job rather than the video; where the runner tries again, not at once."""
    return errors.UserError(
        f"{location} cannot be read, for a reason that lies with its disk or store ({why}): see to that, and give the "
        "command again."
    )
