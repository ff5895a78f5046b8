"""The record: one clip as a `tf.train.SequenceExample`, written and read here and nowhere else.

A clip of K segments, S snippets a segment and T consecutive frames a snippet holds K*S*T frames,
ordered segment, snippet, time, each in HR (JPEG) and in one LR size or more (PNG, lossless). Where
optical flow was asked for, each frame also has its flow field at each of these sizes (PNG: x, y and a
channel of zeros; see `stat_tf.data.flow`). Keys are MediaSequence's, so that TF Model Garden's and
MediaPipe's readers open a record as it is. The first LR size stands under the prefix `LR/`, any other
under `LR/HEIGHTxWIDTH/`; flow stands under the prefix `FORWARD_FLOW/` after that of its size.

A record of teacher signals holds no HR frame: of a clip of the test split the LR frames of one
snippet a segment, of another the LR frames of V views, ordered view, segment, time, and of each view what the
teacher made of it: `NAME/feature/float16`, one entry a view, little-endian, of shape `NAME/feature/dimensions`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
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
FLOW_PREFIX = "FORWARD_FLOW/"
FEATURE_VALUES = "feature/float16"
FEATURE_DIMENSIONS = "feature/dimensions"

Size = tuple[int, int]


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
      lr_frames: K*S*T PNG images by LR size, (height, width) in pixels; the first size is the default.
      timestamps: K*S*T presentation times in microseconds.
      hr_size: (height, width) of every HR frame, pixels.
      frame_rate: Average frames a second of the source.
      hr_flow: K*S*T PNG images, the HR frames' flow; None where there is none.
      lr_flow: K*S*T PNG images by LR size, the LR frames' flow; the sizes of `lr_frames`, or None.
    """

    clip_id: str
    path: str
    group: str
    label: str
    label_index: int
    hr_frames: Sequence[bytes]
    lr_frames: Mapping[Size, Sequence[bytes]]
    timestamps: Sequence[int]
    hr_size: Size
    frame_rate: float
    hr_flow: Sequence[bytes] | None = None
    lr_flow: Mapping[Size, Sequence[bytes]] | None = None


@dataclasses.dataclass(frozen=True)
class LrViews:
    """What a record of teacher signals holds of a clip, beside the clip's identity.

    Attributes:
      frames: PNG images of LR frames: K*T of each of V views.
      size: (height, width) of each, pixels.
      timestamps: As many presentation times in microseconds.
      signals: float16 [V, ...] by name; none for the frames that evaluation takes.
    """

    frames: Sequence[bytes]
    size: Size
    timestamps: Sequence[int]
    signals: Mapping[str, np.ndarray]


def lr_prefix(size: Size, lr_sizes: Sequence[Size]) -> str:
    """The prefix of an LR size's keys; `lr_sizes` are all sizes of the dataset, the default first."""
    return LR_PREFIX if size == lr_sizes[0] else f"{LR_PREFIX}{size[0]}x{size[1]}/"


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
      ValueError: The numbers of frames, flow fields and timestamps differ, or the sizes of LR frames and LR flow.
    """
    lr_sizes = tuple(record.lr_frames)
    streams = {"": ("JPEG", record.hr_size, record.hr_frames)}
    streams |= {lr_prefix(size, lr_sizes): ("PNG", size, frames) for size, frames in record.lr_frames.items()}
    if record.hr_flow is not None:
        streams[FLOW_PREFIX] = ("PNG", record.hr_size, record.hr_flow)
    if tuple(record.lr_flow or lr_sizes) != lr_sizes:
        raise ValueError(f"Clip {record.clip_id} has LR frames of {lr_sizes} and LR flow of {tuple(record.lr_flow)}.")
    for size, fields in (record.lr_flow or {}).items():
        streams[lr_prefix(size, lr_sizes) + FLOW_PREFIX] = ("PNG", size, fields)

    context = {
        CLIP_ID: _bytes(record.clip_id),
        CLIP_PATH: _bytes(record.path),
        CLIP_GROUP: _bytes(record.group),
        LABEL_STRING: _bytes(record.label),
        LABEL_INDEX: _ints(record.label_index),
    }
    timestamps = tf.train.FeatureList(feature=[_ints(t) for t in record.timestamps])
    frames = {}
    for prefix, (image_format, size, images) in streams.items():
        if len(images) != len(record.timestamps):
            raise ValueError(
                f"Clip {record.clip_id} has {len(images)} images under {prefix + IMAGE_ENCODED} and "
                f"{len(record.timestamps)} timestamps; the two must agree."
            )
        context |= _image_context(prefix, image_format, size, record.frame_rate)
        frames[prefix + IMAGE_ENCODED] = tf.train.FeatureList(feature=[_bytes(image) for image in images])
        frames[prefix + IMAGE_TIMESTAMP] = timestamps
    return _serialize(context, frames)


def _feature(name: str, key: str) -> str:
    """The key of a signal: MediaSequence's prefixes are capitals."""
    return f"{name.upper()}/{key}"


def _serialize(context: Mapping[str, tf.train.Feature], lists: Mapping[str, tf.train.FeatureList]) -> bytes:
    example = tf.train.SequenceExample(
        context=tf.train.Features(feature=context), feature_lists=tf.train.FeatureLists(feature_list=lists)
    )
    # Map fields have no fixed order on the wire unless asked for.
    return example.SerializeToString(deterministic=True)


def encode_views(source: bytes, views: LrViews) -> bytes:
    """Serializes what of a clip leaves the place where HR frames are kept; the same always gives the same bytes.

    Args:
      source: The clip's own record, of which only its identity and frame rate are taken.
      views: The rest.

    Raises:
      ValueError: The numbers of frames and timestamps differ.
    """
    if len(views.frames) != len(views.timestamps):
        raise ValueError(f"{len(views.frames)} LR frames have {len(views.timestamps)} timestamps; the two must agree.")
    known = tf.train.SequenceExample.FromString(source).context.feature
    context = {name: known[name] for name in (CLIP_ID, CLIP_PATH, CLIP_GROUP, LABEL_STRING, LABEL_INDEX)}
    context |= _image_context(LR_PREFIX, "PNG", views.size, known[IMAGE_FRAME_RATE].float_list.value[0])
    lists = {
        LR_PREFIX + IMAGE_ENCODED: [_bytes(image) for image in views.frames],
        LR_PREFIX + IMAGE_TIMESTAMP: [_ints(time) for time in views.timestamps],
    }
    for name, values in views.signals.items():
        context[_feature(name, FEATURE_DIMENSIONS)] = _ints(*values.shape[1:])
        lists[_feature(name, FEATURE_VALUES)] = [_bytes(each.astype("<f2").tobytes()) for each in values]
    return _serialize(context, {name: tf.train.FeatureList(feature=features) for name, features in lists.items()})


def clip_id(serialized: bytes) -> str:
    """The id of a record's clip."""
    context = tf.train.SequenceExample.FromString(serialized).context
    return context.feature[CLIP_ID].bytes_list.value[0].decode()


def parse(
    serialized: tf.Tensor, images: Mapping[str, str], *, signals: Sequence[str] = (), times: str = ""
) -> dict[str, tf.Tensor]:
    """Parses one serialized record, images still encoded.

    Args:
      serialized: Scalar string tensor.
      images: The prefixes of the images wanted, by the names they get: {"hr": "", "lr": "LR/"}.
      signals: The names of the signals wanted.
      times: The prefix of the images whose timestamps are wanted.

    Returns:
      `id` and `path` (scalar string), `label` (scalar int64, `UNLABELED` where there is none),
      `timestamps` (int64 [K*S*T], microseconds), the images by their names (string [K*S*T]), and the signals by
      theirs (string [V], float16 values).
    """
    context, frames = tf.io.parse_single_sequence_example(
        serialized,
        context_features={
            CLIP_ID: tf.io.FixedLenFeature([], tf.string),
            CLIP_PATH: tf.io.FixedLenFeature([], tf.string),
            LABEL_INDEX: tf.io.FixedLenFeature([], tf.int64),
        },
        sequence_features={
            times + IMAGE_TIMESTAMP: tf.io.FixedLenSequenceFeature([], tf.int64),
            **{prefix + IMAGE_ENCODED: tf.io.FixedLenSequenceFeature([], tf.string) for prefix in images.values()},
            **{_feature(name, FEATURE_VALUES): tf.io.FixedLenSequenceFeature([], tf.string) for name in signals},
        },
    )
    return {
        "id": context[CLIP_ID],
        "path": context[CLIP_PATH],
        "label": context[LABEL_INDEX],
        "timestamps": frames[times + IMAGE_TIMESTAMP],
        **{name: frames[prefix + IMAGE_ENCODED] for name, prefix in images.items()},
        **{name: frames[_feature(name, FEATURE_VALUES)] for name in signals},
    }
