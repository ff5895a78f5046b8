"""How a video file is opened, indexed and decoded: the only place that touches a video codec."""

import bisect
import contextlib
import dataclasses
import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import BinaryIO

import av
import numpy as np

from stat_tf import errors
from stat_tf.data import sizes

# Decoding this many frames costs about as much as a seek.
_SEEK_GAP = 32

TOO_MUCH_MEMORY = "reading it takes too much memory"

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
class Index:
    """The frames of a stream in order of presentation.

    Attributes:
      times: int64, in units of the stream's time base, ascending.
      key_frames: Positions in `times` from which decoding can start.
      exact: Whether a decoded frame's timestamp is the one in `times`. Otherwise (AVI with B frames
        gives only decoding times) frames have to be counted from the first on.
      time_base: Seconds a unit of `times`.
      nominal_rate: Frames a second as the container states them; 0 when it does not.
      stated_frames: How many frames the container says that there are; 0 when it does not.
    """

    times: array
    key_frames: list[int]
    exact: bool
    time_base: Fraction
    nominal_rate: float
    stated_frames: int


def average_rate(times: Sequence[int], time_base: Fraction, nominal_rate: float) -> float:
    """Frames a second from the frames' times, or the container's word where they do not tell."""
    duration = (times[-1] - times[0]) * time_base
    return float((len(times) - 1) / duration) if duration > 0 else nominal_rate


def reason(error: Exception) -> str:
    """What is wrong with a video, from FFmpeg's or the file system's error."""
    if isinstance(error, MemoryError):
        return TOO_MUCH_MEMORY
    if isinstance(error, av.InvalidDataError | av.EOFError):
        return "it is no video file, or a part of it is missing"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()


@contextlib.contextmanager
def open_video(path: str, file: BinaryIO | None) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
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
        if not streams[0].codec_context:
            raise VideoError(path, "its codec is unknown, or its header is damaged")
        # A worker is one core; frame threads would also delay every frame by the number of cores.
        streams[0].codec_context.thread_count = 1
        streams[0].codec_context.thread_type = "NONE"
        yield container, streams[0]


def packets_of(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.Packet]:
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


def decode_packets(packets: Iterable[av.Packet]) -> Iterator[av.VideoFrame | av.Packet]:
    """Decodes packets to frames in order of presentation; yields, among them, the packets that do not decode."""
    for packet in packets:
        try:
            yield from packet.decode()
        except av.FFmpegError as error:
            if isinstance(error, MemoryError):  # which is not the packet's fault alone
                raise
            yield packet


def frames_of(container: av.container.InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """Decodes from where the container stands; packets that do not decode are passed over."""
    found = decode_packets(packets_of(container, stream))
    return (item for item in found if isinstance(item, av.VideoFrame))


def read_index(container: av.container.InputContainer, stream: av.VideoStream) -> Index:
    """The first pass: finds every frame's time without decoding any."""
    presented, decoded, keys = array("q"), array("q"), array("q")
    for packet in packets_of(container, stream):
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
    return Index(times, key_frames, exact, stream.time_base, float(stream.average_rate or 0), stream.frames)


def read_decodable_index(path: str, file: BinaryIO | None) -> Index:
    """Finds the frames that decode, by decoding them all; for damaged files and untrue timestamps."""
    times = array("q")
    with open_video(path, file) as (container, stream):
        rate = stream.average_rate or Fraction(25)
        for frame in frames_of(container, stream):
            times.append(frame.pts if frame.pts is not None else round(len(times) / (rate * stream.time_base)))
        return Index(array("q", sorted(times)), [], False, stream.time_base, float(rate), stream.frames)


def group_runs(wanted: Sequence[int], key_frames: Sequence[int]) -> list[tuple[int, list[int]]]:
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


def find(times: Sequence[int], time: int | None) -> int | None:
    """The position of a time among ascending ones; None if it is not there."""
    if time is None:
        return None
    position = bisect.bisect_left(times, time)
    return position if position < len(times) and times[position] == time else None


class Framer:
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
        box = sizes.center_crop_box((frame.height, frame.width), width / height / self._pixel_aspect)
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
