"""The signals job: a dataset and its teacher in, a directory of LR frames and teacher signals out."""

import dataclasses
import json
import operator
import os
import shlex

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference import base as inference

from pipeline import progress, shards, signal_records, staging
from pipeline.beam_options import Execution
from pipeline.signal_records import FAULT, RECORD, RUN, SourceShard
from stat_tf import errors
from stat_tf import signals as signals_lib
from stat_tf.data import augment, degrade, info, sizes
from stat_tf.inference import fit
from stat_tf.models.recognizer import BACKBONES_3D, build_recognizer
from stat_tf.training import checkpoints, resolve
from stat_tf.training.run_config import RunConfig

_SUMMARY = "summary.jsonl"
_OF_SIGNALS = ("train", "unlabeled")
_OF_FRAMES = "test"
# A student's grids do not depend on its width; a thin one is made at once.
_THIN = 1 / 16


@dataclasses.dataclass(frozen=True)
class SignalsConfig:
    """What the flags of `pipeline.teacher_signals` say; None where a flag is not given."""

    data_dir: str
    teacher_run: str
    output: str
    num_views: int
    seed: int = 0
    splits: str | None = None
    lr_size: str | None = None
    scales: tuple[float, ...] = augment.Augmentation.scales
    flip: bool = True
    color_jitter: float = 0.0
    backbone: str | None = None
    student_input: str = "upsample"
    temporal_fusion: str | None = None
    allow_other_data: bool = False
    overwrite: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job, checked.

    Attributes:
      config: What was asked for.
      views: How views are made.
      grids: The student's, stage by stage.
      splits: The splits to read, that of evaluation included.
      description: What is known before of the directory's `dataset.json`: all but its shards.
    """

    config: SignalsConfig
    views: signal_records.ViewSettings
    grids: tuple[signals_lib.Grid, ...]
    splits: tuple[str, ...]
    description: info.DatasetInfo

    @property
    def num_views(self) -> int:
        """Views in all."""
        read = [split for split in self.splits if split in _OF_SIGNALS]
        return self.views.num_views * self.views.dataset.num_clips(*read)


def plan(config: SignalsConfig) -> Plan:
    """Checks that dataset, teacher and student fit, before anything is computed.

    Raises:
      UserError: What does not fit, or that the output is taken.
    """
    staging.recover(config.output)
    staging.check_output(config.output, config.overwrite)
    dataset = info.load(config.data_dir)
    run = RunConfig.load(config.teacher_run)
    splits = _splits(config, dataset)
    # A dataset of unlabelled clips alone has no classes of its own.
    dataset = dataclasses.replace(dataset, classes=dataset.classes or run.classes)
    _check_teacher(config, run, dataset, splits)
    source = checkpoints.source_of(config.teacher_run, run.epochs)
    checkpoints.load_recognizer(config.teacher_run)  # a damaged checkpoint is told of here, and not by a worker
    lr_size = sizes.parse(config.lr_size, "lr_size") if config.lr_size else dataset.lr_sizes[0]
    if lr_size not in dataset.lr_sizes:
        stored = " and ".join(map(sizes.text, dataset.lr_sizes))
        raise errors.UserError(
            f"{config.data_dir} holds LR frames of {stored}, not of --lr_size={config.lr_size}: give one of these, or "
            "build the dataset again."
        )
    student = _student(config, run, lr_size)
    grids = signals_lib.stage_grids(build_recognizer(student))
    views = signal_records.ViewSettings(
        dataset,
        augment.Augmentation(run.crop_size, config.scales, config.flip, config.color_jitter),
        degrade.Degradation(lr_size, dataset.lens_blur, dataset.noise),
        config.num_views,
        config.seed,
    )
    stored = info.SignalsInfo(
        num_views=config.num_views,
        shapes=signals_lib.shapes(grids, dataset.num_segments, len(dataset.classes)),
        crop_size=run.crop_size,
        scales=config.scales,
        flip=config.flip,
        color_jitter=config.color_jitter,
        seed=config.seed,
        student={
            "backbone": student.backbone,
            "student_input": config.student_input,
            "temporal_fusion": student.temporal_fusion,
        },
        teacher={"backbone": run.recognizer.backbone, "epoch": source.epoch, "sha256": source.sha256},
        data_fingerprint=_data_fingerprint(dataset, run),
        unlabeled_fingerprint=dataset.fingerprint("unlabeled") if "unlabeled" in splits else "",
    )
    description = dataclasses.replace(
        dataset,
        num_snippets=1,
        lr_sizes=(lr_size,),
        shards={},
        counts={split: dataset.counts[split] for split in splits},
        num_rejected=0,
        warnings=(),
        flow=None,
        signals=stored,
    )
    return Plan(config, views, grids, splits, description)


def _splits(config: SignalsConfig, dataset: info.DatasetInfo) -> tuple[str, ...]:
    """Those to store signals of, and that to store frames of."""
    present = [split for split in _OF_SIGNALS if dataset.num_clips(split)]
    asked = config.splits.split(",") if config.splits else present
    if not asked or not set(asked) <= {*present}:
        raise errors.UserError(
            f"--splits={config.splits or ','.join(_OF_SIGNALS)} must be splits of {config.data_dir} to train on; "
            f"it has {' and '.join(present) or 'none'}."
        )
    evaluated = [_OF_FRAMES] if dataset.num_clips(_OF_FRAMES) else []
    return tuple(split for split in (*_OF_SIGNALS, *evaluated) if split in (*asked, *evaluated))


def _check_teacher(config: SignalsConfig, run: RunConfig, dataset: info.DatasetInfo, splits: tuple[str, ...]) -> None:
    if run.stage != "teacher":
        raise errors.UserError(f"--teacher_run={config.teacher_run} is a run of stage {run.stage}, not teacher.")
    if run.stream != "rgb":
        raise errors.UserError(
            f"--teacher_run={config.teacher_run} reads optical flow, and signals are of RGB frames: train students of "
            "flow with --data_dir and --teacher_run."
        )
    for split in splits:
        fit.check_fits(config.teacher_run, run, config.data_dir, dataset, split, labeled=split != "unlabeled")
    if run.crop_size[0] > dataset.hr_size[0] or run.crop_size[1] > dataset.hr_size[1]:
        raise errors.UserError(
            f"--teacher_run={config.teacher_run} reads HR frames of {sizes.text(run.crop_size)}, larger than those of "
            f"{config.data_dir}, {sizes.text(dataset.hr_size)}: build the dataset again with a larger --hr_size."
        )
    if not config.allow_other_data:
        fingerprint = _data_fingerprint(dataset, run)
        resolve.check_same_data("teacher_run", config.teacher_run, run, config.data_dir, fingerprint)


def _data_fingerprint(dataset: info.DatasetInfo, run: RunConfig) -> str:
    return dataset.fingerprint("train") if "train" in dataset.shards else run.data_fingerprint


def _student(config: SignalsConfig, run: RunConfig, lr_size: tuple[int, int]):
    """A student's configuration, thin where its backbone has a width."""
    backbone = config.backbone or run.recognizer.backbone
    fusion = "average" if backbone in BACKBONES_3D else run.recognizer.temporal_fusion
    native = config.student_input == "native"
    return dataclasses.replace(
        run.recognizer,
        backbone=backbone,
        frame_size=lr_size,
        network_size=lr_size if native else run.crop_size,
        native=native,
        width=1.0 if backbone == "efficientnet_lite0" else _THIN,
        temporal_fusion=config.temporal_fusion or fusion,
    )


def store(plan: Plan, execution: Execution) -> info.DatasetInfo:
    """Runs the job; the directory appears whole or not at all.

    The shards' bytes depend on the dataset's shards, the teacher and the plan alone, given processors of one kind:
    not on the runner, the number of workers or the order of anything.

    Args:
      plan: What to do.
      execution: Where to run.

    Returns:
      The description, as written to the directory's `dataset.json`.

    Raises:
      UserError: A shard of the dataset is damaged, the teacher's outputs are no numbers, or the output cannot be
        written.
    """
    output = plan.config.output
    with staging.directory(output) as place:
        _run(plan, place, execution)
        found = _read_summary(place)
        if found[FAULT]:
            raise errors.UserError(f"{min(found[FAULT])} Nothing is written to {output}.")
        written = sorted((info.Shard(**shard) for shard in found["shard"]), key=operator.attrgetter("name"))
        stored = {split: tuple(s for s in written if s.name.startswith(f"{split}-")) for split in plan.splits}
        description = dataclasses.replace(plan.description, shards=stored)
        with FileSystems.create(FileSystems.join(place, "dataset", info.FILE_NAME)) as file:
            file.write(description.to_json().encode())
        staging.publish(place, output)
    return description


def _run(plan: Plan, place: str, execution: Execution) -> None:
    """Shards -> runs of clips -> views -> the teacher's signals -> records -> shards, and the summary."""
    count = progress.directory(place, execution.is_local)
    dataset, lr_size = plan.views.dataset, plan.views.degradation.lr_size
    sources = [
        SourceShard(split, os.path.join(plan.config.data_dir, shard.name), shard)
        for split in plan.splits
        for shard in dataset.shards[split]
    ]
    handler = signal_records.TeacherHandler(plan.config.teacher_run, plan.grids)
    staged = FileSystems.join(place, "clips")
    with (
        progress.shown(count, dataset.num_clips(*plan.splits)),
        beam.Pipeline(execution.runner, execution.options) as pipeline,
    ):
        verified = (
            pipeline
            | "Shards" >> beam.Create(sources)
            | "SpreadShards" >> beam.Reshuffle()
            | "VerifyShards" >> beam.ParDo(signal_records.VerifyShard())
        )
        # The clips of one shard would stay together, and one worker with them, without another shuffle.
        runs = _only(verified, RUN) | "SpreadRuns" >> beam.Reshuffle()
        taught = (
            runs
            | "OfTraining" >> beam.Filter(lambda run: run.split != _OF_FRAMES)
            | "ReadClips" >> beam.FlatMap(signal_records.read_run)
            | "MakeViews" >> beam.ParDo(signal_records.MakeViews(plan.views))
            | "AskTeacher" >> inference.RunInference(handler)
            | "StageSignals" >> beam.ParDo(signal_records.StageSignals(lr_size, staged, count))
        )
        seen = (
            runs
            | "OfEvaluation" >> beam.Filter(lambda run: run.split == _OF_FRAMES)
            | "ReadEvaluated" >> beam.FlatMap(signal_records.read_run)
            | "StageFrames" >> beam.ParDo(signal_records.StageFrames(dataset, lr_size, staged, count))
        )
        # A shard without a clip is written too.
        names = pipeline | "ShardNames" >> beam.Create([(source.shard.name, None) for source in sources])
        write = shards.WriteShard(FileSystems.join(place, "shards"), FileSystems.join(place, "dataset"))
        written = (
            (_only(taught, RECORD), _only(seen, RECORD), names)
            | "Records" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "OnlyRecords" >> beam.MapTuple(lambda name, staged: (name, [one for one in staged if one]))
            | "WriteShards" >> beam.ParDo(write)
            | "Shard" >> beam.Map(lambda shard: ("shard", dataclasses.asdict(shard)))
        )
        faults = [_only(each, FAULT, bare=False) for each in (verified, taught)]
        _ = (
            (written, *faults)
            | "Found" >> beam.Flatten()
            | "AsLine" >> beam.Map(json.dumps)
            | "WriteSummary"
            >> beam.io.WriteToText(FileSystems.join(place, _SUMMARY), num_shards=1, shard_name_template="")
        )


def _only(found: beam.PCollection, kind: str, *, bare: bool = True) -> beam.PCollection:
    """What is of a kind, among pairs of kind and value: the values, or the pairs."""
    label = f"{kind} of {found.producer.full_label}"
    # Without annotations, from which Beam would take the values to be of no type in particular, and refuse them.
    chosen = found | f"Choose {label}" >> beam.Filter(lambda pair: pair[0] == kind)
    return chosen | f"Bare {label}" >> beam.Map(operator.itemgetter(1)) if bare else chosen


def _read_summary(place: str) -> dict[str, list]:
    found = {"shard": [], FAULT: []}
    with FileSystems.open(FileSystems.join(place, _SUMMARY), compression_type=CompressionTypes.UNCOMPRESSED) as file:
        for line in file.read().decode().splitlines():
            kind, value = json.loads(line)
            found[kind].append(value)
    return found


def report(description: info.DatasetInfo, output: str) -> str:
    """What a user wants to know when the signals are stored."""
    lines = []
    for split, stored in description.shards.items():
        clips = description.num_clips(split)
        kilobytes = sum(shard.num_bytes for shard in stored) / 1000 / clips
        what = "LR frames" if split == _OF_FRAMES else f"signals of {description.signals.num_views} views"
        lines.append(f"{split}: {what} of {clips} clips in {len(stored)} files, {kilobytes:.1f} kB a clip")
    student = " ".join(f"--{flag}={value}" for flag, value in description.signals.student.items())
    lines.append(f"The signals are in {output}. To train a student from them:")
    lines.append(
        f"  python -m stat_tf.train --stage=stat --signals={shlex.quote(output)} --init_run=STUDENT --run_dir=RUN "
        f"{student}"
    )
    return "\n".join(lines)
