"""Commands in processes of their own, one at a time, that are stopped with this one and never left behind unseen."""

import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from stat_tf import errors

_POLL_SECONDS = 0.5
# `is_locked` has a lock for an instant.
_LOCK_TRIES, _LOCK_PAUSE_SECONDS = 3, 0.1
_LOCK_NAME = ".lock"
_PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """SIGINT, SIGTERM or SIGHUP came, and what was running has ended.

    Attributes:
      signal: Its number.
    """

    def __init__(self, number: int):
        """`number` is the signal's."""
        super().__init__(signal.Signals(number).name)
        self.signal = number


class Commands:
    """Runs `python -m ...`; SIGINT, SIGTERM and SIGHUP, the last as SIGTERM, are passed on, and waited for.

    A context manager: the signals are its own within, but for those that the process ignores, as one started by nohup
    does SIGHUP. A second signal kills what does not end. A command that ends well all the same is done; then it is the
    next that is not begun.
    """

    def __init__(self, lock: int):
        """`lock` is the file descriptor of a lock, which a command holds as long as it lives, even if left alone."""
        self._lock = lock
        self._process: subprocess.Popen | None = None
        self._signal = 0
        self._before = {}

    def __enter__(self) -> "Commands":
        heeded = [number for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]
        self._before = {number: signal.signal(number, self._on_signal) for number in heeded}
        return self

    def __exit__(self, *unused) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _on_signal(self, number: int, frame) -> None:
        again, self._signal = bool(self._signal), number
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL if again else _passed_on(number))

    def check(self) -> None:
        """Raises `Stopped` if a signal has come."""
        if self._signal:
            raise Stopped(self._signal)

    def run(self, arguments: Sequence[str], log_path: str, watch: Callable[[float], None]) -> None:
        """Runs `python -m ARGUMENTS` to its end, out of sight.

        Args:
          arguments: The module and its flags.
          log_path: Gets the command and what it prints, after what is there.
          watch: Called every so often, and at the end, with the seconds since the start.

        Raises:
          Stopped: A signal came; the command has ended for it, or was not begun.
          UserError: The command failed; the message is its own error.
        """
        with open(log_path, "a", encoding="utf-8", errors="replace") as log:
            print(f"$ {shown(arguments)}", file=log, flush=True)
            begin = os.path.getsize(log_path)
            code = self._run(arguments, watch, stdout=log, stderr=subprocess.STDOUT)
        if code:
            raise errors.UserError(
                f"python -m {arguments[0]} {_ending(code)}: {_error(log_path, begin)} Its log: {log_path}"
            )

    def run_in_view(self, arguments: Sequence[str]) -> None:
        """Runs `python -m ARGUMENTS` to its end; it prints, and draws its progress, where this process does.

        Raises:
          Stopped: A signal came; the command has ended for it, or was not begun.
          UserError: The command failed; it has said why itself.
        """
        if code := self._run(arguments, lambda seconds: None):
            raise errors.UserError(f"python -m {arguments[0]} {_ending(code)}; what it said stands above.")

    def _run(self, arguments: Sequence[str], watch: Callable[[float], None], **streams) -> int:
        self.check()
        start = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(self._lock,),
            # A terminal's Ctrl-C reaches this process only, which passes it on: once, and then waits.
            process_group=0,
            **streams,
        )
        if self._signal:  # came between the check and the start
            self._process.send_signal(_passed_on(self._signal))
        try:
            while (code := self._poll()) is None:
                watch(time.monotonic() - start)
        finally:
            if self._process.poll() is None:  # it is `watch` that failed
                self._process.terminate()
                self._process.wait()
            self._process = None
        watch(time.monotonic() - start)
        if code:
            self.check()
        return code

    def _poll(self) -> int | None:
        try:
            return self._process.wait(timeout=_POLL_SECONDS)
        except subprocess.TimeoutExpired:
            return None


def _ending(code: int) -> str:
    return f"failed with exit code {code}" if code > 0 else f"was killed by {signal.Signals(-code).name}"


def _passed_on(number: int) -> int:
    """The signal that a command gets: a training ends in order on SIGTERM, but knows nothing of SIGHUP."""
    return signal.SIGTERM if number == signal.SIGHUP else number


def shown(arguments: Sequence[str]) -> str:
    """A command as one would type it."""
    return shlex.join(["python", "-m", *arguments])


@contextlib.contextmanager
def locked(directory: str, command: str) -> Iterator[int]:
    """Holds a directory's lock; made where it is missing.

    Args:
      directory: What the command writes to.
      command: The module that `python -m` runs, for the messages.

    Yields:
      The lock's file descriptor: processes that inherit it hold the lock too.

    Raises:
      UserError: Another process holds it, or the directory cannot be written to.
    """
    try:
        os.makedirs(directory, exist_ok=True)
        descriptor = os.open(os.path.join(directory, _LOCK_NAME), os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise errors.UserError(
            f"{directory} cannot be written to ({error.strerror}): name a directory that can."
        ) from error
    try:
        if not _lock(descriptor):
            raise errors.UserError(
                f"Another python -m {command}, or a command that it began, is at work in {directory}: wait for its "
                "end, stop it, or name another directory."
            )
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    for attempt in range(_LOCK_TRIES):
        if attempt:
            time.sleep(_LOCK_PAUSE_SECONDS)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        except OSError:
            pass  # A file system without locks: two commands at once are not told of each other.
        return True
    return False


def is_locked(directory: str) -> bool:
    """Whether a process holds a directory's lock."""
    try:
        descriptor = os.open(os.path.join(directory, _LOCK_NAME), os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


def _error(log_path: str, begin: int) -> str:
    """What a failed command said last, of its log from `begin` on."""
    with open(log_path, "rb") as log:
        log.seek(begin)
        lines = [line.strip() for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return said[-1] if said else lines[-1] if lines else "It said nothing."
