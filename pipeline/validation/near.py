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
# Signatures compared with all others at once: bounds what that takes in memory.
_ROWS = 256


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
    return len(one) == len(other) and any(later.size for later in later_alike([one, other]))


def later_alike(signatures: Sequence[bytes]) -> Iterator[np.ndarray]:
    """Compares each of some signatures with each; it is not so that what is like a third is alike.

    Args:
      signatures: Of one length.

    Yields:
      For each signature in turn, the places of those after it that are `alike` to it, ascending: int64.
    """
    pixels = np.frombuffer(b"".join(signatures), np.uint8).reshape(len(signatures), -1, np.prod(_GRID))
    num_frames = pixels.shape[1]
    # In whole numbers, which float64 holds exactly: what is found does not depend on how many are compared at once.
    pixels = pixels.astype(np.float64)
    changes = (num_frames * pixels - pixels.sum(1, keepdims=True)).reshape(len(signatures), -1)
    pixels = pixels.reshape(len(signatures), -1)
    size = pixels.shape[1]
    frames = size * pixels - pixels.sum(1, keepdims=True)
    moving = np.einsum("ij,ij->i", changes, changes) >= size * (num_frames * _LEAST_CHANGE) ** 2
    for start in range(0, len(signatures), _ROWS):
        rows = slice(start, start + _ROWS)
        appearance, motion = (_correlations(values[rows], values[start:]) for values in (frames, changes))
        still = ~moving[rows, None] & ~moving[start:]
        found = moving[rows, None] & moving[start:] & (appearance >= _LEAST_APPEARANCE) & (motion >= _LEAST_MOTION)
        found |= still & (appearance >= _LEAST_STILL_APPEARANCE)
        for row, of_row in enumerate(found):
            yield start + row + 1 + np.flatnonzero(of_row[row + 1 :])


def _correlations(ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of float64 [n, size] and [m, size], all without a mean: [n, m], 0 for what does not vary."""
    squares = (np.einsum("ij,ij->i", values, values) for values in (ones, others))
    return ones @ others.T / np.maximum(np.sqrt(np.outer(*squares)), 1)
