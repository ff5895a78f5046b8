"""Clips to serialized records: decode, degrade, encode. The work of the dataset job."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator

import apache_beam as beam
import cv2
import numpy as np
import tensorflow as tf
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from pipeline.sources.clip import Clip
from stat_tf.data import degrade, record, video

REJECTED = "rejected"
CONTENTS = "contents"
FINGERPRINTS = "fingerprints"


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
      degradation: How the LR frames are made.
    """

    num_segments: int
    num_snippets: int
    num_frames: int
    frame_stride: int
    hr_size: tuple[int, int]
    jpeg_quality: int
    degradation: degrade.Degradation


@dataclasses.dataclass(frozen=True)
class ClipTask:
    """A clip, its label's index (`record.UNLABELED` without one), and the shard it goes to."""

    clip: Clip
    label_index: int
    shard: str


@dataclasses.dataclass(frozen=True)
class StagedRecord:
    """A serialized record in a file of its own, on its way to a shard."""

    clip_id: str
    path: str


# Halving the chroma, as JPEG does by default, would blur the colours that LR frames are made from in training.
_FULL_CHROMA = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)


def noise_seed(clip_id: str) -> np.ndarray:
    """The seed of a clip's stored noise: int32 [2], from the id alone."""
    return np.frombuffer(hashlib.sha256(clip_id.encode()).digest()[:8], "<i4").astype(np.int32)


def source_path(videos: str, clip: Clip) -> str:
    """Where a clip's video lies."""
    if "://" in clip.path or os.path.isabs(clip.path):
        return clip.path
    return FileSystems.join(videos, *clip.path.split("/"))


def rejection(clip: Clip, videos: str, reason: str) -> dict[str, str]:
    """A line of `rejected.jsonl`."""
    path = source_path(videos, clip)
    return {"id": clip.path, "path": path, "label": clip.label, "split": clip.split, "reason": reason}


def _encode_image(suffix: str, picture: np.ndarray, *parameters: int) -> bytes:
    return cv2.imencode(suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), parameters)[1].tobytes()


class ClipToRecord(beam.DoFn):
    """Turns a `ClipTask` into a staged record.

    Records go through a file each, and only their paths through the runner: a local runner keeps
    in memory all that it shuffles.

    Yields (shard, `StagedRecord`), and under tags: `REJECTED`, a `rejection` for
    a video that cannot be used; `CONTENTS`, (SHA-256 of the file, (split, id)) for one that
    can; `FINGERPRINTS`, a digest of the clip's id, label, split, group and contents.
    """

    def __init__(self, settings: RecordSettings, videos: str, staging: str, progress: str | None):
        """Creates the function.

        Args:
          settings: What a record holds.
          videos: Directory that the clips' paths start from.
          staging: Directory for the staged records.
          progress: Directory on the launcher's own machine where each process counts its clips, one
            byte each; None on other machines.
        """
        self._settings = settings
        self._videos = videos
        self._staging = staging
        self._progress = progress
        self._num_records = Metrics.counter("build_dataset", "records")
        self._num_rejected = Metrics.counter("build_dataset", "rejected")

    def setup(self):
        # A worker is one core. The variables matter only to a TensorFlow that has not yet run anything.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
        cv2.setNumThreads(1)
        s = self._settings
        frames = tf.TensorSpec([s.num_segments * s.num_snippets * s.num_frames, *s.hr_size, 3], tf.uint8)

        @tf.function(input_signature=[frames, tf.TensorSpec([2], tf.int32)])
        def degrade_frames(frames, seed):
            return degrade.degrade(frames, s.degradation, seed)

        self._degrade = degrade_frames

    def process(self, task: ClipTask) -> Iterator:
        clip = task.clip
        path = source_path(self._videos, clip)
        content = ""
        try:
            with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
                serialized = self._serialize(task, file)
        except (video.VideoError, OSError) as error:
            reason = error.reason if isinstance(error, video.VideoError) else "it is missing or cannot be opened"
            self._num_rejected.inc()
            yield beam.pvalue.TaggedOutput(REJECTED, rejection(clip, self._videos, reason))
        else:
            staged = FileSystems.join(self._staging, hashlib.sha256(clip.path.encode()).hexdigest())
            with FileSystems.create(staged, compression_type=CompressionTypes.UNCOMPRESSED) as out:
                out.write(serialized)
            self._num_records.inc()
            yield task.shard, StagedRecord(clip.path, staged)
            yield beam.pvalue.TaggedOutput(CONTENTS, (content, (clip.split, clip.path)))
        identity = json.dumps([clip.path, clip.label, clip.split, clip.group, content])
        yield beam.pvalue.TaggedOutput(FINGERPRINTS, hashlib.sha256(identity.encode()).hexdigest())
        if self._progress:
            with open(os.path.join(self._progress, str(os.getpid())), "ab") as count:
                count.write(b".")

    def _serialize(self, task: ClipTask, file) -> bytes:
        s, clip = self._settings, task.clip
        source = video.read_clip(
            clip.path,
            num_segments=s.num_segments,
            num_snippets=s.num_snippets,
            num_frames=s.num_frames,
            frame_stride=s.frame_stride,
            size=s.hr_size,
            file=file,
        )
        lr_frames = self._degrade(source.frames, noise_seed(clip.path)).numpy()
        quality = (cv2.IMWRITE_JPEG_QUALITY, s.jpeg_quality, *_FULL_CHROMA)
        return record.encode(
            record.ClipRecord(
                clip_id=clip.path,
                path=clip.path,
                group=clip.group,
                label=clip.label,
                label_index=task.label_index,
                hr_frames=[_encode_image(".jpg", frame, *quality) for frame in source.frames],
                lr_frames=[_encode_image(".png", frame) for frame in lr_frames],
                timestamps=source.timestamps,
                hr_size=s.hr_size,
                lr_size=s.degradation.lr_size,
                frame_rate=source.frame_rate,
            )
        )
