"""Layers the backbones and the recognizer share."""

import tensorflow as tf


def he_normal(seed: int) -> tf.keras.initializers.Initializer:
    """What torchvision initializes convolutions with: normal, of variance 2 over the fan-out."""
    return tf.keras.initializers.VarianceScaling(2.0, mode="fan_out", distribution="untruncated_normal", seed=seed)


def batch_norm(x: tf.Tensor, name: str, *, epsilon: float, frozen: bool) -> tf.Tensor:
    """Applies a new batch normalisation; none of a frozen one's four variables changes in training."""
    layer = tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=epsilon, name=name)
    # To Keras this also means inference mode, whatever `training` says.
    layer.trainable = not frozen
    return layer(x)


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
