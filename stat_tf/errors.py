"""The one exception that means "the input is wrong", as against "the program is wrong"."""


class UserError(Exception):
    """Bad input: a flag, path, video, shard, checkpoint, label or shape.

    The message is one or two plain sentences that name the thing and how to mend it. Commands
    print it without a traceback and exit with code 1 (see `stat_tf.command`).
    """
