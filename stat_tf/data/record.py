"""The record: one clip as a `tf.train.SequenceExample`, written and read here and nowhere else.

A clip of K segments, S snippets a segment and T consecutive frames a snippet holds K*S*T frames,
ordered segment, snippet, time, each in HR (JPEG) and in LR (PNG, lossless). Keys are
MediaSequence's, so that TF Model Garden's and MediaPipe's readers open a record as it is; the LR
frames stand under the prefix `LR/`.
"""

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

UNLABELED = -1

CLIP_ID = "clip/media_id"
CLIP_PATH = "clip/data_path"
CLIP_GROUP = "clip/group"
LABEL_INDEX = "clip/label/index"
LABEL_STRING = "clip/label/string"
IMAGE_ENCODED = "image/encoded"
IMAGE_TIMESTAMP = "image/timestamp"
IMAGE_FORMAT = "image/format"
IMAGE_HEIGHT = "image/height"
IMAGE_WIDTH = "image/width"
IMAGE_CHANNELS = "image/channels"
IMAGE_FRAME_RATE = "image/frame_rate"
LR_PREFIX = "LR/"


@dataclasses.dataclass(frozen=True)
class ClipRecord:
    """One clip, ready to be written.

    Attributes:
      clip_id: Unique within the dataset, stable between builds.
      path: Where the video came from.
      group: The group that must not be split between train and test; "" where there is none.
      label: The class name; "" for an unlabelled clip.
      label_index: The class index; `UNLABELED` for an unlabelled clip.
      hr_frames: K*S*T JPEG images.
      lr_frames: K*S*T PNG images.
      timestamps: K*S*T presentation times in microseconds.
      hr_size: (height, width) of every HR frame, pixels.
      lr_size: (height, width) of every LR frame, pixels.
      frame_rate: Average frames a second of the source.
    """

    clip_id: str
    path: str
    group: str
    label: str
    label_index: int
    hr_frames: Sequence[bytes]
    lr_frames: Sequence[bytes]
    timestamps: Sequence[int]
    hr_size: tuple[int, int]
    lr_size: tuple[int, int]
    frame_rate: float


def _bytes(*values: bytes | str) -> tf.train.Feature:
    encoded = [v.encode() if isinstance(v, str) else v for v in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))


def _ints(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def _image_context(prefix: str, image_format: str, size: tuple[int, int], rate: float) -> dict[str, tf.train.Feature]:
    return {
        prefix + IMAGE_FORMAT: _bytes(image_format),
        prefix + IMAGE_HEIGHT: _ints(size[0]),
        prefix + IMAGE_WIDTH: _ints(size[1]),
        prefix + IMAGE_CHANNELS: _ints(3),
        prefix + IMAGE_FRAME_RATE: tf.train.Feature(float_list=tf.train.FloatList(value=[rate])),
    }


def encode(record: ClipRecord) -> bytes:
    """Serializes a clip; the same clip always gives the same bytes.

    Raises:
      ValueError: The numbers of HR frames, LR frames and timestamps differ.
    """
    if not len(record.hr_frames) == len(record.lr_frames) == len(record.timestamps):
        raise ValueError(
            f"Clip {record.clip_id} has {len(record.hr_frames)} HR frames, {len(record.lr_frames)} LR frames "
            f"and {len(record.timestamps)} timestamps; the three must agree."
        )
    context = {
        CLIP_ID: _bytes(record.clip_id),
        CLIP_PATH: _bytes(record.path),
        CLIP_GROUP: _bytes(record.group),
        LABEL_STRING: _bytes(record.label),
        LABEL_INDEX: _ints(record.label_index),
        **_image_context("", "JPEG", record.hr_size, record.frame_rate),
        **_image_context(LR_PREFIX, "PNG", record.lr_size, record.frame_rate),
    }
    timestamps = tf.train.FeatureList(feature=[_ints(t) for t in record.timestamps])
    frames = {
        IMAGE_ENCODED: tf.train.FeatureList(feature=[_bytes(frame) for frame in record.hr_frames]),
        IMAGE_TIMESTAMP: timestamps,
        LR_PREFIX + IMAGE_ENCODED: tf.train.FeatureList(feature=[_bytes(frame) for frame in record.lr_frames]),
        LR_PREFIX + IMAGE_TIMESTAMP: timestamps,
    }
    example = tf.train.SequenceExample(
        context=tf.train.Features(feature=context), feature_lists=tf.train.FeatureLists(feature_list=frames)
    )
    # Map fields have no fixed order on the wire unless asked for.
    return example.SerializeToString(deterministic=True)


def parse(serialized: tf.Tensor) -> dict[str, tf.Tensor]:
    """Parses one serialized record, images still encoded.

    Args:
      serialized: Scalar string tensor.

    Returns:
      `id` and `path` (scalar string), `label` (scalar int64, `UNLABELED` where there is none),
      `hr_encoded` and `lr_encoded` (string [K*S*T]), `timestamps` (int64 [K*S*T], microseconds).
    """
    frame = tf.io.FixedLenSequenceFeature([], tf.string)
    context, frames = tf.io.parse_single_sequence_example(
        serialized,
        context_features={
            CLIP_ID: tf.io.FixedLenFeature([], tf.string),
            CLIP_PATH: tf.io.FixedLenFeature([], tf.string),
            LABEL_INDEX: tf.io.FixedLenFeature([], tf.int64),
        },
        sequence_features={
            IMAGE_ENCODED: frame,
            LR_PREFIX + IMAGE_ENCODED: frame,
            IMAGE_TIMESTAMP: tf.io.FixedLenSequenceFeature([], tf.int64),
        },
    )
    return {
        "id": context[CLIP_ID],
        "path": context[CLIP_PATH],
        "label": context[LABEL_INDEX],
        "hr_encoded": frames[IMAGE_ENCODED],
        "lr_encoded": frames[LR_PREFIX + IMAGE_ENCODED],
        "timestamps": frames[IMAGE_TIMESTAMP],
    }
