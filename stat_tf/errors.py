"""The one exception that means "the input is wrong", as against "the program is wrong", and how to word others."""


class UserError(Exception):
    """Bad input: a flag, path, video, shard, checkpoint, label or shape.

    The message is one or two plain sentences that name the thing and how to mend it. Commands
    print it without a traceback and exit with code 1 (see `stat_tf.command`).
    """


def brief(error: Exception) -> str:
    """Another library's error in a phrase, to stand in a sentence: its first line, or else its kind."""
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__
