"""From what a user has (a video, frames in a .npy file, a folder of images) to the clips a model takes."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from stat_tf import errors, files
from stat_tf.data import decoding, degrade, flow, sampling, video
from stat_tf.inference import evaluation, model_card

IMAGE_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp")

# Noise is part of the imitated camera: the student has seen no frame without it. One seed for all
# videos makes an answer depend on the video's pixels alone.
_NOISE_SEED = (0, 0)


class _Sequence(NamedTuple):
    """Successive pictures of one camera, and which of them a clip consists of.

    Attributes:
      pictures: uint8 [H, W, 3] by position in the sequence: the chosen ones, and those that their motion leads to.
      indices: Positions of the chosen ones, ordered segment, snippet, time.
      count: Pictures in the sequence, whether read or not.
    """

    pictures: Mapping[int, np.ndarray]
    indices: Sequence[int]
    count: int


def clips_from_video(path: str, card: model_card.ModelCard, num_snippets: int = 1) -> dict[str, tf.Tensor]:
    """Decodes a video of any size and makes the clips that the model's camera would have given.

    The steps are those of the dataset build and evaluation: centre crop, S snippets of each of K segments,
    HR size; then lens blur, area average and noise for an LR model (section 4.1), resizing for a teacher.
    Optical flow is estimated on HR frames for a teacher; for an LR model on the LR frames, of which a
    frame of the video has one, noise included.

    Args:
      path: The video file.
      card: The export's, which has the camera.
      num_snippets: S, snippets a segment, evenly spread; 1 is the centre one.

    Returns:
      For each of the card's streams, uint8 [S, *card.clip_shape(stream)].

    Raises:
      UserError: The video cannot be read; the message names it.
    """
    clip = _read_video(path, card, num_snippets)
    pictures = clip.pictures
    if card.view == "lr":
        camera = degrade.Degradation(lr_size=card.frame_size, lens_blur=card.lens_blur, noise=card.noise)
        frames = degrade.degrade(tf.constant(np.stack([*pictures.values()])), camera, tf.constant(_NOISE_SEED))
        pictures = dict(zip(pictures, frames.numpy(), strict=True))
    indices = _spread(clip.indices, num_snippets, card)
    return _clips([_Sequence(pictures, indices, clip.count)], num_snippets, card)


def _read_video(path: str, card: model_card.ModelCard, num_snippets: int) -> video.VideoClip:
    try:
        with files.local_copy(path) as local, open(local, "rb") as file:
            return video.read_clip(
                path,
                num_segments=card.num_segments,
                num_snippets=_num_read(num_snippets),
                num_frames=card.num_frames,
                frame_stride=card.frame_stride,
                size=card.hr_size,
                with_motion="flow" in card.networks,
                file=file,
            )
    except OSError as error:
        raise video.VideoError(path, decoding.reason(error)) from error


def clips_from_frames(path: str, card: model_card.ModelCard, num_snippets: int = 1) -> dict[str, tf.Tensor]:
    """Reads frames that already have the sensor's size, and estimates their optical flow if the model takes it.

    Args:
      path: A `.npy` file, uint8 [K, T, h, w, 3] (taken as it is: one snippet a segment) or [N, h, w, 3],
        or a directory of N images in the order of their names (frame 2 before frame 10). N frames are
        sampled as a video's are.
      card: The export's.
      num_snippets: S, snippets a segment of N frames.

    Returns:
      As `clips_from_video`.

    Raises:
      UserError: The frames cannot be read, are not of the model's size or type, or hold no motion.
    """
    num_segments, num_frames, *frame_shape = clip_shape = card.clip_shape("rgb")
    frames = _read_images(path) if files.is_dir(path) else _read_npy(path)
    if frames.dtype != np.uint8:
        raise errors.UserError(f"{path} holds {frames.dtype} values: give uint8 frames, 0 to 255.")
    if frames.shape == clip_shape:
        if "flow" in card.networks and (num_frames == 1 or card.frame_stride > 1):
            raise errors.UserError(
                f"{path} has no two successive frames, and the model reads the motion from a frame to the next: "
                f"give {_shape(['N', *frame_shape])} frames, or a video through --videos."
            )
        # What happens between two segments is not known: each is a sequence of its own.
        segments = [_Sequence(dict(enumerate(segment)), range(num_frames), num_frames) for segment in frames]
        return _clips(segments, 1, card)
    if frames.ndim != 4 or list(frames.shape[1:]) != frame_shape or not len(frames):
        raise errors.UserError(
            f"{path} has shape {_shape(frames.shape)}, the model takes {_shape(clip_shape)} or "
            f"{_shape(['N', *frame_shape])}: give frames of that size, or a video through --videos."
        )
    count, num_read = len(frames), _num_read(num_snippets)
    indices = sampling.sample_frames(range(count), num_segments, num_read, num_frames, card.frame_stride)
    indices = _spread(indices, num_snippets, card)
    pictures = {index: frames[index] for index in (*indices, *sampling.beyond(indices, count))}
    return _clips([_Sequence(pictures, indices, count)], num_snippets, card)


def _num_read(num_snippets: int) -> int:
    """How many snippets a segment to choose from: sampling centres an odd number of them only."""
    return num_snippets + 1 - num_snippets % 2


def _spread(indices: Sequence[int], num_snippets: int, card: model_card.ModelCard) -> list[int]:
    """Of the frames of `_num_read` snippets a segment, those of the evenly spread ones, as in evaluation."""
    snippets = np.reshape(indices, [card.num_segments, -1, card.num_frames])
    return snippets[:, evaluation.spread_snippets(num_snippets, snippets.shape[1])].ravel().tolist()


def _clips(sequences: Sequence[_Sequence], num_snippets: int, card: model_card.ModelCard) -> dict[str, tf.Tensor]:
    """K*S*T pictures in all to what each of the card's streams takes, uint8 [S, K, T, h, w, C]."""
    made = {}
    if "rgb" in card.networks:
        made["rgb"] = np.stack([pictures[index] for pictures, indices, _ in sequences for index in indices])
    if "flow" in card.networks:
        estimator = flow.FlowEstimator(card.flow_method)
        fields = np.concatenate([flow.snippet_flow(estimator, *sequence) for sequence in sequences])
        made["flow"] = flow.quantize(fields, flow.bounds(card.flow_bound, card.hr_size, fields.shape[1:3]))
    clips = {}
    for stream, frames in made.items():
        if frames.shape[1:3] != card.frame_size:
            resized = tf.image.resize(frames, card.frame_size, antialias=True)
            frames = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
        num_segments, *clip_shape = card.clip_shape(stream)
        by_segment = tf.reshape(frames, [num_segments, num_snippets, *clip_shape])
        clips[stream] = tf.experimental.numpy.swapaxes(by_segment, 0, 1)
    return clips


def _shape(sides) -> str:
    return "[" + ",".join(map(str, sides)) + "]"


def _read_npy(path: str) -> np.ndarray:
    try:
        # Mapped, so that of a long recording only the frames looked at are read. The map outlives a copy's name.
        with files.local_copy(path) as local:
            frames = np.load(local, mmap_mode="r", allow_pickle=False)
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
    names = [name for name in files.list_dir(directory) if name.lower().endswith(IMAGE_EXTENSIONS)]
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
