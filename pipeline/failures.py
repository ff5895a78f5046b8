"""What ends a job early, told in a sentence: what workers cannot do, and workers that die."""

import contextlib
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator
from types import FrameType

from pipeline import worker
from stat_tf import errors

# A worker's error, as a runner hands it on from another process: the last line of its traceback.
_TOLD = re.compile(r"\bUserError: (.+)$", re.MULTILINE)
_STEP = re.compile(r" \[while running '[^']*'\]$")  # where it came from, which Beam appends
_WORKER_THREAD = "run_worker"  # Beam's, one a worker process: it ends with an error when its process does
_OTHER_THREADS = ("read_grpc_client_inputs", "beam_control_read")  # which then end too, each with a traceback
_LONGEST_END = 30  # seconds


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _told(error: BaseException) -> list[str]:
    return [text for one in _chain(error) for text in _TOLD.findall(str(one))]


@contextlib.contextmanager
def _announced() -> Iterator[None]:
    """Makes the file that tells workers that their job goes on; see `worker.RUNNING`."""
    try:
        handle, running = tempfile.mkstemp(prefix="stat_tf-job-")
    except OSError as error:
        raise errors.UserError(
            f"A temporary file cannot be made ({errors.brief(error)}): make room, or name another directory in TMPDIR."
        ) from error
    os.close(handle)
    os.environ[worker.RUNNING] = running
    try:
        yield
    finally:
        worker.end_all()
        del os.environ[worker.RUNNING]


@contextlib.contextmanager
def _deaths_noted(deaths: list[str]) -> Iterator[None]:
    """Notes the deaths of worker processes; at the first, ends the others and interrupts the main thread.

    Beam would go on waiting for the dead one, be it at once or when the others have done their share.
    """
    original = threading.excepthook
    interrupts = threading.current_thread() is threading.main_thread()

    def note(failed: threading.ExceptHookArgs) -> None:
        name = failed.thread.name if failed.thread else ""
        if name != _WORKER_THREAD:
            if name not in _OTHER_THREADS:
                original(failed)
            return
        deaths.append(str(failed.exc_value))
        if worker.end_all() and interrupts:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def interrupt(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)  # once: what it has begun, no second is to stop halfway
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGUSR1, interrupt) if interrupts else None
    threading.excepthook = note
    try:
        yield
    finally:
        worker.end_all()
        for thread in threading.enumerate():  # those that Beam, when it is interrupted, does not wait for
            if thread.name == _WORKER_THREAD:
                thread.join(_LONGEST_END)
        threading.excepthook = original
        if interrupts:
            signal.signal(signal.SIGUSR1, before)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Runs a job; what a user can mend about its failure is raised as `UserError`.

    Raises:
      UserError: A worker raised one (Beam hands on but its text), a worker process died, or there is no room for
        temporary files.
    """
    deaths = []
    try:
        with _announced(), _deaths_noted(deaths):
            yield
    except BaseException as error:
        explanation = _explanation(error, deaths)
        if explanation is error:
            raise
        raise explanation from error


def _explanation(error: BaseException, deaths: list[str]) -> BaseException:
    """What to raise for an error; Beam makes errors of its own of what comes up while it runs a step."""
    told = [error] if isinstance(error, errors.UserError) else _told(error)
    if told:
        return errors.UserError(_STEP.sub("", str(told[-1])))
    if deaths:
        return errors.UserError(
            "A worker process died before its work was done, killed or short of memory: give the command again, "
            "with a smaller --direct_num_workers if memory is short."
        )
    return error
