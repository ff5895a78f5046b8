"""What is measured of one clip's images: do they decode, how bright are they, does anything move."""

import dataclasses
import functools
import hashlib
from collections.abc import Iterator

import cv2
import numpy as np
import tensorflow as tf

from pipeline.validation import near, schema
from pipeline.validation.schema import Problem
from stat_tf.data import info as info_lib
from stat_tf.data import record

# TensorFlow's decoders take one another's formats.
_SIGNATURES = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}
_DECODERS = {
    "JPEG": functools.partial(tf.io.decode_jpeg, channels=3, dct_method="INTEGER_ACCURATE"),
    "PNG": functools.partial(tf.io.decode_png, channels=3),
}
# Measures are whole numbers, in thousandths of a grey level: their sums do not depend on the order.
UNIT = 1000


@dataclasses.dataclass(frozen=True)
class Measures:
    """What the frames of a clip are like.

    Attributes:
      digest: SHA-256 of the stored HR frames.
      brightness: Mean luma of the HR frames, in 1 / `UNIT` of a grey level; as are the next three.
      contrast: Standard deviation of a frame's luma, mean over the frames.
      largest_contrast: That of the frame with the most.
      motion: The largest change, from a stored frame to the next, of a mean over the area of an LR pixel.
      signature: What the clip looks like; see `near.signature`.
    """

    digest: str
    brightness: int
    contrast: int
    largest_contrast: int
    motion: int
    signature: bytes


def decode(image: bytes, image_format: str) -> np.ndarray | None:
    """Decodes an image as training does: uint8 [H, W, 3]; None if it is not of that format or damaged."""
    if not image.startswith(_SIGNATURES[image_format]):
        return None
    try:
        return _DECODERS[image_format](image).numpy()
    except tf.errors.InvalidArgumentError:
        return None


def luma(frame: np.ndarray) -> np.ndarray:
    """Brightness of uint8 [H, W, 3], RGB: uint8 [H, W]."""
    return cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)


def _area_means(grey: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(grey.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)


class ImageChecker:
    """Decodes and measures the images of one dataset's records."""

    def __init__(self, info: info_lib.DatasetInfo):
        """Creates the checker from the dataset's description."""
        self._streams = schema.streams_of(info)
        self._lr_size = info.lr_sizes[0]

    def check(self, example: tf.train.SequenceExample) -> tuple[list[Problem], Measures | None]:
        """Decodes every image of a record.

        Returns:
          What is wrong, and what the HR frames are like; None if one of them does not decode.
        """
        problems, measures = [], None
        for prefix, stream in self._streams.items():
            images = schema.images_of(example, prefix)
            frames = [decode(image, stream.image_format) for image in images]
            found = list(_problems(prefix + record.IMAGE_ENCODED, stream, frames))
            problems += found
            if not prefix and frames and not found:
                measures = self._measure(images, [luma(frame) for frame in frames])
        return problems, measures

    def _measure(self, images: list[bytes], greys: list[np.ndarray]) -> Measures:
        statistics = [cv2.meanStdDev(grey) for grey in greys]
        means, deviations = np.array(statistics)[:, :, 0, 0].T
        areas = [_area_means(grey, self._lr_size) for grey in greys]
        changes = [np.abs(after - before).max() for before, after in zip(areas, areas[1:])]
        return Measures(
            digest=hashlib.sha256(b"".join(images)).hexdigest(),
            brightness=_in_units(means.mean()),
            contrast=_in_units(deviations.mean()),
            largest_contrast=_in_units(deviations.max()),
            motion=_in_units(max(changes, default=0.0)),
            signature=near.signature(greys),
        )


def _in_units(value: float) -> int:
    return round(UNIT * float(value))


def _problems(key: str, stream: schema.Stream, frames: list[np.ndarray | None]) -> Iterator[Problem]:
    damaged = [number for number, frame in enumerate(frames) if frame is None]
    if damaged:
        detail = f"image {damaged[0]}" + (f" and {len(damaged) - 1} more" if len(damaged) > 1 else "")
        yield Problem("undecodable", f"{key} holds images that do not decode as {stream.image_format}", detail)
    sizes = {frame.shape[:2] for frame in frames if frame is not None} - {stream.size}
    if sizes:
        expected, found = (f"{height}x{width}" for height, width in (stream.size, min(sizes)))
        yield Problem("image_size", f"{key} holds images that are not {expected}", found)
