"""HR frames to LR frames: lens blur, area average, sensor noise (section 4.1).

The one implementation, used by the Beam job, by training and by prediction.
"""

import dataclasses
import functools
import math
import warnings

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Degradation:
    """How a low-resolution camera is imitated.

    Attributes:
      lr_size: (height, width) of the LR frame, pixels.
      lens_blur: Standard deviation of the Gaussian lens blur in LR pixels, so that one value
        means the same optics whatever the HR size; 0 leaves it out.
      noise: Standard deviation of the Gaussian sensor noise in grey levels (0-255); 0 leaves it out.
    """

    lr_size: tuple[int, int] = (12, 16)
    lens_blur: float = 0.25
    noise: float = 2.0


def _blur_and_average(frames: tf.Tensor, sigma: float, lr_height: int) -> tf.Tensor:
    """The lens blur and the area average along the height of float32 [1, H, W, C]."""
    if sigma > 0:
        with warnings.catch_warnings():
            # tensorflow-addons announces its end of life on import; this is its one use here.
            warnings.simplefilter("ignore")
            from tensorflow_addons import image as tfa_image

        # Three standard deviations either side hold 99.7% of the kernel; a reflection needs less than a frame.
        side = min(2 * max(1, math.ceil(3 * sigma)) + 1, 2 * int(frames.shape[1]) - 1)
        # Once a size: tracing a graph for it would only bring TensorFlow's warnings about retracing.
        blur = tfa_image.gaussian_filter2d.python_function
        frames = blur(frames, filter_shape=(side, 1), sigma=(sigma, 1.0), padding="REFLECT")
    return tf.image.resize(frames, (lr_height, frames.shape[2]), method=tf.image.ResizeMethod.AREA)


@functools.lru_cache(maxsize=32)
def _optics(hr_side: int, lr_side: int, lens_blur: float) -> np.ndarray:
    """The matrix, float32 [lr_side, hr_side], that blurs and averages along one axis.

    Both steps are linear and separable. Run once on the identity they give this matrix, and two
    small products do what a convolution of every HR pixel takes twenty times as long for.
    """
    with tf.init_scope():
        identity = tf.eye(hr_side)[tf.newaxis, :, :, tf.newaxis]
        return _blur_and_average(identity, lens_blur * hr_side / lr_side, lr_side)[0, :, :, 0].numpy()


def degrade(frames: tf.Tensor, degradation: Degradation, seed: tf.Tensor) -> tf.Tensor:
    """Makes the LR frames a far or privacy-preserving camera would have seen.

    Args:
      frames: [N, H, W, 3], uint8 or float in 0-255, of static H and W no smaller than the LR size.
      degradation: What to do.
      seed: Integer [2], from which every frame takes its own stretch of noise: the clip's hash for
        stored frames, a fresh one in training.

    Returns:
      uint8 [N, h, w, 3].

    Raises:
      ValueError: The frames are smaller than the LR size.
    """
    height, width = frames.shape[1:3]
    lr_height, lr_width = degradation.lr_size
    if height < lr_height or width < lr_width:
        raise ValueError(f"Frames of {height}x{width} cannot be degraded to the larger {lr_height}x{lr_width}.")
    rows = _optics(int(height), lr_height, degradation.lens_blur)
    columns = _optics(int(width), lr_width, degradation.lens_blur)
    frames = tf.reshape(tf.cast(frames, tf.float32), [-1, height, width * 3])
    frames = tf.reshape(tf.matmul(rows, frames), [-1, lr_height, width, 3])
    frames = tf.matmul(columns, frames)
    if degradation.noise > 0:
        # The algorithm is named because the default differs between devices.
        noise = tf.random.stateless_normal(tf.shape(frames), seed=seed, alg="philox")
        frames += degradation.noise * noise
    return tf.cast(tf.clip_by_value(tf.round(frames), 0, 255), tf.uint8)
