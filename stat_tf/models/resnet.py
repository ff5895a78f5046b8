"""ResNet-18 and -34 on single frames, equal to torchvision's on torchvision's weights.

Every layer with weights bears torchvision's name for it (`layer1.0.conv1`), by which
`torch_weights` finds it.
"""

import functools
from collections.abc import Callable, Iterator

import tensorflow as tf

from stat_tf.models import layers

# ImageNet's statistics, of RGB in 0-1, as in torchvision.
MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)

# The first convolution.
STEM = "conv1"

_STAGE_DEPTHS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
_STEM_FILTERS = 64


def resnet(
    arch: str,
    *,
    seeds: Iterator[int],
    width: float = 1.0,
    native: bool = False,
    frozen_batch_norm: bool = False,
    channels: int = 3,
) -> tf.keras.Model:
    """Builds the backbone.

    Args:
      arch: `resnet18` or `resnet34`.
      seeds: A fresh seed for each layer to be initialised.
      width: Factor on every channel count.
      native: For frames of a few pixels: the stem has stride 1 and no max-pooling follows, so that
        the total stride is 8 instead of 32.
      frozen_batch_norm: Whether every batch normalisation but the stem's is frozen (section 3.1.3).
      channels: Channels of a frame.

    Returns:
      A model from normalised frames [N, H, W, channels] to (the four stages' outputs [N, h, w, C],
      features [N, 512 * width]).
    """
    convolution, batch_norm = _layers(seeds, frozen_batch_norm)
    filters = scaled_filters(width)

    frames = tf.keras.Input((None, None, channels))
    x = convolution(frames, filters, 7, 1 if native else 2, STEM)
    x = tf.keras.layers.ReLU()(batch_norm("bn1", frozen=False)(x))
    if not native:
        # The input is at least 0 after the ReLU: padding with zeros is as good as torch's -inf.
        x = tf.keras.layers.MaxPooling2D(3, 2)(tf.keras.layers.ZeroPadding2D(1)(x))

    stages = []
    for stage, depth in enumerate(_STAGE_DEPTHS[arch]):
        for block in range(depth):
            stride = 2 if stage > 0 and block == 0 else 1
            x = _basic_block(x, filters * 2**stage, stride, f"layer{stage + 1}.{block}", convolution, batch_norm)
        stages.append(x)
    features = tf.keras.layers.GlobalAveragePooling2D()(x)
    return tf.keras.Model(frames, (tuple(stages), features), name=arch)


def scaled_filters(width: float) -> int:
    """Channels of the stem and the first stage: torchvision's 64 times the width, rounded."""
    return round(_STEM_FILTERS * width)


def _layers(seeds: Iterator[int], frozen_batch_norm: bool) -> tuple[Callable, Callable]:
    """The two layers with weights, with torchvision's settings; (convolution, batch_norm)."""

    def convolution(x, filters, kernel_size, stride, name):
        if stride > 1 and kernel_size > 1:
            # torch pads both sides alike; "same" would pad more at the end than at the beginning.
            x = tf.keras.layers.ZeroPadding2D(kernel_size // 2)(x)
        return tf.keras.layers.Conv2D(
            filters,
            kernel_size,
            stride,
            padding="same" if stride == 1 else "valid",
            use_bias=False,
            kernel_initializer=layers.he_normal(next(seeds)),
            name=name,
        )(x)

    return convolution, functools.partial(layers.BatchNormalization, epsilon=1e-5, frozen=frozen_batch_norm)


def _basic_block(
    x: tf.Tensor, filters: int, stride: int, name: str, convolution: Callable, batch_norm: Callable
) -> tf.Tensor:
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution where the shape changes."""
    shortcut = x
    if stride > 1 or x.shape[-1] != filters:
        shortcut = convolution(x, filters, 1, stride, f"{name}.downsample.0")
        shortcut = batch_norm(f"{name}.downsample.1")(shortcut)
    x = convolution(x, filters, 3, stride, f"{name}.conv1")
    x = tf.keras.layers.ReLU()(batch_norm(f"{name}.bn1")(x))
    x = convolution(x, filters, 3, 1, f"{name}.conv2")
    x = batch_norm(f"{name}.bn2")(x)
    return tf.keras.layers.ReLU()(tf.keras.layers.Add()([x, shortcut]))
