"""Layers the backbones and the recognizer share."""

import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from stat_tf.models import global_batch


def he_normal(seed: int) -> tf.keras.initializers.Initializer:
    """What torchvision initializes convolutions with: normal, of variance 2 over the fan-out."""
    return tf.keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal", seed=seed)


class BatchNormalization(tf.keras.layers.BatchNormalization):
    """Batch normalisation over the clips of all replicas, whose statistics move once a step.

    On one device it is Keras', in one kernel. On several replicas means and variances are those of the
    global batch, fillers left out, and so are the gradients: the layer computes what it would on one device.
    (Keras' own `synchronized` counts fillers, subtracts large squares from each other, and moves by the
    variance over N where its kernel for one device has N - 1.) Where each replica's clips go through in
    several parts, every part is normalised by itself; `average_moving_statistics` then follows.
    """

    def __init__(self, name: str, *, epsilon: float, frozen: bool):
        """Prepares the layer.

        Args:
          name: The layer's name.
          epsilon: Added to the variance.
          frozen: Whether none of the four variables changes in training, which then uses the moving statistics.
        """
        super().__init__(momentum=0.9, epsilon=epsilon, name=name)
        # To Keras this also means inference mode, whatever `training` says.
        self.trainable = not frozen

    def add_weight(self, *args: Any, **kwargs: Any) -> tf.Variable:
        """Makes a variable; the moving statistics are read from the first replica, for they are equal on all.

        Keras takes their mean, which several workers would all have to ask for at the same time.
        """
        if kwargs.get("synchronization") == tf.VariableSynchronization.ON_READ:
            kwargs["aggregation"] = tf.VariableAggregation.ONLY_FIRST_REPLICA
        return super().add_weight(*args, **kwargs)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Normalises [b, ..., C] by channel."""
        replica = tf.distribute.get_replica_context()
        part = global_batch.current()
        shared = replica is not None and replica.num_replicas_in_sync > 1 and (part is None or part.whole)
        if not (shared and training and self.trainable):
            return super().call(inputs, training=training)
        values = tf.cast(inputs, tf.float32)
        mean, variance, count = global_batch.moments(values)
        self.add_update(lambda: self._move(mean, variance * count / tf.maximum(count - 1, 1)))
        normalised = tf.nn.batch_normalization(values, mean, variance, self.beta, self.gamma, self.epsilon)
        return tf.cast(normalised, inputs.dtype)

    def add_update(self, updates: Any) -> None:
        """Updates the moving statistics, unless the backward pass computes the batch's once more."""
        if not _recomputation.in_progress:
            super().add_update(updates)

    def _move(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign_sub((1 - self.momentum) * (moving - value))


def average_moving_statistics(network: tf.Module, counted: tf.Tensor) -> None:
    """Gives all replicas the mean of their moving statistics; to be called in a replica context, outside of loops.

    Args:
      network: Whose batch normalisation to treat.
      counted: As in `global_batch.Part`: a replica with 0 takes the mean and has no part in it.
    """
    replica = tf.distribute.get_replica_context()
    norms = [layer for layer in network.submodules if isinstance(layer, BatchNormalization) and layer.trainable]
    moving = [variable for norm in norms for variable in (norm.moving_mean, norm.moving_variance)]
    total, *sums = replica.all_reduce(tf.distribute.ReduceOp.SUM, [counted, *(counted * each for each in moving)])
    for variable, value in zip(moving, sums, strict=True):
        variable.assign(value / total)


def recompute_grad(function: Callable[[tf.Tensor], tf.Tensor]) -> Callable[[tf.Tensor], tf.Tensor]:
    """`tf.recompute_grad` for one call of a function in which `BatchNormalization` occurs.

    Args:
      function: What to compute again in the backward pass, instead of keeping its intermediate values.

    Returns:
      The function with another gradient, to be called once.
    """
    recomputed = False

    def run(x):
        nonlocal recomputed
        _recomputation.in_progress, recomputed = recomputed, True
        try:
            return function(x)
        finally:
            _recomputation.in_progress = False

    return tf.recompute_grad(run)


class _Recomputation(threading.local):
    """Whether this thread is at it; each replica of a `MirroredStrategy` has a thread."""

    in_progress = False


_recomputation = _Recomputation()


class Dropout(tf.keras.layers.Layer):
    """Dropout whose randomness is a function of a seed and of a step that is saved in checkpoints.

    `tf.keras.layers.Dropout` keeps its state where no checkpoint sees it, so that a resumed run
    would draw other values than one that was never stopped.
    """

    def __init__(self, rate: float, seed: int, **kwargs):
        """Prepares the layer.

        Args:
          rate: The fraction set to zero, at least 0 and less than 1.
          seed: Decides what is drawn.
          **kwargs: As in `tf.keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype=tf.int64,
            initializer="zeros",
            trainable=False,
            # Each replica counts for itself, which it may also do inside a loop.
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Zeroes a fraction of the inputs [B, ...] and scales the rest up to keep the mean; in training only.

        Within `global_batch.entered`, what is drawn for a clip depends on its position in the global batch,
        however the batch is spread over replicas and parts, and is what one device draws for a whole batch.
        """
        if not training or self.rate == 0:
            return inputs
        part = global_batch.current()
        seed = [self.seed, self.step]
        if part is None:
            drawn = tf.nn.experimental.stateless_dropout(inputs, self.rate, seed=seed)
            self.step.assign_add(1)
            return drawn
        every = tf.ones(tf.concat([part.num_clips[tf.newaxis], tf.shape(inputs, tf.int64)[1:]], 0), inputs.dtype)
        factors = tf.nn.experimental.stateless_dropout(every, self.rate, seed=seed)
        drawn = inputs * tf.gather(factors, part.positions)
        self.step.assign_add(tf.cast(part.last, tf.int64))
        return drawn
