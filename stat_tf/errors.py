"""The exceptions that commands end with in a sentence and no traceback, and how to word others."""

import re
import signal


class UserError(Exception):
    """Bad input: a flag, path, video, shard, checkpoint, label or shape.

    The message is one or two plain sentences that name the thing and how to mend it. Commands
    print it without a traceback and exit with code 1 (see `stat_tf.command`).
    """


class StoppedBySignal(Exception):
    """The process was told to end (SIGTERM, SIGINT), and has kept its state first.

    The message says where the state is. Commands print it without a traceback and exit with `exit_code`, as a
    process does that the signal killed.
    """

    def __init__(self, signal_number: int, state: str):
        """Words the message: which signal, then `state`, what was kept and how to go on."""
        super().__init__(f"Stopped by {signal.Signals(signal_number).name}: {state}")
        self.exit_code = 128 + signal_number


def brief(error: Exception) -> str:
    """Another library's error in a phrase, to stand in a sentence: its first line, or else its kind."""
    # What TensorFlow says of where in a graph it happened is no help.
    lines = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", str(error)).strip(" :\n").splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
