"""Clips of a dataset to records of teacher signals: look, let the teacher look, encode. The work of the signals job."""

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference import base as inference

from pipeline import clips_to_records, cores, progress, shard_files
from pipeline.clips_to_records import StagedRecord
from stat_tf import signals as signals_lib
from stat_tf import stores
from stat_tf.data import augment, degrade, info, record
from stat_tf.data import views as views_lib
from stat_tf.training import checkpoints

# What the steps yield, each with its kind.
RUN, RECORD, FAULT = "run", "record", "fault"
# Clips a bundle's worth: a reader passes over those before them in their shard, which costs next to nothing.
_CLIPS_A_RUN = 32


@dataclasses.dataclass(frozen=True)
class SourceShard:
    """A shard of the dataset.

    Attributes:
      split: Its split.
      path: Where it lies.
      shard: Its name, records and checksum.
    """

    split: str
    path: str
    shard: info.Shard


@dataclasses.dataclass(frozen=True)
class Run:
    """Some clips of a shard: those from `start` to before `stop`."""

    split: str
    path: str
    name: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class SourceClip:
    """A clip's record, and the shard that holds it and gives its name to the shard of its signals."""

    shard: str
    serialized: bytes


@dataclasses.dataclass(frozen=True)
class Looks:
    """A clip as V views show it.

    Attributes:
      source: The clip.
      lr_frames: V*K*T PNG images.
      timestamps: V*K*T times, microseconds.
      hr: uint8 [V, K, T, H, W, 3], for the teacher.
    """

    source: SourceClip
    lr_frames: Sequence[bytes]
    timestamps: Sequence[int]
    hr: np.ndarray


@dataclasses.dataclass(frozen=True)
class ViewSettings:
    """How views are made.

    Attributes:
      dataset: The dataset's description.
      augmentation: What may happen to the HR frames.
      degradation: How LR frames are made from them.
      num_views: V.
      seed: With a clip's id and a view's number, decides the view.
    """

    dataset: info.DatasetInfo
    augmentation: augment.Augmentation
    degradation: degrade.Degradation
    num_views: int
    seed: int


def view_seed(seed: int, clip_id: str, view: int) -> np.ndarray:
    """What one view of a clip is drawn from, int64 [2]: nothing else counts, not even how many views there are."""
    digest = hashlib.sha256(f"{seed}/{view}/{clip_id}".encode()).digest()
    return np.frombuffer(digest[:16], "<i8").astype(np.int64)


class VerifyShard(beam.DoFn):
    """Yields (`RUN`, `Run`) for all clips of a `SourceShard`, or (`FAULT`, a sentence) for one damaged or gone."""

    def process(self, source: SourceShard) -> Iterator:
        found = shard_files.digest(source.path)
        if not found or found[0] != source.shard.sha256:
            yield (
                FAULT,
                f"Shard {source.path} is damaged: its checksum is not the one in {info.FILE_NAME}. Copy it anew or "
                "build the dataset again.",
            )
            return
        for start in range(0, source.shard.num_clips, _CLIPS_A_RUN):
            stop = min(start + _CLIPS_A_RUN, source.shard.num_clips)
            yield RUN, Run(source.split, source.path, source.shard.name, start, stop)


def read_run(run: Run) -> Iterator[SourceClip]:
    """Reads the clips of a run."""
    stores.connect(run.path)
    clips = tf.data.TFRecordDataset(run.path).skip(run.start).take(run.stop - run.start)
    for serialized in clips.as_numpy_iterator():
        yield SourceClip(run.name, serialized)


class MakeViews(beam.DoFn):
    """Turns a `SourceClip` into `Looks`."""

    def __init__(self, settings: ViewSettings):
        self._settings = settings

    def setup(self):
        cores.use_one()
        self._look = looker(self._settings)

    def process(self, source: SourceClip) -> Iterator[Looks]:
        s = self._settings
        clip_id = _clip_id(source)
        seeds = [view_seed(s.seed, clip_id, view) for view in range(s.num_views)]
        hr, frames, timestamps = zip(*(self._look(source.serialized, seed) for seed in seeds), strict=True)
        yield Looks(source, np.concatenate(frames).tolist(), np.concatenate(timestamps).tolist(), np.stack(hr))


def looker(settings: ViewSettings) -> Callable[[bytes, np.ndarray], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """A graph from a record and a view's seed to the HR view (uint8 [K, T, H, W, 3]), LR PNG images and times [K*T]."""
    look = views_lib.draw(settings.dataset, augmentation=settings.augmentation, degradation=settings.degradation)

    @tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([2], tf.int64)])
    def look_once(serialized, seed):
        seen = look(serialized, seed)
        lr = tf.reshape(seen["lr"], [-1, *settings.degradation.lr_size, 3])
        encoded = tf.map_fn(tf.io.encode_png, lr, fn_output_signature=tf.TensorSpec([], tf.string))
        return seen["hr"], encoded, seen["timestamps"]

    return look_once


class TeacherHandler(inference.ModelHandler[Looks, inference.PredictionResult, Callable]):
    """How RunInference runs the teacher: loaded once a process, a view at a time.

    A view's signals depend on nothing but the view, where batches of other sizes would let convolutions add up in
    another order.
    """

    def __init__(self, teacher_run: str, grids: Sequence[signals_lib.Grid]):
        """Creates the handler.

        Args:
          teacher_run: The teacher's run directory.
          grids: The student's, stage by stage.
        """
        super().__init__(min_batch_size=1, max_batch_size=1)
        self._teacher_run = teacher_run
        self._grids = tuple(grids)

    def load_model(self) -> Callable[[np.ndarray], dict[str, tf.Tensor]]:
        cores.use_one()
        teacher, config = checkpoints.load_recognizer(self._teacher_run)
        num_segments = config.recognizer.num_segments

        @tf.function(input_signature=[tf.TensorSpec([1, *config.recognizer.clip_shape], tf.uint8)])
        def signals_of(clips):
            signals = signals_lib.of_activations(teacher.activations(clips, training=False), self._grids)
            return signals_lib.for_storage(signals, num_segments)

        return signals_of

    def run_inference(
        self,
        batch: Sequence[Looks],
        model: Callable[[np.ndarray], dict[str, tf.Tensor]],
        inference_args: Mapping[str, object] | None = None,
    ) -> Iterable[inference.PredictionResult]:
        for looks in batch:
            views = [model(view[np.newaxis]) for view in looks.hr]
            signals = {name: np.concatenate([view[name] for view in views]) for name in signals_lib.NAMES}
            yield inference.PredictionResult(looks, signals)

    def get_num_bytes(self, batch: Sequence[Looks]) -> int:
        return sum(looks.hr.nbytes for looks in batch)

    def get_metrics_namespace(self) -> str:
        return "teacher_signals"


class _Stage(beam.DoFn):
    """Writes records to files of their own; only their paths go through the runner, as in `clips_to_records`."""

    def __init__(self, staging: str, count: str | None):
        """Creates the function.

        Args:
          staging: Directory for the staged records.
          count: From `progress.directory`.
        """
        self._staging, self._count = staging, count

    def _stage(self, source: SourceClip, views: record.LrViews) -> tuple[str, tuple[str, StagedRecord]]:
        clip_id = _clip_id(source)
        staged = clips_to_records.stage(record.encode_views(source.serialized, views), clip_id, self._staging)
        progress.report(self._count, done=1)
        return RECORD, (source.shard, staged)


class StageSignals(_Stage):
    """Yields (`RECORD`, (shard, `StagedRecord`)) of what RunInference gives, or (`FAULT`, a sentence)."""

    def __init__(self, lr_size: tuple[int, int], staging: str, count: str | None):
        super().__init__(staging, count)
        self._lr_size = lr_size

    def process(self, result: inference.PredictionResult) -> Iterator:
        looks, signals = result.example, result.inference
        if not all(np.isfinite(values).all() for values in signals.values()):
            yield FAULT, f"The teacher's outputs for {_clip_id(looks.source)} are not finite numbers: train it again."
            return
        views = record.LrViews(looks.lr_frames, self._lr_size, looks.timestamps, signals)
        yield self._stage(looks.source, views)


class StageFrames(_Stage):
    """Yields (`RECORD`, (shard, `StagedRecord`)) of a `SourceClip`'s stored LR frames, those that evaluation takes."""

    def __init__(self, dataset: info.DatasetInfo, lr_size: tuple[int, int], staging: str, count: str | None):
        super().__init__(staging, count)
        self._dataset, self._lr_size = dataset, lr_size

    def setup(self):
        cores.use_one()
        prefix = record.lr_prefix(self._lr_size, self._dataset.lr_sizes)
        centre = tf.fill([self._dataset.num_segments], self._dataset.num_snippets // 2)

        @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
        def read(serialized):
            clip = record.parse(serialized, {"lr": prefix})
            return [views_lib.choose(clip[name], centre, self._dataset) for name in ("lr", "timestamps")]

        self._read = read

    def process(self, source: SourceClip) -> Iterator:
        frames, timestamps = self._read(source.serialized)
        views = record.LrViews(frames.numpy().tolist(), self._lr_size, timestamps.numpy().tolist(), {})
        yield self._stage(source, views)


def _clip_id(source: SourceClip) -> str:
    return record.clip_id(source.serialized)
