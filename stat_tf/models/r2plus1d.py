"""R(2+1)D-18 and -34 on clips, equal to torchvision's on torchvision's weights.

Every 3x3x3 convolution of a 3D ResNet is one over space, then one over time. Every layer with weights
bears torchvision's name for it (`layer1.0.conv1.0.0`), by which `torch_weights` finds it.
"""

import functools
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from stat_tf.models import layers, resnet

# The statistics of RGB in 0-1 that the Kinetics weights were trained with, as in torchvision.
MEAN = (0.43216, 0.394666, 0.37645)
DEVIATION = (0.22803, 0.22145, 0.216989)

# The first convolution.
STEM = "stem.0"

_STAGE_DEPTHS = {"r2plus1d_18": (2, 2, 2, 2), "r2plus1d_34": (3, 4, 6, 3)}
_STEM_MID_FILTERS = 45


def r2plus1d(
    arch: str,
    *,
    seeds: Iterator[int],
    width: float = 1.0,
    native: bool = False,
    frozen_batch_norm: bool = False,
    channels: int = 3,
    recompute_grad: bool = False,
) -> tf.keras.Model:
    """Builds the backbone.

    Args:
      arch: `r2plus1d_18` or `r2plus1d_34`.
      seeds: A fresh seed for each layer to be initialised.
      width: Factor on the channel counts; those between a convolution over space and the one over time
        follow by torchvision's rule.
      native: For frames of a few pixels: the stem has stride 1, so that the total stride in space is 8
        instead of 16. In time it is 8 either way.
      frozen_batch_norm: Whether every batch normalisation but the first is frozen (section 3.1.3).
      channels: Channels of a frame.
      recompute_grad: Whether the backward pass computes a residual block's activations again instead of
        keeping them; the outcome, the variables and the checkpoints are the same.

    Returns:
      A model from normalised frames [N, T, H, W, channels] to (the four stages' outputs [N, T', h, w, C],
      features [N, 512 * width]). T' is T in the first stage and half as much, rounded up, in each of the next.
    """
    convolution = functools.partial(_convolution, seeds=seeds)
    batch_norm = functools.partial(layers.BatchNormalization, epsilon=1e-5, frozen=frozen_batch_norm)
    filters = resnet.scaled_filters(width)
    stem_stride = 1 if native else 2

    frames = tf.keras.Input((None, None, None, channels))
    mid_filters = max(1, round(_STEM_MID_FILTERS * width))
    x = convolution(mid_filters, (1, 7, 7), (1, stem_stride, stem_stride), name=STEM)(frames)
    x = tf.keras.layers.ReLU()(batch_norm("stem.1", frozen=False)(x))
    x = convolution(filters, (3, 1, 1), (1, 1, 1), name="stem.3")(x)
    x = tf.keras.layers.ReLU()(batch_norm("stem.4")(x))

    stages = []
    for stage, depth in enumerate(_STAGE_DEPTHS[arch]):
        for block in range(depth):
            x = _BasicBlock(
                x.shape[-1],
                filters * 2**stage,
                2 if stage > 0 and block == 0 else 1,
                convolution=convolution,
                batch_norm=batch_norm,
                recompute_grad=recompute_grad,
                name=f"layer{stage + 1}.{block}",
            )(x)
        stages.append(x)
    features = tf.keras.layers.GlobalAveragePooling3D()(x)
    return tf.keras.Model(frames, (tuple(stages), features), name=arch)


class _Convolution(tf.keras.layers.Conv3D):
    """A convolution over space or over time alone, padded by half its kernel on both sides, as in torch.

    Computed as a 2D convolution, as fast: oneDNN's gradient of a bfloat16 3D convolution is wrong where a
    kernel of 3 runs over 2 frames.
    """

    def convolution_op(self, inputs: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        step, *strides = self.strides
        if self.kernel_size[0] > 1:
            _, frames, height, width, channels = _shape(inputs)
            rows = tf.reshape(inputs, [-1, frames, height * width, channels])
            rows = _convolve(rows, kernel[:, 0], (step, 1))
            return tf.reshape(rows, [-1, _shape(rows)[1], height, width, self.filters])
        inputs = inputs[:, ::step]
        _, frames, height, width, channels = _shape(inputs)
        images = _convolve(tf.reshape(inputs, [-1, height, width, channels]), kernel[0], strides)
        return tf.reshape(images, [-1, frames, *_shape(images)[1:]])


def _convolve(images: tf.Tensor, kernel: tf.Tensor, strides: Sequence[int]) -> tf.Tensor:
    if max(strides) == 1:
        return tf.nn.conv2d(images, kernel, strides, "SAME")
    # "SAME" would pad more at the end than at the beginning. As an argument of the convolution, padding makes
    # its gradients some 50 times slower in bfloat16 on CPUs.
    margins = [(size // 2, size // 2) for size in kernel.shape[:2]]
    return tf.nn.conv2d(tf.pad(images, [(0, 0), *margins, (0, 0)]), kernel, strides, "VALID")


def _shape(x: tf.Tensor) -> list[int | tf.Tensor]:
    """The sides, as numbers where they are known."""
    sides = tf.unstack(tf.shape(x))
    return [dynamic if static is None else static for static, dynamic in zip(x.shape, sides, strict=True)]


def _convolution(
    filters: int, kernel_size: tuple[int, int, int], strides: tuple[int, int, int], *, seeds: Iterator[int], name: str
) -> tf.keras.layers.Layer:
    return _Convolution(
        filters,
        kernel_size,
        strides,
        padding="same",
        use_bias=False,
        kernel_initializer=layers.he_normal(next(seeds)),
        name=name,
    )


class _BasicBlock(tf.keras.layers.Layer):
    """Two (2+1)D convolutions and a shortcut, which is a convolution of one cell where the shape changes."""

    def __init__(
        self,
        input_filters: int,
        filters: int,
        stride: int,
        *,
        convolution: Callable,
        batch_norm: Callable,
        recompute_grad: bool,
        name: str,
    ):
        super().__init__(name=name)
        self._recompute_grad = recompute_grad
        # As many weights as a 3x3x3 convolution has; torchvision takes the block's, not the convolution's inputs.
        mid_filters = (input_filters * filters * 27) // (input_filters * 9 + 3 * filters)
        self._residual = []
        for number, step in ((1, stride), (2, 1)):
            self._residual += [
                convolution(mid_filters, (1, 3, 3), (1, step, step), name=f"{name}.conv{number}.0.0"),
                batch_norm(f"{name}.conv{number}.0.1"),
                tf.keras.layers.ReLU(),
                convolution(filters, (3, 1, 1), (step, 1, 1), name=f"{name}.conv{number}.0.3"),
                batch_norm(f"{name}.conv{number}.1"),
                *([tf.keras.layers.ReLU()] if number == 1 else []),
            ]
        self._shortcut = []
        if stride > 1 or input_filters != filters:
            self._shortcut = [
                convolution(filters, (1, 1, 1), (stride, stride, stride), name=f"{name}.downsample.0"),
                batch_norm(f"{name}.downsample.1"),
            ]

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        def block(x):
            return tf.nn.relu(_apply(self._residual, x, training) + _apply(self._shortcut, x, training))

        if training and self._recompute_grad:
            block = layers.recompute_grad(block)
        return block(x)


def _apply(sequence: Sequence[tf.keras.layers.Layer], x: tf.Tensor, training: bool) -> tf.Tensor:
    for layer in sequence:
        # Explicitly: Keras does not know of `training` when the backward pass calls this.
        x = layer(x, training=training) if isinstance(layer, layers.BatchNormalization) else layer(x)
    return x
