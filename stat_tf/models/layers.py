"""Layers the backbones and the recognizer share."""

import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf


def he_normal(seed: int) -> tf.keras.initializers.Initializer:
    """What torchvision initializes convolutions with: normal, of variance 2 over the fan-out."""
    return tf.keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal", seed=seed)


class BatchNormalization(tf.keras.layers.BatchNormalization):
    """Batch normalisation whose statistics move once a step, under `recompute_grad` too."""

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

    def add_update(self, updates: Any) -> None:
        """Updates the moving statistics, unless the backward pass computes the batch's once more."""
        if not _recomputation.in_progress:
            super().add_update(updates)


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
        """Zeroes a fraction of the inputs and scales the rest up to keep the mean; in training only."""
        if not training or self.rate == 0:
            return inputs
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        drawn = tf.nn.experimental.stateless_dropout(
            inputs, self.rate, seed=[self.seed + tf.cast(replica, tf.int64), self.step]
        )
        self.step.assign_add(1)
        return drawn
