"""HR frames to LR frames: lens blur, area average, sensor noise (section 4.1).

The one implementation, used by the Beam job, by training and by prediction.
"""

import dataclasses
import math
import warnings

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


def center_crop_box(size: tuple[int, int], aspect: float) -> tuple[int, int, int, int]:
    """The largest centred box of a given aspect ratio.

    Args:
      size: (height, width) of the frame, pixels.
      aspect: Width over height of the box, 4/3 in the paper.

    Returns:
      (top, left, height, width), pixels.
    """
    height, width = size
    if width > height * aspect:
        crop_height, crop_width = height, max(1, round(height * aspect))
    else:
        crop_height, crop_width = max(1, round(width / aspect)), width
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def _lens_blur(frames: tf.Tensor, sigma: tuple[float, float]) -> tf.Tensor:
    with warnings.catch_warnings():
        # tensorflow-addons announces its end of life on import; this is its one use here.
        warnings.simplefilter("ignore")
        from tensorflow_addons import image as tfa_image

    # Three standard deviations either side hold 99.7% of the kernel.
    sides = [2 * max(1, math.ceil(3 * s)) + 1 for s in sigma]
    limits = [2 * int(side) - 1 for side in frames.shape[1:3]]  # reflection needs less than a frame
    filter_shape = tuple(min(side, limit) for side, limit in zip(sides, limits, strict=True))
    return tfa_image.gaussian_filter2d(frames, filter_shape=filter_shape, sigma=sigma, padding="REFLECT")


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
    frames = tf.cast(frames, tf.float32)
    if degradation.lens_blur > 0:
        sigma = (degradation.lens_blur * height / lr_height, degradation.lens_blur * width / lr_width)
        frames = _lens_blur(frames, sigma)
    frames = tf.image.resize(frames, degradation.lr_size, method=tf.image.ResizeMethod.AREA)
    if degradation.noise > 0:
        # The algorithm is named because the default differs between devices.
        noise = tf.random.stateless_normal(tf.shape(frames), seed=seed, alg="philox")
        frames += degradation.noise * noise
    return tf.cast(tf.clip_by_value(tf.round(frames), 0, 255), tf.uint8)
