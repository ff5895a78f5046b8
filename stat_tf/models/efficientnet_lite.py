"""EfficientNet-Lite0 on single frames: ReLU6 throughout and no squeeze-and-excitation, for small devices.

Every layer with weights bears the name it has in PyPI's `efficientnet-lite-pytorch`, less the
leading underscores (`blocks.0.depthwise_conv`), by which `torch_weights` finds it.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import tensorflow as tf

from stat_tf.models import layers

# The statistics of RGB in 0-1 that the ImageNet weights were trained with.
MEAN = (0.498, 0.498, 0.498)
DEVIATION = (0.502, 0.502, 0.502)

# The first convolution.
STEM = "conv_stem"

_STEM_FILTERS, _HEAD_FILTERS = 32, 1280


@dataclasses.dataclass(frozen=True)
class _BlockGroup:
    repeats: int
    kernel_size: int
    stride: int
    expansion: int
    filters: int


_GROUPS = (
    _BlockGroup(1, 3, 1, 1, 16),
    _BlockGroup(2, 3, 2, 6, 24),
    _BlockGroup(2, 5, 2, 6, 40),
    _BlockGroup(3, 3, 2, 6, 80),
    _BlockGroup(3, 5, 1, 6, 112),
    _BlockGroup(4, 5, 2, 6, 192),
    _BlockGroup(1, 3, 1, 6, 320),
)


def efficientnet_lite0(
    *, seeds: Iterator[int], native: bool = False, frozen_batch_norm: bool = False, channels: int = 3
) -> tf.keras.Model:
    """Builds the backbone.

    Args:
      seeds: A fresh seed for each layer to be initialised.
      native: For frames of a few pixels: the stem has stride 1, so that the total stride is 16
        instead of 32.
      frozen_batch_norm: Whether every batch normalisation but the stem's is frozen (section 3.1.3).
      channels: Channels of a frame.

    Returns:
      A model from normalised frames [N, H, W, channels] to (the outputs [N, h, w, C] of four stages, C
      being 24, 40, 112 and 320, features [N, 1280]). A stage ends before the next stride.
    """
    makers = _layers(seeds, frozen_batch_norm)
    convolution, _, batch_norm = makers

    frames = tf.keras.Input((None, None, channels))
    x = convolution(frames, _STEM_FILTERS, 3, 1 if native else 2, STEM)
    x = tf.keras.layers.ReLU(6.0)(batch_norm("bn0", frozen=False)(x))

    stages = []
    block = 0
    for index, group in enumerate(_GROUPS):
        # The first strided group belongs to stage 1, as a ResNet's max-pooling does.
        if group.stride > 1 and index > 1:
            stages.append(x)
        for repeat in range(group.repeats):
            stride = group.stride if repeat == 0 else 1
            x = _inverted_residual(x, group, stride, f"blocks.{block}", makers)
            block += 1
    stages.append(x)

    x = convolution(x, _HEAD_FILTERS, 1, 1, "conv_head")
    x = tf.keras.layers.ReLU(6.0)(batch_norm("bn1")(x))
    features = tf.keras.layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(frames, (tuple(stages), features), name="efficientnet_lite0")


def _layers(seeds: Iterator[int], frozen_batch_norm: bool) -> tuple[Callable, Callable, Callable]:
    """The layers with weights; (convolution, depthwise_convolution, batch_norm)."""

    def convolution(x, filters, kernel_size, stride, name):
        return tf.keras.layers.Conv2D(
            filters,
            kernel_size,
            stride,
            padding="same",
            use_bias=False,
            kernel_initializer=layers.he_normal(next(seeds)),
            name=name,
        )(x)

    def depthwise_convolution(x, kernel_size, stride, name):
        # In float32 under any policy: TensorFlow's bfloat16 gradients are up to 18 times slower on CPUs,
        # the training step 3 times.
        return tf.keras.layers.DepthwiseConv2D(
            kernel_size,
            stride,
            padding="same",
            use_bias=False,
            dtype="float32",
            depthwise_initializer=layers.he_normal(next(seeds)),
            name=name,
        )(x)

    # The statistics' momentum is not the reference's 0.99, which is for long runs: ours have some hundred steps.
    batch_norm = functools.partial(layers.BatchNormalization, epsilon=1e-3, frozen=frozen_batch_norm)
    return convolution, depthwise_convolution, batch_norm


def _inverted_residual(
    x: tf.Tensor, group: _BlockGroup, stride: int, name: str, makers: tuple[Callable, ...]
) -> tf.Tensor:
    """Expand by a 1x1 convolution, convolve by channel, project by another; a shortcut where shapes agree."""
    convolution, depthwise_convolution, batch_norm = makers
    block_input = x
    if group.expansion > 1:
        x = convolution(x, x.shape[-1] * group.expansion, 1, 1, f"{name}.expand_conv")
        x = tf.keras.layers.ReLU(6.0)(batch_norm(f"{name}.bn0")(x))
    x = depthwise_convolution(x, group.kernel_size, stride, f"{name}.depthwise_conv")
    x = tf.keras.layers.ReLU(6.0)(batch_norm(f"{name}.bn1")(x))
    x = convolution(x, group.filters, 1, 1, f"{name}.project_conv")
    x = batch_norm(f"{name}.bn2")(x)
    if stride > 1 or block_input.shape[-1] != group.filters:
        return x
    return tf.keras.layers.Add()([x, block_input])
