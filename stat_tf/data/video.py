"""Frames of a video file, decoded with PyAV.

A file is read twice. The first pass reads packets and decodes nothing: it finds the times and
key frames, since the frame counts and durations that containers state are often wrong. The second
decodes what is needed and seeks over what is not, so that neither the memory nor (for long videos)
the work grows with the clip's length, but for the eight bytes of each frame's time.
"""

import dataclasses
from collections.abc import Sequence
from typing import BinaryIO

import av
import numpy as np

from stat_tf.data import decoding, sampling
from stat_tf.data.decoding import VideoError


@dataclasses.dataclass(frozen=True)
class VideoClip:
    """What is taken from a video.

    Attributes:
      frames: uint8 [K*S*T, H, W, 3], RGB in 0-255, ordered segment, snippet, time.
      timestamps: K*S*T presentation times, microseconds.
      frame_rate: Average frames a second; 0 when it cannot be told.
      indices: K*S*T positions of the frames in the video.
      count: Frames in the video.
      others: uint8 [H, W, 3] by position in the video: the frames that motion needs beyond those above.
      stated_count: Frames that the container says the video has; 0 when it does not, or of a part of a video.
    """

    frames: np.ndarray
    timestamps: list[int]
    frame_rate: float
    indices: list[int]
    count: int
    others: dict[int, np.ndarray]
    stated_count: int = 0

    @property
    def pictures(self) -> dict[int, np.ndarray]:
        """All frames that were read, uint8 [H, W, 3], by position in the video."""
        return dict(zip(self.indices, self.frames, strict=True)) | self.others


def read_clip(
    path: str,
    *,
    num_segments: int,
    num_snippets: int,
    num_frames: int,
    frame_stride: int = 1,
    size: tuple[int, int],
    with_motion: bool = False,
    file: BinaryIO | None = None,
) -> VideoClip:
    """Reads the frames that stand for a video; see `sampling.sample_frames` for which.

    Each is turned upright as the rotation metadata say, cropped at the centre to the aspect ratio of
    `size` (pixels that are not square are taken into account) and brought to `size`: by area
    averaging where it shrinks, bilinearly where the video is smaller. Grey video becomes RGB, an
    alpha channel is ignored. Where fewer frames decode than the file has packets for, the frames are
    chosen among those that do.

    Args:
      path: The file; in messages only when `file` is given.
      num_segments: K.
      num_snippets: S.
      num_frames: T.
      frame_stride: Frames from one of a snippet's frames to the next.
      size: (height, width) of the returned frames, pixels.
      with_motion: Whether to read the frames too that the chosen ones' motion needs; see `sampling.motion_pairs`.
      file: The opened file, seekable, for paths that only the caller can open.

    Returns:
      The clip.

    Raises:
      VideoError: The file is missing, empty, no video, has no video stream, or no frame decodes.
    """

    def choose(index: decoding.Index) -> tuple[list[int], list[int]]:
        chosen = sampling.sample_frames(index.times, num_segments, num_snippets, num_frames, frame_stride)
        return chosen, sampling.beyond(chosen, len(index.times)) if with_motion else []

    try:
        with decoding.open_video(path, file) as (container, stream):
            index = decoding.read_index(container, stream)
        chosen, others = choose(index) if index.times else ([], [])
        found = _decode(path, file, index, sorted({*chosen, *others}), size) if chosen else None
        if found is None:
            index = decoding.read_decodable_index(path, file)
            if not index.times:
                raise VideoError(path, "no frame of it can be decoded")
            chosen, others = choose(index)
            found = _decode(path, file, index, sorted({*chosen, *others}), size)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, decoding.reason(error)) from error
    if found is None:
        raise VideoError(path, "it decodes differently each time it is read")
    return VideoClip(
        frames=np.stack([found[i] for i in chosen]),
        timestamps=[round(index.times[i] * index.time_base * 1_000_000) for i in chosen],
        frame_rate=decoding.average_rate(index.times, index.time_base, index.nominal_rate),
        indices=chosen,
        count=len(index.times),
        others={i: found[i] for i in others},
        stated_count=index.stated_frames,
    )


def _decode(
    path: str, file: BinaryIO | None, index: decoding.Index, wanted: Sequence[int], size: tuple[int, int]
) -> dict[int, np.ndarray] | None:
    """The second pass: decodes the wanted frames.

    Returns:
      uint8 [H, W, 3] by position in `index.times`; None if one of them does not appear there.
    """
    found = {}
    with decoding.open_video(path, file) as (container, stream):
        framer = decoding.Framer(stream.sample_aspect_ratio, size)
        for start, run in decoding.group_runs(wanted, index.key_frames):
            if start:
                container.seek(index.times[start], stream=stream)
            pending = set(run)
            latest = -1
            for count, frame in enumerate(decoding.frames_of(container, stream)):
                position = decoding.find(index.times, frame.pts) if index.exact else count
                if position is None or position <= latest or (start and frame.is_corrupt):
                    return None
                latest = position
                if position in pending:
                    found[position] = framer.picture(frame)
                    pending.discard(position)
                if not pending or position > run[-1]:
                    break
            if pending:
                return None
    return found
