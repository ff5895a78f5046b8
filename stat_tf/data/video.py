"""Frames of a video file, decoded with PyAV. The only place that touches a video codec.

A file is read twice. The first pass reads packets and decodes nothing: it finds the times and
key frames, since the frame counts and durations that containers state are often wrong. The second
decodes what is needed and seeks over what is not, so that neither the memory nor (for long videos)
the work grows with the clip's length, but for the eight bytes of each frame's time.
"""

import bisect
import contextlib
import dataclasses
import itertools
import os
from array import array
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np

from stat_tf import errors
from stat_tf.data import degrade, flow, sampling

# Decoding this many frames costs about as much as a seek.
_SEEK_GAP = 32

_Interpolation = av.video.reformatter.Interpolation
# Colour at full resolution, in and out, and the same bytes on every processor.
_ACCURATE = (
    _Interpolation.FULL_CHR_H_INP
    | _Interpolation.FULL_CHR_H_INT
    | _Interpolation.ACCURATE_RND
    | _Interpolation.BITEXACT
)


class VideoError(errors.UserError):
    """A video that cannot be used. The message names the file and what is wrong with it.

    Attributes:
      path: The file.
      reason: What is wrong with it, without its name.
    """

    def __init__(self, path: str, reason: str):
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path} cannot be used as a video: {self.reason}."


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
    """

    frames: np.ndarray
    timestamps: list[int]
    frame_rate: float
    indices: list[int]
    count: int
    others: dict[int, np.ndarray]

    @property
    def pictures(self) -> dict[int, np.ndarray]:
        """All frames that were read, uint8 [H, W, 3], by position in the video."""
        return dict(zip(self.indices, self.frames, strict=True)) | self.others


@dataclasses.dataclass(frozen=True)
class _Index:
    """The frames of a stream in order of presentation.

    Attributes:
      times: int64, in units of the stream's time base, ascending.
      key_frames: Positions in `times` from which decoding can start.
      exact: Whether a decoded frame's timestamp is the one in `times`. Otherwise (AVI with B frames
        gives only decoding times) frames have to be counted from the first on.
      time_base: Seconds a unit of `times`.
      nominal_rate: Frames a second as the container states them; 0 when it does not.
    """

    times: array
    key_frames: list[int]
    exact: bool
    time_base: Fraction
    nominal_rate: float

    @property
    def frame_rate(self) -> float:
        """Average frames a second, from the times where they tell."""
        duration = (self.times[-1] - self.times[0]) * self.time_base
        return float((len(self.times) - 1) / duration) if duration > 0 else self.nominal_rate


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
      with_motion: Whether to read the frames too that the chosen ones' motion needs; see `flow.pairs`.
      file: The opened file, seekable, for paths that only the caller can open.

    Returns:
      The clip.

    Raises:
      VideoError: The file is missing, empty, no video, has no video stream, or no frame decodes.
    """

    def choose(index: _Index) -> tuple[list[int], list[int]]:
        chosen = sampling.sample_frames(index.times, num_segments, num_snippets, num_frames, frame_stride)
        return chosen, flow.beyond(chosen, len(index.times)) if with_motion else []

    try:
        with _open(path, file) as (container, stream):
            index = _read_index(container, stream)
        chosen, others = choose(index) if index.times else ([], [])
        found = _decode(path, file, index, sorted({*chosen, *others}), size) if chosen else None
        if found is None:
            index = _decodable_index(path, file)
            if not index.times:
                raise VideoError(path, "no frame of it can be decoded")
            chosen, others = choose(index)
            found = _decode(path, file, index, sorted({*chosen, *others}), size)
    except (av.FFmpegError, OSError) as error:
        raise VideoError(path, _reason(error)) from error
    if found is None:
        raise VideoError(path, "it decodes differently each time it is read")
    return VideoClip(
        frames=np.stack([found[i] for i in chosen]),
        timestamps=[round(index.times[i] * index.time_base * 1_000_000) for i in chosen],
        frame_rate=index.frame_rate,
        indices=chosen,
        count=len(index.times),
        others={i: found[i] for i in others},
    )


def _reason(error: Exception) -> str:
    if isinstance(error, av.InvalidDataError | av.EOFError):
        return "it is no video file, or a part of it is missing"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


@contextlib.contextmanager
def _open(path: str, file: BinaryIO | None) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    """Opens a file's first moving picture (a sound file's cover is none)."""
    if file:
        num_bytes = file.seek(0, os.SEEK_END)
        file.seek(0)
    else:
        num_bytes = os.path.getsize(path)
    if not num_bytes:
        raise VideoError(path, "it is empty")
    with av.open(file or path, metadata_errors="replace") as container:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise VideoError(path, "it has no video stream")
        # A worker is one core; frame threads would also delay every frame by the number of cores.
        streams[0].codec_context.thread_count = 1
        streams[0].codec_context.thread_type = "NONE"
        yield container, streams[0]


def _packets(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
    """The packets up to the end of the file, or to the damage that hides the rest, then an empty one."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except (av.FFmpegError, OSError):
            packet = None
        if packet is None:
            return
        yield packet


def _frames(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decodes from where the container stands; packets that do not decode are passed over."""
    for packet in _packets(container, stream):
        try:
            yield from packet.decode()
        except av.FFmpegError:
            continue


def _read_index(container: av.container.InputContainer, stream: av.VideoStream) -> _Index:
    """The first pass: finds every frame's time without decoding any."""
    presented, decoded, keys = array("q"), array("q"), array("q")
    for packet in _packets(container, stream):
        if not packet.size or packet.is_discard:
            continue
        if packet.pts is not None:
            presented.append(packet.pts)
            if packet.is_keyframe:
                keys.append(packet.pts)
        decoded.append(packet.dts if packet.dts is not None else len(decoded))
    complete = len(presented) == len(decoded)
    times = array("q", sorted(presented if complete else decoded))
    # What AVI gives as presentation times are decoding times.
    exact = complete and container.format.name != "avi" and all(a < b for a, b in itertools.pairwise(times))
    key_frames = sorted(bisect.bisect_left(times, key) for key in keys) if exact else []
    return _Index(times, key_frames, exact, stream.time_base, float(stream.average_rate or 0))


def _decodable_index(path: str, file: BinaryIO | None) -> _Index:
    """Finds the frames that decode, by decoding them all; for damaged files and untrue timestamps."""
    times = array("q")
    with _open(path, file) as (container, stream):
        rate = stream.average_rate or Fraction(25)
        for frame in _frames(container, stream):
            times.append(frame.pts if frame.pts is not None else round(len(times) / (rate * stream.time_base)))
        return _Index(array("q", sorted(times)), [], False, stream.time_base, float(rate))


def _runs(wanted: Sequence[int], key_frames: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Groups frames that are decoded in one go: (where to start, frames) with a seek before each but the first."""
    runs = [(0, [])]
    position = 0
    for frame in wanted:
        before = bisect.bisect_right(key_frames, frame) - 1
        if before >= 0 and key_frames[before] - position > _SEEK_GAP:
            runs.append((key_frames[before], []))
        runs[-1][1].append(frame)
        position = frame + 1
    return [run for run in runs if run[1]]


def _decode(
    path: str, file: BinaryIO | None, index: _Index, wanted: Sequence[int], size: tuple[int, int]
) -> dict[int, np.ndarray] | None:
    """The second pass: decodes the wanted frames.

    Returns:
      uint8 [H, W, 3] by position in `index.times`; None if one of them does not appear there.
    """
    found = {}
    with _open(path, file) as (container, stream):
        framer = _Framer(stream.sample_aspect_ratio, size)
        for start, run in _runs(wanted, index.key_frames):
            if start:
                container.seek(index.times[start], stream=stream)
            pending = set(run)
            latest = -1
            for count, frame in enumerate(_frames(container, stream)):
                position = _find(index.times, frame.pts) if index.exact else count
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


def _find(times: Sequence[int], time: int | None) -> int | None:
    if time is None:
        return None
    position = bisect.bisect_left(times, time)
    return position if position < len(times) and times[position] == time else None


class _Framer:
    """Makes pictures of the wanted size from a stream's frames: cropped, resized, RGB, upright."""

    def __init__(self, pixel_aspect: Fraction | None, size: tuple[int, int]):
        self._pixel_aspect = float(pixel_aspect or 1)
        self._size = size
        self._reformatter = av.video.reformatter.VideoReformatter()
        self._croppers = {}  # a stream may change its size on the way

    def picture(self, frame: av.VideoFrame) -> np.ndarray:
        """Returns uint8 [H, W, 3]."""
        swapped, flip_rows, flip_columns = _display_turns(frame)
        height, width = self._size[::-1] if swapped else self._size
        box = degrade.center_crop_box((frame.height, frame.width), width / height / self._pixel_aspect)
        shrinks = box[2] >= height and box[3] >= width
        picture = self._reformatter.reformat(
            self._crop(frame, box),
            width=width,
            height=height,
            format="rgb24",
            interpolation=(_Interpolation.AREA if shrinks else _Interpolation.BILINEAR) | _ACCURATE,
            threads=1,
        ).to_ndarray()
        if swapped:
            picture = picture.transpose(1, 0, 2)
        return picture[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]

    def _crop(self, frame: av.VideoFrame, box: tuple[int, int, int, int]) -> av.VideoFrame:
        top, left, height, width = box
        if (height, width) == (frame.height, frame.width):
            return frame
        key = (frame.width, frame.height, frame.format.name)
        if key not in self._croppers:
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1_000_000)
            )
            crop, sink = graph.add("crop", f"{width}:{height}:{left}:{top}"), graph.add("buffersink")
            graph.link_nodes(source, crop, sink).configure()
            self._croppers[key] = graph
        self._croppers[key].vpush(frame)
        return self._croppers[key].vpull()


def _display_turns(frame: av.VideoFrame) -> tuple[bool, bool, bool]:
    """How the display matrix turns a frame: whether to swap its axes, then to flip its rows, its columns."""
    matrix = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    if matrix is None:
        return False, False, False
    # A pixel at (x, y) is shown at (a * x + c * y, b * x + d * y).
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return (True, b < 0, c < 0) if abs(b) > abs(a) else (False, d < 0, a < 0)
