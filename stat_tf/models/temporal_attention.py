"""The temporal attention module (section 3.1.2, figure 3)."""

from collections.abc import Iterator

import tensorflow as tf

HIDDEN_UNITS = 64


class TemporalAttention(tf.keras.layers.Layer):
    """Judges how much each segment of a clip matters: two fully-connected layers and a softmax."""

    def __init__(self, num_segments: int, seeds: Iterator[int], **kwargs):
        """Prepares the layer, always in float32.

        Args:
          num_segments: K.
          seeds: A fresh seed for each layer to be initialised.
          **kwargs: As in `tf.keras.layers.Layer`.
        """
        super().__init__(dtype="float32", **kwargs)
        self.hidden = tf.keras.layers.Dense(
            HIDDEN_UNITS,
            activation="relu",
            kernel_initializer=tf.keras.initializers.GlorotUniform(seed=next(seeds)),
            dtype="float32",
        )
        # Small weights: every segment counts about alike until training says otherwise.
        self.output_layer = tf.keras.layers.Dense(
            num_segments,
            kernel_initializer=tf.keras.initializers.RandomNormal(stddev=0.01, seed=next(seeds)),
            dtype="float32",
        )

    def call(self, features: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Reads a clip's features side by side.

        Args:
          features: [B, K, C].

        Returns:
          (hidden output after its ReLU [B, 64], output before the softmax [B, K], attention [B, K],
          which sums to 1), float32.
        """
        num_segments, channels = features.shape[1:]
        hidden = self.hidden(tf.reshape(features, [-1, num_segments * channels]))
        logits = self.output_layer(hidden)
        return hidden, logits, tf.nn.softmax(logits)
