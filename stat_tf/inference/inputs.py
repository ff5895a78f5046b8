"""From what a user has (a video, frames in a .npy file, a folder of images) to the clip a model takes."""

import os
import re

import numpy as np
import tensorflow as tf

from stat_tf import errors
from stat_tf.data import degrade, sampling, video
from stat_tf.inference import serving

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp")

# Noise is part of the imitated camera: the student has seen no frame without it. One seed for all
# videos makes an answer depend on the video's pixels alone.
_NOISE_SEED = (0, 0)


def clip_from_video(path: str, model: serving.ServedModel) -> tf.Tensor:
    """Decodes a video of any size and makes the frames that the model's camera would have given.

    The steps are those of the dataset build and evaluation: centre crop, the middle of each of K segments,
    HR size; then lens blur, area average and noise for an LR model (section 4.1), resizing for a teacher.

    Args:
      path: The video file.
      model: The export; its card has the camera.

    Returns:
      uint8 [K, T, h, w, 3].

    Raises:
      UserError: The video cannot be read; the message names it.
    """
    num_segments, num_frames, height, width, _ = model.clip_shape
    card = model.card
    frames = video.read_clip(
        path,
        num_segments=num_segments,
        num_snippets=1,
        num_frames=num_frames,
        frame_stride=card.frame_stride,
        size=card.hr_size,
    ).frames
    if card.view == "lr":
        camera = degrade.Degradation(lr_size=(height, width), lens_blur=card.lens_blur, noise=card.noise)
        frames = degrade.degrade(tf.constant(frames), camera, tf.constant(_NOISE_SEED))
    elif frames.shape[1:3] != (height, width):
        frames = tf.image.resize(frames, (height, width), antialias=True)
        frames = tf.cast(tf.clip_by_value(tf.round(frames), 0, 255), tf.uint8)
    return tf.reshape(frames, model.clip_shape)


def clip_from_frames(path: str, model: serving.ServedModel) -> tf.Tensor:
    """Reads frames that already have the sensor's size.

    Args:
      path: A `.npy` file, uint8 [K, T, h, w, 3] (taken as it is) or [N, h, w, 3], or a directory of
        N images in the order of their names (frame 2 before frame 10). N frames are sampled as a
        video's are.
      model: The export.

    Returns:
      uint8 [K, T, h, w, 3].

    Raises:
      UserError: The frames cannot be read, or are not of the model's size or type.
    """
    num_segments, num_frames, *frame_shape = model.clip_shape
    frames = _read_images(path) if os.path.isdir(path) else _read_npy(path)
    if frames.dtype != np.uint8:
        raise errors.UserError(f"{path} holds {frames.dtype} values: give uint8 frames, 0 to 255.")
    if frames.shape == model.clip_shape:
        return tf.constant(frames)
    if frames.ndim != 4 or list(frames.shape[1:]) != frame_shape or not len(frames):
        raise errors.UserError(
            f"{path} has shape {_shape(frames.shape)}, the model takes {_shape(model.clip_shape)} or "
            f"{_shape(['N', *frame_shape])}: give frames of that size, or a video through --videos."
        )
    indices = sampling.sample_frames(range(len(frames)), num_segments, 1, num_frames, model.card.frame_stride)
    return tf.reshape(tf.constant(frames[indices]), model.clip_shape)


def _shape(sides) -> str:
    return "[" + ",".join(map(str, sides)) + "]"


def _read_npy(path: str) -> np.ndarray:
    try:
        # Mapped, so that of a long recording only the frames looked at are read.
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise errors.UserError(f"There is no file or directory {path}.") from None
    except (OSError, ValueError, EOFError) as error:
        raise errors.UserError(
            f"{path} is not a .npy array of numbers: give a .npy file or a folder of images."
        ) from error
    if not isinstance(frames, np.ndarray):
        raise errors.UserError(f"{path} holds several arrays: give a .npy file with one.")
    return frames


def _natural_order(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _read_images(directory: str) -> np.ndarray:
    names = [name for name in os.listdir(directory) if name.lower().endswith(IMAGE_EXTENSIONS)]
    if not names:
        raise errors.UserError(f"{directory} has no images ({', '.join(IMAGE_EXTENSIONS)}).")
    images = []
    for name in sorted(names, key=_natural_order):
        path = os.path.join(directory, name)
        try:
            image = tf.io.decode_image(tf.io.read_file(path), channels=3, expand_animations=False).numpy()
        except tf.errors.OpError as error:
            raise errors.UserError(f"{path} is not an image that can be read: mend or remove it.") from error
        if images and image.shape != images[0].shape:
            raise errors.UserError(
                f"{path} is {image.shape[0]}x{image.shape[1]}, the images before it "
                f"{images[0].shape[0]}x{images[0].shape[1]}: give frames of one size."
            )
        images.append(image)
    return np.stack(images)
