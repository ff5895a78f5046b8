"""What ends a job early, told in a sentence: what workers cannot do, and workers that die."""

import contextlib
import os
import re
import signal
import tempfile
import threading
from collections.abc import Iterator

from pipeline import worker
from stat_tf import errors

# A worker's error, as a runner hands it on from another process: the last line of its traceback.
_TOLD = re.compile(r"\bUserError: (.+)$", re.MULTILINE)
_STEP = re.compile(r" \[while running '[^']*'\]$")  # where it came from, which Beam appends
_WORKER_THREAD = "run_worker"  # Beam's, one a worker process: it ends with an error when its process does
_OTHER_THREADS = ("read_grpc_client_inputs", "beam_control_read")  # which then end too, each with a traceback


class _WorkerDied(Exception):
    """A worker process of this machine ended before its work."""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _told(error: Exception) -> list[str]:
    return [text for one in _chain(error) for text in _TOLD.findall(str(one))]


@contextlib.contextmanager
def _announced() -> Iterator[str]:
    """Makes the file that tells workers that their job goes on; see `worker.RUNNING`."""
    handle, running = tempfile.mkstemp(prefix="stat_tf-job-")
    os.close(handle)
    os.environ[worker.RUNNING] = running
    try:
        yield running
    finally:
        del os.environ[worker.RUNNING]
        with contextlib.suppress(FileNotFoundError):
            os.remove(running)


@contextlib.contextmanager
def _watched_workers(deaths: list[str]) -> Iterator[None]:
    """Notes the deaths of worker processes; at the first, ends the others and raises `_WorkerDied` in the main thread.

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
        if len(deaths) == 1:
            os.remove(running)
            if interrupts:
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    def interrupt(*_) -> None:
        raise _WorkerDied

    with _announced() as running:
        handler = signal.signal(signal.SIGUSR1, interrupt) if interrupts else None
        threading.excepthook = note
        try:
            yield
        finally:
            threading.excepthook = original
            if interrupts:
                signal.signal(signal.SIGUSR1, handler)


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Runs a job; what a user can mend about its failure is raised as `UserError`.

    Raises:
      UserError: A worker raised one (Beam hands on but its text), or a worker process died.
    """
    deaths = []
    try:
        with _watched_workers(deaths):
            yield
    except Exception as error:
        told = [error] if isinstance(error, errors.UserError) else _told(error)
        if told:
            raise errors.UserError(_STEP.sub("", str(told[-1]))) from error
        if deaths:
            raise errors.UserError(
                "A worker process died before its work was done, killed or short of memory: give the command again, "
                "with a smaller --direct_num_workers if memory is short."
            ) from error
        raise
