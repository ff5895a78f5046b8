"""What layers need to know of the global batch where each replica sees a part of it only.

A step is to give the same losses however a batch is spread. Most layers treat each clip by itself; batch
normalisation and dropout do not, and read here what goes through the network at the moment.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import NamedTuple

import tensorflow as tf


class Part(NamedTuple):
    """The clips that go through a network on this replica at the moment.

    Attributes:
      positions: Of each clip in the global batch, int64 [b].
      num_clips: In the global batch, over all replicas, int64 scalar.
      counted: float32 scalar: 1, or 0 where the replica has but a filler that counts nowhere.
      whole: Whether these are all that the replica has of the batch, rather than one of several parts.
      last: Whether none of the replica's clips come after these, bool scalar.
    """

    positions: tf.Tensor
    num_clips: tf.Tensor
    counted: tf.Tensor
    whole: bool
    last: tf.Tensor | bool


@contextlib.contextmanager
def entered(part: Part | None) -> Iterator[None]:
    """Tells the layers that are called within what part of the global batch they see; None: all of it."""
    outer, _current.part = _current.part, part
    try:
        yield
    finally:
        _current.part = outer


def current() -> Part | None:
    """The part that this thread is in; None outside of any."""
    return _current.part


def moments(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Mean and variance by channel over the clips of all replicas; gradients flow to all of them.

    Replicas exchange means, variances and counts. From the sums of values and squares, the variance of
    channels whose mean is large would be a small difference of large numbers.

    Args:
      values: float32 [b, ..., C]; b may differ between replicas. To be called in a replica context.

    Returns:
      (mean [C], variance [C], with the count and not one less below the line, count []), float32.
    """
    replica = tf.distribute.get_replica_context()
    mean, variance = tf.nn.moments(values, list(range(values.shape.rank - 1)))
    part = current()
    count = tf.cast(tf.size(values) / values.shape[-1], tf.float32) * (1.0 if part is None else part.counted)
    own = tf.concat([mean, variance, count[tf.newaxis]], 0)
    row = tf.one_hot(replica.replica_id_in_sync_group, replica.num_replicas_in_sync)[:, tf.newaxis]
    # A gather, as a sum of rows that are zero but for the replica's own.
    rows = replica.all_reduce(tf.distribute.ReduceOp.SUM, row * own)
    means, variances, counts = tf.split(rows, [values.shape[-1], values.shape[-1], 1], 1)
    count = tf.reduce_sum(counts)
    mean = tf.reduce_sum(counts * means, 0) / count
    variance = tf.reduce_sum(counts * (variances + tf.square(means - mean)), 0) / count
    return mean, variance, count


class _Current(threading.local):
    """Each replica of a `MirroredStrategy` has a thread."""

    part: Part | None = None


_current = _Current()
