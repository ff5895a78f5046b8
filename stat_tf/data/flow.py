"""Optical flow: estimated from two frames, and stored as frames are, in 8 bits a channel.

A field holds each pixel's motion (x to the right, y down, in pixels) from a frame to the video's
next one. It is clipped at a bound and quantised linearly, as is usual for two-stream networks, so
that it is stored, mirrored and cropped much as a frame is.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from stat_tf.data import sampling

METHODS = ("tvl1", "dis")


# TV-L1's pyramid goes no lower, and dense inverse search's patches do not fit into less.
_SHORTEST_SIDE = 16


class FlowEstimator:
    """Estimates dense motion with OpenCV.

    The same two frames give the same field, whatever was estimated before and on however many threads.
    Frames of fewer than 16 pixels a side are enlarged for it: estimated as they are, they give TV-L1
    fields of twice the error, and DIS none.
    """

    def __init__(self, method: str):
        """Creates the estimator, which is reused from field to field.

        Args:
          method: "tvl1", the duality-based TV-L1 of the two-stream literature, or "dis", dense inverse
            search, which is many times as fast.
        """
        import cv2  # only who estimates flow needs it

        self._create = {
            "tvl1": cv2.optflow.createOptFlow_DualTVL1,
            "dis": functools.partial(cv2.DISOpticalFlow_create, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
        }[method]
        self._by_size = {}

    def __call__(self, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Estimates the motion from one frame to another.

        Args:
          before: uint8 [H, W, 3], RGB.
          after: uint8 [H, W, 3], RGB.

        Returns:
          float32 [H, W, 2]: (x, y) in pixels; x to the right, y down.
        """
        import cv2

        height, width = before.shape[:2]
        # OpenCV's estimators fit their number of scales to the first frames they see, and keep it.
        if (height, width) not in self._by_size:
            self._by_size[height, width] = self._create()
        estimator = self._by_size[height, width]
        factor = -(-_SHORTEST_SIDE // min(height, width))
        if factor == 1:
            return estimator.calc(_gray(before), _gray(after), None)
        larger = (width * factor, height * factor)
        pictures = (cv2.resize(_gray(frame), larger, interpolation=cv2.INTER_CUBIC) for frame in (before, after))
        flow = estimator.calc(*pictures, None)
        return cv2.resize(flow, (width, height), interpolation=cv2.INTER_AREA) / np.float32(factor)


def _gray(frame: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY)


def bounds(bound: float, hr_size: Sequence[int], frame_size: Sequence[int]) -> tuple[float, float]:
    """The largest motion stored on a grid, in its own pixels.

    A low-resolution camera sees the same motion in fewer pixels. Scaled with the grid, the bound uses
    the same grey levels for it; the bound of HR pixels would leave an LR field of only a few levels.

    Args:
      bound: The largest motion in pixels of the HR frame.
      hr_size: (height, width) of the HR frames.
      frame_size: (height, width) of the frames that the flow is of.

    Returns:
      (x, y), pixels.
    """
    return bound * frame_size[1] / hr_size[1], bound * frame_size[0] / hr_size[0]


def quantize(flow: np.ndarray, bound: float | Sequence[float]) -> np.ndarray:
    """Clips motion at a bound and rounds it to 256 levels; no motion is 128.

    Args:
      flow: float32 [..., 2], pixels.
      bound: The largest motion, pixels; one for both axes, or (x, y).

    Returns:
      uint8 [..., 2].
    """
    levels = np.empty(flow.shape, np.uint8)
    # Axis by axis: NumPy is three times as slow with bounds that alternate from value to value.
    for axis, limit in enumerate(np.broadcast_to(np.asarray(bound, np.float32), 2)):
        motion = np.clip(flow[..., axis], -limit, limit)
        # In this order, no motion is 127.5 exactly, whatever the bound.
        motion += limit
        motion /= 2 * limit
        motion *= 255
        levels[..., axis] = np.rint(motion)
    return levels


def dequantize(levels: np.ndarray, bound: float | Sequence[float]) -> np.ndarray:
    """Turns quantised flow, uint8 [..., 2], back into pixels, float32 [..., 2]; `bound` as in `quantize`."""
    bound = np.asarray(bound, np.float32)
    return np.asarray(levels, np.float32) * (2 * bound / 255) - bound


def mirror(levels: tf.Tensor) -> tf.Tensor:
    """The quantised flow of the mirrored frames: reversed from left to right, with x negated.

    Args:
      levels: uint8 [..., W, 2].

    Returns:
      uint8 [..., W, 2].
    """
    x, y = tf.unstack(tf.reverse(levels, [-2]), axis=-1)
    return tf.stack([255 - x, y], axis=-1)


def snippet_flow(
    estimator: FlowEstimator, pictures: Mapping[int, np.ndarray], indices: Sequence[int], count: int
) -> np.ndarray:
    """Estimates the motion of each frame of a snippet, or of several whose pictures are shared.

    Args:
      estimator: The estimator.
      pictures: uint8 [H, W, 3] by position in the video: those that `sampling.motion_pairs` names.
      indices: Positions of the T frames; the field of one that repeats is computed once.
      count: Frames in the video.

    Returns:
      float32 [T, H, W, 2], pixels of the pictures.
    """
    wanted = sampling.motion_pairs(indices, count)
    fields = {(before, after): _motion(estimator, pictures, before, after) for before, after in set(wanted)}
    return np.stack([fields[pair] for pair in wanted])


def degraded_flow(
    estimator: FlowEstimator,
    frames: np.ndarray,
    pictures: Mapping[int, np.ndarray],
    indices: Sequence[int],
    count: int,
    num_frames: int,
    degrade: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Estimates the motion that a low-resolution camera sees, from its frames as they are stored, with their noise.

    Within a snippet, each frame of the video has one realisation of noise.

    Args:
      estimator: The estimator.
      frames: uint8 [N, h, w, 3], the LR frames, snippet after snippet.
      pictures: uint8 [H, W, 3] by position in the video: the HR frames, those that `sampling.motion_pairs` names.
      indices: Positions of the N frames.
      count: Frames in the video.
      num_frames: T, frames a snippet.
      degrade: Makes LR frames [M, h, w, 3] of HR frames [M, H, W, 3], with noise other than that of
        `frames`: for the frames that a snippet's motion needs beyond its own.

    Returns:
      float32 [N, h, w, 2], LR pixels.
    """
    starts = range(0, len(indices), num_frames)
    snippets = [indices[start : start + num_frames] for start in starts]
    needed = sorted({index for snippet in snippets for index in sampling.beyond(snippet, count)})
    made = dict(zip(needed, degrade(np.stack([pictures[index] for index in needed])), strict=True)) if needed else {}
    fields = []
    for start, snippet in zip(starts, snippets, strict=True):
        own = dict(zip(snippet, frames[start : start + num_frames], strict=True))
        fields.append(snippet_flow(estimator, made | own, snippet, count))
    return np.concatenate(fields)


def _motion(estimator: FlowEstimator, pictures: Mapping[int, np.ndarray], before: int, after: int) -> np.ndarray:
    if before == after:
        return np.zeros((*pictures[before].shape[:2], 2), np.float32)
    return estimator(pictures[before], pictures[after])
