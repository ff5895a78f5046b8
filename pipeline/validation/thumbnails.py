"""Small pictures of stored clips: a few HR frames, and the LR frames made from them."""

import base64
import dataclasses
import struct
from collections.abc import Iterable

import cv2
import numpy as np
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems

from pipeline.sources import files
from pipeline.validation import measures, schema
from pipeline.validation.checks import Place
from stat_tf.data import info as info_lib
from stat_tf.data import record

_FRAMES = 3
_HR_HEIGHT = 72
_JPEG_QUALITY = 80
_GREY = 128
# Of a record; a damaged length must not exhaust the memory.
_LARGEST_RECORD = 2**30


@dataclasses.dataclass(frozen=True)
class Thumbnail:
    """Frames of one clip side by side, as data: URIs.

    Attributes:
      hr: HR frames, shrunk.
      lr: The LR frames beneath them as they are, of the default size.
      label: The clip's class.
      clip_id: The clip's id.
    """

    hr: str
    lr: str
    label: str
    clip_id: str


def read(data_dir: str, info: info_lib.DatasetInfo, places: Iterable[Place]) -> dict[Place, Thumbnail]:
    """Reads the records at some places; leaves out what is no record."""
    found = {}
    for place in places:
        if place not in found and (example := _read_record(FileSystems.join(data_dir, place.shard), place.offset)):
            found[place] = _thumbnail(example, info)
    return found


def _read_record(path: str, offset: int) -> tf.train.SequenceExample | None:
    try:
        with files.opened(path) as file:
            file.seek(offset)
            # TFRecord: the length, that number's checksum, then the record.
            (length,) = struct.unpack("<Q4x", file.read(12))
            return schema.parse(file.read(min(length, _LARGEST_RECORD)))
    except (OSError, struct.error):
        return None


def _thumbnail(example: tf.train.SequenceExample, info: info_lib.DatasetInfo) -> Thumbnail:
    lr_size = info.lr_sizes[0]
    hr_height = min(_HR_HEIGHT, info.hr_size[0])
    hr_size = hr_height, round(hr_height * info.hr_size[1] / info.hr_size[0])
    hr = _strip(schema.images_of(example, ""), "JPEG", hr_size, cv2.INTER_AREA)
    lr = _strip(schema.images_of(example, record.LR_PREFIX), "PNG", lr_size, cv2.INTER_NEAREST)
    return Thumbnail(
        hr=_data_uri("jpeg", cv2.imencode(".jpg", hr, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))[1]),
        lr=_data_uri("png", cv2.imencode(".png", lr)[1]),
        label=schema.text_of(example, record.LABEL_STRING),
        clip_id=schema.text_of(example, record.CLIP_ID),
    )


def _strip(images: list[bytes], image_format: str, size: tuple[int, int], interpolation: int) -> np.ndarray:
    """Some of a clip's frames side by side, in OpenCV's order of colours; grey where one does not decode."""
    tiles = []
    for place in range(min(_FRAMES, len(images)) or 1):
        image = images[(2 * place + 1) * len(images) // (2 * _FRAMES)] if images else b""
        frame = measures.decode(image, image_format)
        if frame is None:
            frame = np.full((*size, 3), _GREY, np.uint8)
        tiles.append(cv2.resize(frame, size[::-1], interpolation=interpolation))
    return cv2.cvtColor(np.concatenate(tiles, axis=1), cv2.COLOR_RGB2BGR)


def _data_uri(kind: str, data: np.ndarray) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data.tobytes()).decode()}"
