"""Where a long video is cut into clips, found from its packets: nothing is decoded.

A video's time from its first frame on is cut into parts of equal length. A last part of less than half of
that length joins the one before it; parts without a frame are none. Parts that lie side by side form a run,
about a minute long, which is decoded in one go: runs of one video can be read by different processes at once.
"""

import bisect
import dataclasses
import itertools
import math
import zlib
from array import array
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np

from stat_tf.data import decoding

# Long enough that opening the file and decoding from the key frame before it cost little beside it.
_RUN_SECONDS = 60


@dataclasses.dataclass(frozen=True)
class Part:
    """One clip of a video: the frames presented in [start, end), of which there is at least one.

    Attributes:
      start: Seconds from the video's first frame.
      end: Seconds from the video's first frame.
      count: Frames.
    """

    start: Fraction
    end: Fraction
    count: int

    @property
    def fragment(self) -> str:
        """The part as a media fragment (W3C, Media Fragments URI, section 4.2.1): "t=4,8", to the microsecond."""
        start, end = (f"{float(second):.6f}".rstrip("0").rstrip(".") for second in (self.start, self.end))
        return f"t={start},{end}"


@dataclasses.dataclass(frozen=True)
class Run:
    """Neighbouring parts, and what it takes to decode them without looking at the rest of the video.

    Attributes:
      parts: The parts, in order.
      lead: Frames from where decoding starts to the first part.
      from_start: Whether decoding starts at the file's beginning; else at the first key frame.
      key_frames: Positions of the key frames among the run's frames.
      exact: As of `decoding.Index`.
      time_base: Seconds a unit of the frames' times.
      nominal_rate: As of `decoding.Index`.
      first_time: The first frame's time.
      packed_steps: The steps from each frame's time to the next, compressed; see `times`.
    """

    parts: tuple[Part, ...]
    lead: int
    from_start: bool
    key_frames: tuple[int, ...]
    exact: bool
    time_base: Fraction
    nominal_rate: float
    first_time: int
    packed_steps: bytes

    def times(self) -> array:
        """Presentation times of the run's frames, the lead's first: int64, in units of `time_base`."""
        steps = np.frombuffer(zlib.decompress(self.packed_steps), np.int64)
        return array("q", np.cumsum(np.concatenate([[self.first_time], steps]), dtype=np.int64).tobytes())


def _part_ends(index: decoding.Index, seconds: Fraction) -> Iterator[tuple[Part, int]]:
    """Yields the parts and the position after the last frame of each."""
    times, base = index.times, index.time_base
    total = (times[-1] - times[0]) * base
    if len(times) > 1:  # the last frame lasts as long as the average one, as in `sampling.sample_frames`
        total += total / (len(times) - 1)
    elif index.nominal_rate:
        total += 1 / Fraction(index.nominal_rate).limit_denominator(1_000_000)
    last = max(1, math.floor(total / seconds + Fraction(1, 2))) - 1
    position = 0
    while position < len(times):
        number = min(last, (times[position] - times[0]) * base // seconds)
        start, end, stop = number * seconds, total, len(times)
        if number < last:
            end = (number + 1) * seconds
            stop = bisect.bisect_left(times, math.ceil(times[0] + end / base), position)
        yield Part(start, end, stop - position), stop
        position = stop


def _grouped(index: decoding.Index, parts: Sequence[tuple[Part, int]], seconds: Fraction) -> Iterator[list[Part]]:
    """Groups parts into runs; a run ends only where a key frame is near, so that little is decoded twice."""
    group, frames = [], 0
    for part, stop in parts:
        group.append(part)
        frames += part.count
        if stop < len(index.times) and len(group) * seconds >= _RUN_SECONDS and index.key_frames:
            lead = stop - index.key_frames[max(0, bisect.bisect_right(index.key_frames, stop) - 1)]
            if 0 <= lead <= frames // 2:
                yield group
                group, frames = [], 0
    if group:
        yield group


def cut_video(path: str, clip_seconds: float, file: BinaryIO | None = None) -> list[Run]:
    """Cuts a video into parts.

    Where the container does not tell the frames' times (AVI), the video is decoded once to find them and
    is all one run.

    Args:
      path: The file; in messages only when `file` is given.
      clip_seconds: Length of a part, to the microsecond.
      file: The opened file, seekable, for paths that only the caller can open.

    Returns:
      The runs, in order. Their parts hold every frame once.

    Raises:
      VideoError: The file is missing, empty, no video, has no video stream, or no frames.
    """
    seconds = Fraction(round(clip_seconds * 1_000_000), 1_000_000)
    try:
        with decoding.open_video(path, file) as (container, stream):
            index = decoding.read_index(container, stream)
        if not index.exact:
            index = decoding.read_decodable_index(path, file)
    except (av.FFmpegError, OSError) as error:
        raise decoding.VideoError(path, decoding.reason(error)) from error
    if not index.times:
        raise decoding.VideoError(path, "no frame of it can be decoded")
    runs, first = [], 0
    for parts in _grouped(index, list(_part_ends(index, seconds)), seconds):
        key = bisect.bisect_right(index.key_frames, first) - 1
        begin = index.key_frames[key] if key >= 0 else 0
        stop = first + sum(part.count for part in parts)
        steps = np.diff(np.asarray(index.times[begin:stop]))
        key_frames = index.key_frames[bisect.bisect_left(index.key_frames, begin) :]
        runs.append(
            Run(
                parts=tuple(parts),
                lead=first - begin,
                from_start=begin == 0,
                key_frames=tuple(k - begin for k in itertools.takewhile(lambda k, stop=stop: k < stop, key_frames)),
                exact=index.exact,
                time_base=index.time_base,
                nominal_rate=index.nominal_rate,
                first_time=index.times[begin],
                packed_steps=zlib.compress(steps.tobytes()),
            )
        )
        first = stop
    return runs
