"""The training augmentation of section 4.2: cropping, scale jitter, location jitter, flip.

One draw serves all frames of a clip, so that motion stays motion. LR frames are degraded from the
augmented HR frames, so that teacher and student look at the same place. LR flow, which cannot be
made in training, is cropped and mirrored on its own grid as the HR flow is.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from stat_tf.data import flow


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What may happen to a training clip.

    Attributes:
      crop_size: (height, width) of the HR frames after augmentation, pixels.
      scales: Scale jitter: the crop's height and width are each one of these fractions of the
        frame's, next to each other in this list, as in temporal segment networks.
      flip: Whether half of the clips are mirrored.
      color_jitter: Brightness, contrast and saturation change by up to this fraction; 0 to 1.
    """

    crop_size: tuple[int, int]
    scales: tuple[float, ...] = (1.0, 0.875, 0.75)
    flip: bool = True
    color_jitter: float = 0.0


def random_crop(size: tuple[int, int], augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Draws the part of the frame to keep: scale and location jitter.

    Args:
      size: (height, width) of the frame, pixels.
      augmentation: What may happen.
      seed: Integer [2].

    Returns:
      int32 [4], (top, left, height, width), pixels.
    """
    scale_seed, aspect_seed, place_seed = tf.unstack(tf.random.split(seed, 3))
    last = len(augmentation.scales) - 1
    row = tf.random.stateless_uniform([], scale_seed, 0, last + 1, tf.int32)
    # Height and width at most one entry apart: a mild distortion, never a squeeze.
    column = row + tf.random.stateless_uniform([], aspect_seed, -1, 2, tf.int32)
    fractions = tf.gather(tf.constant(augmentation.scales, tf.float32), [row, tf.clip_by_value(column, 0, last)])
    box = tf.maximum(1, tf.cast(tf.round(fractions * tf.constant(size, tf.float32)), tf.int32))
    room = tf.cast(tf.constant(size) - box + 1, tf.float32)
    start = tf.cast(tf.random.stateless_uniform([2], place_seed) * room, tf.int32)
    return tf.concat([start, box], 0)


def jitter_color(frames: tf.Tensor, strength: float, seed: tf.Tensor) -> tf.Tensor:
    """Changes saturation, contrast and brightness, alike for all frames.

    Args:
      frames: float32 [N, H, W, 3] in 0-255.
      strength: Largest relative change, 0 to 1.
      seed: Integer [2].

    Returns:
      float32 [N, H, W, 3]; may leave 0-255, see `augment`.
    """
    factors = tf.random.stateless_uniform([3], seed, 1.0 - strength, 1.0 + strength)
    saturation, contrast, brightness = tf.unstack(factors)
    gray = tf.image.rgb_to_grayscale(frames)
    mean = tf.reduce_mean(gray)
    frames = gray + saturation * (frames - gray)
    return brightness * (mean + contrast * (frames - mean))


def augment(frames: tf.Tensor, augmentation: Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Crops, scales, moves, mirrors and recolours a clip, all frames alike.

    Args:
      frames: uint8 [N, H, W, 3].
      augmentation: What may happen.
      seed: Integer [2]; the same seed gives the same clip.

    Returns:
      uint8 [N, crop height, crop width, 3].
    """
    crop_seed, flip_seed, color_seed = tf.unstack(tf.random.split(seed, 3))
    size = tuple(frames.shape[1:3])
    top, left, height, width = tf.unstack(random_crop(size, augmentation, crop_seed))
    frames = frames[:, top : top + height, left : left + width]
    if augmentation.flip:
        frames = tf.cond(_heads(flip_seed), lambda: tf.reverse(frames, [2]), lambda: frames)
    largest = max(augmentation.scales) * np.array(size)
    # As in evaluation: without it, a shrunken crop would be sharper than what evaluation sees.
    frames = tf.image.resize(frames, augmentation.crop_size, antialias=bool((largest > augmentation.crop_size).any()))
    if augmentation.color_jitter > 0:
        frames = jitter_color(frames, augmentation.color_jitter, color_seed)
    return _to_uint8(frames)


def augment_flow(
    fields: tf.Tensor, hr_size: tuple[int, int], size: tuple[int, int], augmentation: Augmentation, seed: tf.Tensor
) -> tf.Tensor:
    """Crops, scales, moves and mirrors a clip's optical flow as `augment` does frames with the same seed.

    A mirrored field's x is negated. As is usual with scale jitter, motion is not rescaled with the frame.

    Args:
      fields: uint8 [N, h, w, 2], quantised flow of HR or LR frames.
      hr_size: (height, width) of the HR frames, on which the crop is drawn; of an LR field it may cut pixels.
      size: (height, width) wanted, pixels.
      augmentation: What may happen.
      seed: Integer [2]; the same for the HR and the LR field, so that both look at the same place.

    Returns:
      uint8 [N, *size, 2].
    """
    crop_seed, flip_seed, _ = tf.unstack(tf.random.split(seed, 3))
    box = tf.cast(random_crop(hr_size, augmentation, crop_seed), tf.float32)
    grid = fields.shape[1:3]
    scale = tf.constant([side / hr_side for side, hr_side in zip(grid, hr_size, strict=True)])
    start, length = box[:2] * scale, box[2:] * scale
    rows, columns = (_resampling(start[axis], length[axis], grid[axis], size[axis]) for axis in (0, 1))
    cropped = _to_uint8(tf.einsum("oh,nhwc,pw->nopc", rows, tf.cast(fields, tf.float32), columns))
    if augmentation.flip:
        cropped = tf.cond(_heads(flip_seed), lambda: flow.mirror(cropped), lambda: cropped)
    return cropped


def _heads(seed: tf.Tensor) -> tf.Tensor:
    return tf.random.stateless_uniform([], seed) < 0.5


def _resampling(start: tf.Tensor, length: tf.Tensor, source: int, target: int) -> tf.Tensor:
    """The matrix, float32 [target, source], that resizes a stretch of one axis: bilinear, antialiased where it shrinks.

    The weights are those of `tf.image.resize`, which starts at whole pixels only.
    """
    step = length / target
    centers = start + (tf.range(target, dtype=tf.float32) + 0.5) * step - 0.5
    distances = tf.abs(tf.clip_by_value(centers, 0.0, source - 1.0)[:, tf.newaxis] - tf.range(source, dtype=tf.float32))
    weights = tf.nn.relu(1.0 - distances / tf.maximum(step, 1.0))
    return weights / tf.reduce_sum(weights, axis=1, keepdims=True)


def _to_uint8(values: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(values), 0, 255), tf.uint8)
