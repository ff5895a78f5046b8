"""The frames that stand for each part of a cut video; see `cutting` for where the parts lie.

The parts of a run are decoded in one go, one part's frames in memory at a time. What does not decode, and the
frames up to the next key frame, which build on it, cost the parts that need one of them.
"""

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO

import av
import numpy as np

from stat_tf.data import decoding, sampling
from stat_tf.data.cutting import Part, Run
from stat_tf.data.decoding import VideoError
from stat_tf.data.video import VideoClip

# How much earlier to seek, in seconds, where a seek ends behind the key frame that it was to find.
_EARLIER = (0, 1, 5, 30, 150)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is to be read of a part.

    Attributes:
      part: The part.
      span: Positions of all its frames in the run.
      shown: Positions of those to choose among: all, or those known to decode.
      chosen: The K*S*T frames, as indices into `shown`.
      others: Those that motion needs beyond them, as indices into `shown`.
    """

    part: Part
    span: range
    shown: Sequence[int]
    chosen: list[int]
    others: list[int]

    @property
    def wanted(self) -> list[int]:
        """Positions in the run to read, ascending."""
        return sorted({self.shown[i] for i in (*self.chosen, *self.others)})


@dataclasses.dataclass(frozen=True)
class PartReader:
    """Reads the parts of runs; what is read of each is as of `video.read_clip`.

    Attributes:
      num_segments: K.
      num_snippets: S.
      num_frames: T.
      frame_stride: Frames from one of a snippet's frames to the next.
      size: (height, width) of the frames, pixels.
      with_motion: Whether to read the frames too that the chosen ones' motion needs.
    """

    num_segments: int
    num_snippets: int
    num_frames: int
    frame_stride: int
    size: tuple[int, int]
    with_motion: bool = False

    def read(self, path: str, run: Run, file: BinaryIO | None = None) -> Iterator[tuple[Part, VideoClip | VideoError]]:
        """Reads a run's parts.

        Args:
          path: The file; in messages only when `file` is given.
          run: What `cutting.cut_video` found.
          file: The opened file, seekable, for paths that only the caller can open.

        Yields:
          Each part once, in no particular order, with its clip (positions are those within the part), or
          with what is wrong with it.
        """
        source = _Source(path, file, run)
        first = run.lead
        plans = []
        for part in run.parts:
            span = range(first, first + part.count)
            plans.append(self._plan(source, part, span, span))
            first = span.stop
        waiting = {plan.part for plan in plans}
        incomplete = []
        try:
            for plan, result in source.decode(plans, self.size):
                if result is None:
                    incomplete.append(plan)
                else:
                    waiting.remove(plan.part)
                    yield plan.part, result
            for plan in incomplete:
                result = self._read_again(source, plan)
                waiting.remove(plan.part)
                yield plan.part, result
        except (av.FFmpegError, OSError, VideoError) as error:
            why = error if isinstance(error, VideoError) else VideoError(path, decoding.reason(error))
            yield from ((plan.part, why) for plan in plans if plan.part in waiting)

    def _plan(self, source: "_Source", part: Part, span: range, shown: Sequence[int]) -> _Plan:
        times = [source.times[position] for position in shown]
        chosen = sampling.sample_frames(times, self.num_segments, self.num_snippets, self.num_frames, self.frame_stride)
        return _Plan(part, span, shown, chosen, sampling.beyond(chosen, len(shown)) if self.with_motion else [])

    def _read_again(self, source: "_Source", plan: _Plan) -> VideoClip | VideoError:
        """Reads a part of which some packets give no frame, though none is damaged, from those that do."""
        shown = source.find_shown(plan.span) if source.run.exact else []
        if not shown:
            return VideoError(source.path, "no frame of it can be decoded")
        ((_, result),) = source.decode([self._plan(source, plan.part, plan.span, shown)], self.size)
        return result or VideoError(source.path, "it decodes differently each time it is read")


class _Source:
    """A run's file: positions in a run to decoded frames."""

    def __init__(self, path: str, file: BinaryIO | None, run: Run):
        self.path, self.run, self.times = path, run, run.times()
        self._file = file

    def decode(
        self, plans: Sequence[_Plan], size: tuple[int, int]
    ) -> Iterator[tuple[_Plan, VideoClip | VideoError | None]]:
        """Decodes in one go; each plan's result is None where a wanted frame does not appear, undamaged as it is."""
        wanted = sorted(set(itertools.chain.from_iterable(plan.wanted for plan in plans)))
        pictures, damage = {}, set()
        waiting = list(plans)[::-1]

        def finish(plan: _Plan):
            found = {position: pictures.pop(position) for position in plan.wanted if position in pictures}
            if damage.intersection(plan.wanted):
                return plan, VideoError(self.path, "a piece of it is damaged")
            return plan, self._clip(plan, found) if len(found) == len(plan.wanted) else None

        with decoding.open_video(self.path, self._file) as (container, stream):
            framer = decoding.Framer(stream.sample_aspect_ratio, size)
            for position, frame in self._walk(container, stream, wanted):
                if frame is None:
                    damage.add(position)
                    continue
                while waiting and position >= waiting[-1].span.stop:
                    yield finish(waiting.pop())
                if decoding.find(wanted, position) is not None:
                    pictures[position] = framer.picture(frame)
        while waiting:
            yield finish(waiting.pop())

    def find_shown(self, span: range) -> list[int]:
        """Which frames of a span decode, undamaged."""
        with decoding.open_video(self.path, self._file) as (container, stream):
            return [position for position, frame in self._walk(container, stream, span) if frame and position in span]

    def _clip(self, plan: _Plan, found: dict[int, np.ndarray]) -> VideoClip:
        times = [self.times[position] for position in plan.shown]
        positions = [plan.shown[i] for i in plan.chosen]
        return VideoClip(
            frames=np.stack([found[position] for position in positions]),
            timestamps=[round(self.times[position] * self.run.time_base * 1_000_000) for position in positions],
            frame_rate=decoding.average_rate(times, self.run.time_base, self.run.nominal_rate),
            indices=plan.chosen,
            count=len(times),
            others={i: found[plan.shown[i]] for i in plan.others},
        )

    def _walk(
        self, container: av.container.InputContainer, stream: av.VideoStream, wanted: Sequence[int]
    ) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Decodes what is wanted and what lies between; seeks over long gaps.

        Yields:
          Positions of frames, ascending, with the frame; and positions of what is damaged, with None.
        """
        for start, group in decoding.group_runs(wanted, self.run.key_frames):
            if start == 0 and self.run.from_start:
                packets = decoding.packets_of(container, stream)
            else:
                packets = _packets_from(container, stream, self.times[start])
            damaged = None  # the position from which on frames are not to be trusted, up to the next key frame
            latest = start - 1
            for item in decoding.decode_packets(packets):
                if isinstance(item, av.Packet):
                    position = self._damaged_position(item, latest)
                    if position is not None and position >= start:
                        damaged = position if damaged is None else min(damaged, position)
                    continue
                position = decoding.find(self.times, item.pts) if self.run.exact else latest + 1
                if position is None or position <= latest:
                    if self.run.exact and item.pts is not None and item.pts > self.times[group[-1]]:
                        break
                    continue
                latest = position
                if item.is_corrupt:
                    damaged = position if damaged is None else min(damaged, position)
                elif damaged is not None and item.key_frame and position > damaged:
                    yield from ((lost, None) for lost in range(damaged, position))
                    damaged = None
                if damaged is None or position < damaged:
                    yield position, item
                if position >= group[-1]:
                    break
            if damaged is not None:
                yield from ((lost, None) for lost in range(damaged, group[-1] + 1))

    def _damaged_position(self, packet: av.Packet, latest: int) -> int | None:
        """Where the frame of a packet that does not decode would stand."""
        if not self.run.exact:
            return latest + 1
        return None if packet.pts is None else bisect.bisect_left(self.times, packet.pts)


def _packets_from(container: av.container.InputContainer, stream: av.VideoStream, time: int) -> Iterable[av.Packet]:
    """Packets from the key frame at a time on; MPEG streams have no table of these and are sought through."""
    for earlier in _EARLIER:
        try:
            container.seek(time - int(earlier / stream.time_base), stream=stream)
        except av.FFmpegError:
            continue
        packets = decoding.packets_of(container, stream)
        for packet in packets:
            if packet.pts == time:
                return itertools.chain([packet], packets)
            if packet.dts is not None and packet.dts > time:
                break
    return ()
