"""Being told to end, by a scheduler that takes the machine away (SIGTERM) or by the user (Ctrl-C)."""

import contextlib
import dataclasses
import os
import signal
import threading
from collections.abc import Iterator


@dataclasses.dataclass
class StopRequest:
    """Whether the process was told to end.

    Attributes:
      signal_number: The signal that said so; None while there was none.
    """

    signal_number: int | None = None


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Lets SIGTERM and SIGINT ask for the end instead of ending the process.

    A signal that the process ignores, as one started by nohup does SIGINT, stays ignored. A second Ctrl-C
    interrupts at once. Outside the main thread, where Python allows no handlers, nothing is changed.

    Yields:
      What was asked for so far.
    """
    request = StopRequest()

    def ask(number, frame):
        del frame
        if number == signal.SIGINT == request.signal_number:
            raise KeyboardInterrupt
        request.signal_number = number
        again = "; again: at once" if number == signal.SIGINT else ""
        # Nothing is printed here by `print`: it may be what the signal interrupted.
        os.write(2, f"{signal.Signals(number).name}: stopping after this step{again}.\n".encode())

    previous = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
