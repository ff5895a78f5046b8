"""Clips that look alike though their bytes differ: a perceptual hash to find them by, and a comparison to be sure.

A clip's signature is a few of its frames, shrunk to 8x9 grey pixels. Whether a pixel is brighter than its
left neighbour survives another codec, another size, another brightness for most pixels; a run of such bits (a
band) stands unchanged in nearly every copy at some place or other, so that only clips which share a band need to
be compared. Copies then agree in what their frames show and in how that changes from frame to frame; clips of
one scene agree in the first only.

What is found: copies encoded anew, scaled, brightened. What is not: copies that are mirrored or cropped, have a
logo laid over them, or start more than a few frames later.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

_FRAMES = 8
_GRID = (8, 9)
_BAND_BITS = 24
# Measured; see docs/performance.md.
_LEAST_APPEARANCE = 0.97
_LEAST_MOTION = 0.95
# With less change than this (root mean square, grey levels) a codec's noise is most of it.
_LEAST_CHANGE = 0.4
_LEAST_STILL_APPEARANCE = 0.995


def signature(greys: Sequence[np.ndarray]) -> bytes:
    """Shrinks some of a clip's frames, spread evenly over it.

    Args:
      greys: uint8 [H, W], the luma of its frames; as many for each clip that it is to be compared with.

    Returns:
      The signature: uint8 [frames, 8, 9], as bytes.
    """
    count = min(_FRAMES, len(greys))
    chosen = [greys[(2 * place + 1) * len(greys) // (2 * count)] for place in range(count)]
    small = [cv2.resize(grey.astype(np.float32), _GRID[::-1], interpolation=cv2.INTER_AREA) for grey in chosen]
    return np.rint(small).astype(np.uint8).tobytes()


def bands(signature: bytes) -> Iterator[str]:
    """The signature's keys; two clips that look alike share at least one."""
    frames = np.frombuffer(signature, np.uint8).reshape(-1, *_GRID)
    bits = (frames[:, :, 1:] > frames[:, :, :-1]).ravel()
    for number, start in enumerate(range(0, len(bits) - _BAND_BITS + 1, _BAND_BITS)):
        yield f"{number}:{np.packbits(bits[start : start + _BAND_BITS]).tobytes().hex()}"


def alike(one: bytes, other: bytes) -> bool:
    """Whether two signatures are of the same clip.

    Both the frames and their changes over the clip have to correlate, which is indifferent to brightness and
    contrast; of a clip without changes, the frames have to do so all the more.
    """
    first, second = (np.frombuffer(item, np.uint8).reshape(-1, *_GRID).astype(np.float64) for item in (one, other))
    if first.shape != second.shape:
        return False
    appearance = _correlation(first - first.mean(), second - second.mean())
    changes = [frames - frames.mean(0) for frames in (first, second)]
    moving = [np.sqrt((change**2).mean()) >= _LEAST_CHANGE for change in changes]
    if not any(moving):
        return appearance >= _LEAST_STILL_APPEARANCE
    return all(moving) and appearance >= _LEAST_APPEARANCE and _correlation(*changes) >= _LEAST_MOTION


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    norm = np.sqrt((one**2).sum() * (other**2).sum())
    return float((one * other).sum() / norm) if norm else 0.0
