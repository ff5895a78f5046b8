"""A record against what its dataset's description promises, images still encoded."""

import dataclasses
from collections.abc import Iterator

import tensorflow as tf

from stat_tf.data import info as info_lib
from stat_tf.data import record

_TEXTS = (record.CLIP_ID, record.CLIP_PATH, record.CLIP_GROUP, record.LABEL_STRING)
_KINDS = {"bytes_list": "byte string", "int64_list": "integer", "float_list": "float"}


@dataclasses.dataclass(frozen=True)
class Problem:
    """What is wrong with one clip.

    Attributes:
      check: Which of `checks.CHECKS` it fails.
      reason: What is wrong, worded alike for all clips it is true of.
      detail: What is special about this clip; "" for nothing.
    """

    check: str
    reason: str
    detail: str = ""


@dataclasses.dataclass(frozen=True)
class Stream:
    """The images under one prefix: "JPEG" or "PNG", and their (height, width) in pixels."""

    image_format: str
    size: tuple[int, int]


def streams_of(info: info_lib.DatasetInfo) -> dict[str, Stream]:
    """What a record of this dataset stores, by prefix: HR frames, LR frames of each size, and their flow."""
    found = {"": Stream("JPEG", info.hr_size)}
    found |= {record.lr_prefix(size, info.lr_sizes): Stream("PNG", size) for size in info.lr_sizes}
    if info.flow:
        found |= {prefix + record.FLOW_PREFIX: Stream("PNG", stream.size) for prefix, stream in found.items()}
    return found


def parse(serialized: bytes) -> tf.train.SequenceExample | None:
    """Parses a record; None if it is none."""
    try:
        return tf.train.SequenceExample.FromString(serialized)
    except Exception as error:
        # Its class is the protobuf package's, which is TensorFlow's dependency and not ours.
        if type(error).__name__ != "DecodeError":
            raise
        return None


def text_of(example: tf.train.SequenceExample, key: str) -> str:
    """A context feature's string; "" if it is none."""
    values = example.context.feature[key].bytes_list.value if key in example.context.feature else ()
    return values[0].decode(errors="backslashreplace") if len(values) == 1 else ""


def images_of(example: tf.train.SequenceExample, prefix: str) -> list[bytes]:
    """The encoded images under a prefix; b"" for what is none."""
    key = prefix + record.IMAGE_ENCODED
    features = example.feature_lists.feature_list[key].feature if key in example.feature_lists.feature_list else ()
    return [feature.bytes_list.value[0] if len(feature.bytes_list.value) == 1 else b"" for feature in features]


class RecordChecker:
    """Checks records of one dataset."""

    def __init__(self, info: info_lib.DatasetInfo):
        """Creates the checker from the dataset's description."""
        self._info = info
        self._streams = streams_of(info)
        self._num_images = info.num_segments * info.num_snippets * info.num_frames
        self._context = {key: ("bytes_list", None) for key in _TEXTS} | {record.LABEL_INDEX: ("int64_list", None)}
        self._lists = {}
        for prefix, stream in self._streams.items():
            self._context |= {
                prefix + record.IMAGE_FORMAT: ("bytes_list", stream.image_format.encode()),
                prefix + record.IMAGE_HEIGHT: ("int64_list", stream.size[0]),
                prefix + record.IMAGE_WIDTH: ("int64_list", stream.size[1]),
                prefix + record.IMAGE_CHANNELS: ("int64_list", 3),
                prefix + record.IMAGE_FRAME_RATE: ("float_list", None),
            }
            self._lists[prefix + record.IMAGE_ENCODED] = "bytes_list"
            self._lists[prefix + record.IMAGE_TIMESTAMP] = "int64_list"

    def check(self, example: tf.train.SequenceExample, split: str) -> list[Problem]:
        """Returns what is wrong with a record of a split."""
        found = [*self._keys(example), *self._values(example), *self._label(example, split), *self._times(example)]
        return [Problem("schema", *reason) for reason in found]

    def label(self, example: tf.train.SequenceExample, split: str) -> str | None:
        """The class that the clip counts in, "" in the split unlabeled; None where index and name do not agree."""
        return None if list(self._label(example, split)) else text_of(example, record.LABEL_STRING)

    def _keys(self, example: tf.train.SequenceExample) -> Iterator[tuple[str, ...]]:
        present = {*example.context.feature, *example.feature_lists.feature_list}
        expected = {*self._context, *self._lists}
        for key in sorted(expected - present):
            yield (f"the key {key} is missing",)
        for key in sorted(present - expected):
            yield (f"the key {key} is not one that {info_lib.FILE_NAME} calls for",)

    def _values(self, example: tf.train.SequenceExample) -> Iterator[tuple[str, ...]]:
        for key, (kind, expected) in self._context.items():
            if key not in example.context.feature:
                continue
            values = getattr(example.context.feature[key], kind).value
            if len(values) != 1:
                yield f"{key} is not one {_KINDS[kind]}", f"{len(values)}"
            elif expected is not None and values[0] != expected:
                shown = [
                    value.decode(errors="replace") if kind == "bytes_list" else value for value in (values[0], expected)
                ]
                yield f"{key} is not {shown[1]}", f"{shown[0]}"
            elif key in _TEXTS and not _is_utf8(values[0]):
                yield (f"{key} is not UTF-8",)
        for key, kind in self._lists.items():
            if key not in example.feature_lists.feature_list:
                continue
            features = example.feature_lists.feature_list[key].feature
            if len(features) != self._num_images:
                yield f"{key} does not have the {self._num_images} entries of K*S*T", f"{len(features)}"
            elif any(len(getattr(feature, kind).value) != 1 for feature in features):
                yield (f"{key} has an entry that is not one {_KINDS[kind]}",)

    def _label(self, example: tf.train.SequenceExample, split: str) -> Iterator[tuple[str, ...]]:
        features, classes = example.context.feature, self._info.classes
        indices = features[record.LABEL_INDEX].int64_list.value if record.LABEL_INDEX in features else ()
        label = text_of(example, record.LABEL_STRING)
        if len(indices) != 1:
            yield (f"{record.LABEL_INDEX} names no class",)
        elif split == "unlabeled":
            if indices[0] != record.UNLABELED or label:
                yield "it has a label, in the split unlabeled", f"{indices[0]} {label!r}"
        elif not 0 <= indices[0] < len(classes):
            yield f"the label's index is not one of the {len(classes)} classes", f"{indices[0]}"
        elif label != classes[indices[0]]:
            yield (
                "the label's name is not the one of its index",
                f"{label!r}, class {indices[0]} is {classes[indices[0]]!r}",
            )

    def _times(self, example: tf.train.SequenceExample) -> Iterator[tuple[str, ...]]:
        first = None
        for prefix in self._streams:
            key = prefix + record.IMAGE_TIMESTAMP
            if key not in example.feature_lists.feature_list:
                continue
            features = example.feature_lists.feature_list[key].feature
            times = [value for feature in features for value in feature.int64_list.value]
            if len(times) != self._num_images:
                continue  # said above
            if first is None:
                first = times
                count = self._info.num_frames
                snippets = [times[start : start + count] for start in range(0, len(times), count)]
                backward = [number for number, snippet in enumerate(snippets) if snippet != sorted(snippet)]
                if backward:
                    yield "a snippet's timestamps go backward", f"snippet {backward[0]}"
            elif times != first:
                yield (f"{key} differs from {record.IMAGE_TIMESTAMP}",)


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
