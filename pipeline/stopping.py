"""Signals that tell a job's command to end: it ends in order and leaves nothing behind."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from pipeline import worker
from stat_tf import errors

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Told(BaseException):
    """A signal came. No `Exception`: nothing between here and where it is caught is to take it for a failure."""


@contextlib.contextmanager
def in_order(state: str) -> Iterator[None]:
    """Lets the first SIGINT, SIGTERM or SIGHUP end the block as an exception does; what is to be undone is undone.

    One that the process ignores, as under nohup, stays ignored. Outside of the main thread, nothing changes.

    Args:
      state: What there is then, for the message.

    Raises:
      StoppedBySignal: A signal came.
    """
    told = []

    def tell(number: int, frame: FrameType | None) -> None:
        told.append(number)
        worker.end_all()  # Beam, which waits for them, may have lost the thread by which it would end them
        if len(told) == 1:  # or the next one would end the undoing
            raise _Told

    handlers = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in _SIGNALS}
        handlers = {number: handler for number, handler in handlers.items() if handler != signal.SIG_IGN}
    try:
        for number in handlers:
            signal.signal(number, tell)
        yield
    except BaseException:
        if told:  # whatever Beam, in whose midst it came, has made of it
            raise errors.StoppedBySignal(told[0], state) from None
        raise
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
