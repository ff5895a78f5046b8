"""Which frames of a video stand for it: K segments, S snippets a segment, T frames a snippet (section 3.1)."""

import bisect
import math
from collections.abc import Sequence
from fractions import Fraction


def _snippet_centers(num_segments: int, num_snippets: int) -> list[Fraction]:
    """The [K*S] moments the snippets stand around, as fractions of the clip's duration.

    The centres are those of an odd number of equal parts of the segment, so that snippet S // 2 is
    in its very middle; an even S leaves out the last part.
    """
    parts = num_snippets + 1 - num_snippets % 2
    return [
        (segment + Fraction(2 * snippet + 1, 2 * parts)) / num_segments
        for segment in range(num_segments)
        for snippet in range(num_snippets)
    ]


def _position(moment: Fraction, times: Sequence[int], end: Fraction) -> Fraction:
    """The moment's place among the frames: 2.5 is half-way through the time frame 2 is shown."""
    index = max(0, bisect.bisect_right(times, moment) - 1)
    shown_until = times[index + 1] if index + 1 < len(times) else end
    return index + (moment - times[index]) / (shown_until - times[index])


def sample_frames(
    times: Sequence[int], num_segments: int, num_snippets: int, num_frames: int, frame_stride: int = 1
) -> list[int]:
    """Chooses the frames that stand for a video.

    The video is cut into K segments of equal duration. S snippets are spread evenly over each, the
    middle one, S // 2, around the segment's middle: evaluation uses that one. A snippet is T
    frames, consecutive or `frame_stride` apart, within its segment where that has so many. At a
    constant frame rate equal durations are equal numbers of frames. The last frame is taken to last
    as long as the average one.

    A video of fewer than K*T frames repeats frames, in order: its N frames are stretched evenly
    over K*T places, of which each segment has T, and all snippets of a segment are the same.

    Args:
      times: Presentation times of the video's frames in any unit, ascending, at least one.
      num_segments: K.
      num_snippets: S.
      num_frames: T.
      frame_stride: Frames from one of a snippet's frames to the next; less where the clip is too short for it.

    Returns:
      K*S*T indices into `times`, ordered segment, snippet, time.

    Raises:
      ValueError: There are no frames, or K, S, T or the stride is less than 1.
    """
    if not times or min(num_segments, num_snippets, num_frames, frame_stride) < 1:
        raise ValueError(f"Cannot take {num_segments}x{num_snippets}x{num_frames} frames from {len(times)}.")
    count = len(times)
    places = num_segments * num_frames
    if count < places:
        stretched = [place * count // places for place in range(places)]
        segments = [stretched[i : i + num_frames] for i in range(0, places, num_frames)]
        return [index for segment in segments for _ in range(num_snippets) for index in segment]
    if times[-1] <= times[0]:  # a container without usable times
        times = range(count)
    end = times[-1] + (Fraction(times[-1] - times[0], count - 1) if count > 1 else 1)

    def position(fraction: Fraction) -> Fraction:
        return _position(times[0] + fraction * (end - times[0]), times, end)

    edges = [math.ceil(position(Fraction(k, num_segments))) for k in range(num_segments)] + [count]
    if num_frames > 1:
        frame_stride = min(frame_stride, (count - 1) // (num_frames - 1))
    span = (num_frames - 1) * frame_stride + 1
    indices = []
    for i, center in enumerate(_snippet_centers(num_segments, num_snippets)):
        first, last = edges[i // num_snippets], edges[i // num_snippets + 1] - span
        if last < first:  # a segment too short for a snippet
            first, last = 0, count - span
        start = math.floor(position(center) - Fraction(span, 2) + Fraction(1, 2))
        start = min(max(start, first), last)
        indices.extend(range(start, start + span, frame_stride))
    return indices


def motion_pairs(indices: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Between which frames of the video each frame's motion is estimated.

    Args:
      indices: Positions of frames in a video.
      count: Frames in the video.

    Returns:
      A pair of positions a frame: the frame's own and the next one's. The video's last frame takes
      the motion that led to it; the only frame of a video, (0, 0).
    """
    before = [min(index, max(count - 2, 0)) for index in indices]
    return [(index, min(index + 1, count - 1)) for index in before]


def beyond(indices: Sequence[int], count: int) -> list[int]:
    """Positions of the frames that the motion of `indices` needs and that are not among them, ascending."""
    return sorted({index for pair in motion_pairs(indices, count) for index in pair} - set(indices))
