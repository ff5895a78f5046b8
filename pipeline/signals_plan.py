"""What the signals job is to do, checked before anything is computed: dataset, teacher and student fit."""

import dataclasses

from pipeline import signal_records, staging
from stat_tf import errors
from stat_tf import signals as signals_lib
from stat_tf.data import augment, degrade, info, sizes
from stat_tf.inference import fit
from stat_tf.models.recognizer import BACKBONES_3D, RecognizerConfig, build_recognizer
from stat_tf.training import checkpoints, resolve
from stat_tf.training.run_config import RunConfig

# The splits that signals are stored of, and that of which evaluation's frames are.
OF_SIGNALS = ("train", "unlabeled")
OF_FRAMES = "test"
# A student's grids do not depend on its width; a thin one is made at once.
_THIN = 1 / 16
_OF_ONE_WIDTH = "efficientnet_lite0"


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
      width: The teacher's, which its student is likely to have; 1 where either has a backbone without widths.
    """

    config: SignalsConfig
    views: signal_records.ViewSettings
    grids: tuple[signals_lib.Grid, ...]
    splits: tuple[str, ...]
    description: info.DatasetInfo
    width: float

    @property
    def num_views(self) -> int:
        """Views in all."""
        read = [split for split in self.splits if split in OF_SIGNALS]
        return self.views.num_views * self.views.dataset.num_clips(*read)


def make_plan(config: SignalsConfig) -> Plan:
    """Checks that dataset, teacher and student fit, before anything is computed.

    Raises:
      UserError: What does not fit, or that the output is taken.
    """
    with staging.writing(config.output):
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
    lr_size = _lr_size(config, run, dataset)
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
    width = 1.0 if student.backbone == _OF_ONE_WIDTH else run.recognizer.width
    return Plan(config, views, grids, splits, description, width)


def _splits(config: SignalsConfig, dataset: info.DatasetInfo) -> tuple[str, ...]:
    """Those to store signals of, and that to store frames of."""
    present = [split for split in OF_SIGNALS if dataset.num_clips(split)]
    asked = config.splits.split(",") if config.splits else present
    if not asked or not set(asked) <= {*present}:
        raise errors.UserError(
            f"--splits={config.splits or ','.join(OF_SIGNALS)} must be splits of {config.data_dir} to train on; "
            f"it has {' and '.join(present) or 'none'}."
        )
    evaluated = [OF_FRAMES] if dataset.num_clips(OF_FRAMES) else []
    return tuple(split for split in (*OF_SIGNALS, *evaluated) if split in (*asked, *evaluated))


def _lr_size(config: SignalsConfig, run: RunConfig, dataset: info.DatasetInfo) -> tuple[int, int]:
    """That of the LR frames to store; also checks that views of such frames can be made."""
    lr_size = sizes.parse(config.lr_size, "lr_size") if config.lr_size else dataset.lr_sizes[0]
    if lr_size not in dataset.lr_sizes:
        stored = " and ".join(map(sizes.text, dataset.lr_sizes))
        raise errors.UserError(
            f"{config.data_dir} holds LR frames of {stored}, not of --lr_size={config.lr_size}: give one of these, or "
            "build the dataset again."
        )
    if run.crop_size[0] < lr_size[0] or run.crop_size[1] < lr_size[1]:
        raise errors.UserError(
            f"--teacher_run={config.teacher_run} reads HR frames of {sizes.text(run.crop_size)}, smaller than the LR "
            f"frames of {sizes.text(lr_size)} that are made from them: give a smaller --lr_size."
        )
    if not all(0 < scale <= 1 for scale in config.scales):
        raise errors.UserError(f"--scales={','.join(map(str, config.scales))} must all be above 0 and at most 1.")
    return lr_size


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


def _student(config: SignalsConfig, run: RunConfig, lr_size: tuple[int, int]) -> RecognizerConfig:
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
        width=1.0 if backbone == _OF_ONE_WIDTH else _THIN,
        temporal_fusion=config.temporal_fusion or fusion,
    )
