"""Clips to serialized records: decode, degrade, estimate motion, encode. The work of the dataset job."""

import dataclasses
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping

import apache_beam as beam
import cv2
import numpy as np
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from pipeline import decoder, progress, staging
from pipeline.sources import files
from pipeline.sources.clip import Clip
from stat_tf.data import cutting, degrade, flow, info, record, video

Size = tuple[int, int]

# Kinds of what the job's steps yield.
RECORDS = "records"
REJECTED = "rejected"
CONTENTS = "contents"
FINGERPRINTS = "fingerprints"
ODDITIES = "oddities"
# Oddities of clips that are stored.
STRETCHED = "stretched"  # it has too few frames, and repeats some
CUT_SHORT = "cut short"  # the video states more frames than there are

# Headers are often wrong by a frame or two.
_WHOLE = 0.9  # of the frames that a video states


@dataclasses.dataclass(frozen=True)
class RecordSettings:
    """What a clip's record holds.

    Attributes:
      num_segments: K, segments a clip.
      num_snippets: S, snippets a segment.
      num_frames: T, frames a snippet.
      frame_stride: Frames of the video from one of a snippet's frames to the next.
      hr_size: (height, width) of the HR frames, pixels.
      jpeg_quality: Of the HR frames, 1-100.
      lr_sizes: (height, width) of the LR frames, pixels; the first is the dataset's default.
      lens_blur: Of the LR frames; see `degrade.Degradation`.
      noise: Of the LR frames; see `degrade.Degradation`.
      flow: How optical flow is estimated and stored; None stores none.
    """

    num_segments: int
    num_snippets: int
    num_frames: int
    frame_stride: int
    hr_size: Size
    jpeg_quality: int
    lr_sizes: tuple[Size, ...]
    lens_blur: float
    noise: float
    flow: info.FlowInfo | None = None

    @property
    def num_places(self) -> int:
        """K*T, the frames below which a video repeats some; see `sampling.sample_frames`."""
        return self.num_segments * self.num_frames


@dataclasses.dataclass(frozen=True)
class ClipTask:
    """What becomes one record, or a few.

    Attributes:
      clip: The clip, or the video that was cut.
      label_index: Its label's index; `record.UNLABELED` without one.
      shard: The shard it goes to; "" where that depends on how many clips there will be.
      run: Which parts of the video to read, of one that was cut; None for a whole video.
    """

    clip: Clip
    label_index: int
    shard: str
    run: cutting.Run | None = None


@dataclasses.dataclass(frozen=True)
class StagedRecord:
    """A serialized record in a file of its own, on its way to a shard."""

    clip_id: str
    path: str


def stage(serialized: bytes, clip_id: str, place: str) -> StagedRecord:
    """Writes a record to a file of its own in a directory.

    Raises:
      UserError: It cannot be written.
    """
    # A runner may try again, while the first try still writes: a name for each, of which one reaches the shard.
    path = FileSystems.join(place, f"{hashlib.sha256(clip_id.encode()).hexdigest()}-{uuid.uuid4().hex}")
    with staging.writing(place):
        files.write(path, serialized)
    return StagedRecord(clip_id, path)


# Halving the chroma, as JPEG does by default, would blur the colours that LR frames are made from in training.
_FULL_CHROMA = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


def noise_seed(clip_id: str, draw: int = 0) -> np.ndarray:
    """The seed of a clip's noise: int32 [2], from the id alone.

    Args:
      clip_id: The clip's id.
      draw: 0 for the stored frames, 1 for those that only their motion needs.
    """
    digest = hashlib.sha256(clip_id.encode()).digest()
    return np.frombuffer(digest[8 * draw : 8 * draw + 8], "<i4").astype(np.int32)


def source_path(videos: str, clip: Clip) -> str:
    """Where a clip's video lies."""
    if clip.file:
        return clip.file
    if "://" in clip.path or os.path.isabs(clip.path):
        return clip.path
    return FileSystems.join(videos, *clip.path.split("/"))


def rejection(clip: Clip, videos: str, reason: str, clip_id: str | None = None) -> dict[str, str]:
    """A line of `rejected.jsonl`; `clip_id` where only a part of the video is rejected."""
    path = source_path(videos, clip)
    return {"id": clip_id or clip.path, "path": path, "label": clip.label, "split": clip.split, "reason": reason}


def fingerprint(clip: Clip, content: str) -> str:
    """A digest of what a video contributes to a dataset; `content` is its file's."""
    identity = [clip.path, clip.label, clip.split, clip.group, content]
    if clip.clip_seconds:
        identity.append(clip.clip_seconds)
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def _degrader(hr_size: Size, degradation: degrade.Degradation) -> Callable[[np.ndarray, np.ndarray], tf.Tensor]:
    """`degrade.degrade` as a graph, traced once for any number of frames."""
    frames = tf.TensorSpec([None, *hr_size, 3], tf.uint8)
    return tf.function(
        lambda frames, seed: degrade.degrade(frames, degradation, seed),
        input_signature=[frames, tf.TensorSpec([2], tf.int32)],
    )


def _encode_image(suffix: str, picture: np.ndarray, *parameters: int) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), parameters)[1].tobytes()


def _encode_flow(fields: np.ndarray, bounds: tuple[float, float]) -> list[bytes]:
    """Quantises and encodes float32 [N, H, W, 2]: x in red, y in green, nothing in blue."""
    levels = flow.quantize(fields, bounds)
    return [_encode_image(".png", picture) for picture in np.pad(levels, [(0, 0)] * 3 + [(0, 1)])]


class ClipToRecord(beam.DoFn):
    """Turns a `ClipTask` into a staged record, or into one for each of its parts.

    Records go through a file each, and only their paths through the runner: a local runner keeps
    in memory all that it shuffles.

    Yields (kind, value) pairs: `RECORDS`, (shard, `StagedRecord`); `ODDITIES`, (`STRETCHED` or `CUT_SHORT`, (1, id));
    `REJECTED`, a `rejection` for a clip that cannot be used; of whole videos, `CONTENTS`, (SHA-256 of the file, (split,
    id)) for one that can, and `FINGERPRINTS`, the `fingerprint` of each.
    """

    def __init__(
        self,
        settings: RecordSettings,
        videos: str,
        place: str,
        progress: str | None,
        clip_timeout: float = decoder.TIMEOUT,
    ):
        """Creates the function.

        Args:
          settings: What a record holds.
          videos: Directory that the clips' paths start from.
          place: Directory for the staged records.
          progress: Directory on the launcher's own machine where each process counts its clips; None on
            other machines.
          clip_timeout: Seconds that reading a clip may take.
        """
        self._settings = settings
        self._clip_timeout = clip_timeout
        self._videos = videos
        self._place = place
        self._progress = progress
        self._num_records = Metrics.counter("build_dataset", "records")
        self._num_rejected = Metrics.counter("build_dataset", "rejected")

    def setup(self):
        # A worker is one core. The variables matter only to a TensorFlow that has not yet run anything.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
        cv2.setNumThreads(1)
        s = self._settings
        self._degrade = {
            size: _degrader(s.hr_size, degrade.Degradation(size, s.lens_blur, s.noise)) for size in s.lr_sizes
        }
        self._estimate = flow.FlowEstimator(s.flow.method) if s.flow else None

        # What is read of a clip, be it a video or a part of one.
        self._wanted = {
            "num_segments": s.num_segments,
            "num_snippets": s.num_snippets,
            "num_frames": s.num_frames,
            "frame_stride": s.frame_stride,
            "size": s.hr_size,
            "with_motion": s.flow is not None,
        }
        self._decoder = decoder.Decoder(self._clip_timeout)

    def teardown(self):
        self._decoder.close()

    def process(self, task: ClipTask) -> Iterator:
        return self._convert_parts(task) if task.run else self._convert_whole(task)

    def _convert_whole(self, task: ClipTask) -> Iterator:
        clip = task.clip
        content, source = self._decoder.read_clip(clip.path, source_path(self._videos, clip), self._wanted)
        if isinstance(source, video.VideoError):
            yield self._reject(clip, source.reason)
        else:
            yield self._stage(task, clip.path, source)
            yield from self._oddities(clip.path, source)
            yield CONTENTS, (content, (clip.split, clip.path))
        yield FINGERPRINTS, fingerprint(clip, content)

    def _convert_parts(self, task: ClipTask) -> Iterator:
        clip = task.clip
        parts = self._decoder.read_parts(clip.path, source_path(self._videos, clip), task.run, self._wanted)
        for part, source in parts:
            clip_id = f"{clip.path}#{part.fragment}"
            if isinstance(source, video.VideoError):
                yield self._reject(clip, source.reason, clip_id)
            else:
                yield self._stage(task, clip_id, source)
                yield from self._oddities(clip_id, source)

    def _oddities(self, clip_id: str, source: video.VideoClip) -> Iterator[tuple[str, tuple]]:
        if source.count < self._settings.num_places:
            yield ODDITIES, (STRETCHED, (1, clip_id))
        if source.count < _WHOLE * source.stated_count:
            yield ODDITIES, (CUT_SHORT, (1, clip_id))

    def _reject(self, clip: Clip, reason: str, clip_id: str | None = None) -> tuple[str, dict]:
        self._num_rejected.inc()
        progress.report(self._progress, done=1)
        return REJECTED, rejection(clip, self._videos, reason, clip_id)

    def _stage(self, task: ClipTask, clip_id: str, source: video.VideoClip) -> tuple[str, tuple]:
        staged = stage(self._serialize(task, clip_id, source), clip_id, self._place)
        self._num_records.inc()
        progress.report(self._progress, done=1)
        return RECORDS, (task.shard, staged)

    def _serialize(self, task: ClipTask, clip_id: str, source: video.VideoClip) -> bytes:
        s, clip = self._settings, task.clip
        seed = noise_seed(clip_id)
        lr_frames = {size: make(source.frames, seed).numpy() for size, make in self._degrade.items()}
        hr_flow, lr_flow = self._estimate_flow(clip_id, source, lr_frames) if s.flow else (None, None)
        quality = (cv2.IMWRITE_JPEG_QUALITY, s.jpeg_quality, *_FULL_CHROMA)
        return record.encode(
            record.ClipRecord(
                clip_id=clip_id,
                path=clip.path,
                group=clip.group,
                label=clip.label,
                label_index=task.label_index,
                hr_frames=[_encode_image(".jpg", frame, *quality) for frame in source.frames],
                lr_frames={size: [_encode_image(".png", one) for one in frames] for size, frames in lr_frames.items()},
                timestamps=source.timestamps,
                hr_size=s.hr_size,
                frame_rate=source.frame_rate,
                hr_flow=hr_flow,
                lr_flow=lr_flow,
            )
        )

    def _estimate_flow(
        self, clip_id: str, source: video.VideoClip, lr_frames: Mapping[Size, np.ndarray]
    ) -> tuple[list[bytes], dict[Size, list[bytes]]]:
        """Returns the encoded flow of the HR frames, and of the LR frames by size."""
        s, seed, pictures = self._settings, noise_seed(clip_id, draw=1), source.pictures
        fields = flow.snippet_flow(self._estimate, pictures, source.indices, source.count)
        hr_flow = _encode_flow(fields, flow.bounds(s.flow.bound, s.hr_size, s.hr_size))
        lr_flow = {}
        for size, make in self._degrade.items():
            fields = flow.degraded_flow(
                self._estimate,
                lr_frames[size],
                pictures,
                source.indices,
                source.count,
                s.num_frames,
                lambda others, make=make: make(others, seed).numpy(),
            )
            lr_flow[size] = _encode_flow(fields, flow.bounds(s.flow.bound, s.hr_size, size))
        return hr_flow, lr_flow
