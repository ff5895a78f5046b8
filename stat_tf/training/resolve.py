"""Flag values and a dataset's description to one checked `RunConfig`: all that can be wrong before anything trains."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from stat_tf import errors
from stat_tf.data import dataset, sizes
from stat_tf.data import info as info_lib
from stat_tf.models import pretrained
from stat_tf.models.recognizer import RecognizerConfig
from stat_tf.training import checkpoints, from_signals
from stat_tf.training.run_config import STAGES, TRANSFER_STAGES, RunConfig
from stat_tf.weighting import LossWeights, rolling_weights

# What decides the shapes and the meaning of a network's weights.
_ARCHITECTURE = ("backbone", "stream", "width", "native", "num_segments", "num_frames", "temporal_fusion")
# What only stages with a teacher have, and the value under which a flag is as good as not given.
_TRANSFER_ONLY = {
    "teacher_run": "",
    "weights": "fixed",
    "overall_weights": None,
    "sat_weights": None,
    "tat_weights": None,
    "rolling_period": None,
    "distance": "l2",
    "train_splits": None,
    "soft_label_weight": 0.0,
    "temperature": None,
}
_DEFAULT_OVERALL_WEIGHTS = {"stat": "1/3,1/3,1/3", "unsupervised": "0,1/2,1/2"}
_DEFAULT_ROLLING_PERIOD, _DEFAULT_TEMPERATURE = 10, 3.0
_DEFAULT_TRAIN_SPLITS = {"unsupervised": "unlabeled"}
_POSITIVE = (
    "epochs",
    "batch_size",
    "accumulation_steps",
    "learning_rate",
    "decay_epochs",
    "decay_factor",
    "log_steps",
    "max_to_keep",
)
_NOT_NEGATIVE = (
    "weight_decay",
    "clip_norm",
    "warmup_epochs",
    "color_jitter",
    "soft_label_weight",
    "seed",
    "checkpoint_steps",
)


def resolve(settings: Mapping[str, Any], info: info_lib.DatasetInfo) -> RunConfig:
    """Fills in defaults that depend on the dataset, the backbone or other runs, and checks everything.

    Args:
      settings: The flags of `stat_tf.train` by name; sizes and weights as text, None where not given.
      info: The description of the dataset at `settings["data_dir"]`, or of the signals at `settings["signals"]`.

    Raises:
      UserError: A value is out of range, or the dataset, the teacher's or the initial weights' run does not fit.
    """
    if info.signals:
        settings = from_signals.settle(settings, info)
    _check_ranges(settings)
    lr_size = _size("lr_size", settings["lr_size"]) or info.lr_sizes[0]
    crop_size = _size("crop_size", settings["crop_size"]) or info.hr_size
    num_segments = settings["num_segments"] or info.num_segments
    num_frames = settings["num_frames"] or info.num_frames
    stage = settings["stage"]
    train_splits = _train_splits(settings)
    # Stage unsupervised reads no label, so it neither evaluates nor picks a best checkpoint.
    eval_split = "" if stage == "unsupervised" else settings["eval_split"]
    for split in (*train_splits, eval_split):
        if split:
            dataset.check(
                settings["data_dir"],
                info,
                split,
                num_segments=num_segments,
                num_frames=num_frames,
                lr_size=lr_size,
                stream=settings["stream"],
                labeled=split == eval_split or (split != "unlabeled" and stage != "unsupervised"),
                mend="Give --eval_split= to train without evaluating." if split == eval_split else "",
            )
    if crop_size[0] > info.hr_size[0] or crop_size[1] > info.hr_size[1]:
        raise errors.UserError(
            f"--crop_size={sizes.text(crop_size)} is larger than the stored HR frames of {sizes.text(info.hr_size)}: "
            "choose a smaller crop, or build the dataset again with a larger --hr_size."
        )
    if crop_size[0] < lr_size[0] or crop_size[1] < lr_size[1]:
        raise errors.UserError(
            f"--crop_size={sizes.text(crop_size)} is smaller than the LR frames of {sizes.text(lr_size)} that are made "
            "from it: choose a larger crop."
        )
    if stage == "unsupervised" and not settings["init_run"]:
        raise errors.UserError("--stage=unsupervised needs --init_run, the run directory of a trained student.")
    initial = RunConfig.load(settings["init_run"]) if settings["init_run"] else None
    init_from, frozen = _initial_weights(settings, initial)
    is_teacher, native = stage == "teacher", settings["student_input"] == "native"
    teacher = None if info.signals else _teacher(settings)
    # A dataset of unlabelled clips alone has no classes of its own.
    classes = info.classes or (teacher.classes if teacher is not None else ())
    recognizer = RecognizerConfig(
        backbone=settings["backbone"],
        num_classes=len(classes),
        num_segments=num_segments,
        num_frames=num_frames,
        frame_size=crop_size if is_teacher else lr_size,
        network_size=lr_size if native and not is_teacher else crop_size,
        native=native and not is_teacher,
        stream=settings["stream"],
        width=settings["width"],
        dropout=settings["dropout"],
        temporal_fusion=settings["temporal_fusion"],
        frozen_batch_norm=frozen,
    )
    if settings["recompute_grad"] and not recognizer.is_3d:
        raise errors.UserError(
            f"--recompute_grad is for the R(2+1)D backbones, not for {recognizer.backbone}: leave it out."
        )
    init_digest = "" if init_from == "none" else pretrained.check(init_from, recognizer)
    flow = info.flow if settings["stream"] == "flow" else info_lib.FlowInfo("", 0.0)
    passed_on = {name: settings[name] for name in RunConfig.__dataclass_fields__ if name in settings}
    config = RunConfig(
        **passed_on
        | _resolved_weights(settings)
        | {
            "recognizer": recognizer,
            "classes": classes,
            **_fingerprints(info, train_splits, teacher),
            "train_splits": train_splits,
            "eval_split": eval_split,
            "crop_size": crop_size,
            "hr_size": info.hr_size,
            "lr_size": lr_size,
            "frame_stride": info.frame_stride,
            "lens_blur": info.lens_blur,
            "noise": info.noise,
            "init_from": init_from,
            "init_digest": init_digest,
            "flow_method": flow.method,
            "flow_bound": flow.bound,
            "scales": fractions("scales", settings["scales"]),
            "rolling_period": settings["rolling_period"] or _DEFAULT_ROLLING_PERIOD,
            "temperature": settings["temperature"] or _DEFAULT_TEMPERATURE,
        }
    )
    if info.signals:
        from_signals.check_views(config, info)
    if not all(0 < scale <= 1 for scale in config.scales):
        raise errors.UserError(f"--scales={settings['scales']} must all be above 0 and at most 1.")
    weights_at(config, 0)  # raises where they do not go together
    others = {}
    if initial is not None:
        _check_initial(config, initial)
        others["init_run"] = initial
    if teacher is not None:
        _check_teacher(config, teacher)
        others["teacher_run"] = teacher
    for flag, other in others.items():
        if not settings["allow_other_data"]:
            check_same_data(flag, getattr(config, flag), other, config.data_dir, config.data_fingerprint)
    sources = {
        flag.replace("run", "source"): checkpoints.source_of(getattr(config, flag), other.epochs)
        for flag, other in others.items()
    }
    return dataclasses.replace(config, **sources)


def weights_at(config: RunConfig, epoch: int) -> LossWeights:
    """The loss weights of a run in an epoch, epochs counted from 0 (eq. 4, section 3.3.2)."""
    if config.weights == "rolling":
        weights = rolling_weights(epoch, config.rolling_period, config.overall_weights)
    else:
        weights = LossWeights(*config.overall_weights, config.sat_weights, config.tat_weights)
    return dataclasses.replace(weights, soft_labels=config.soft_label_weight)


def _check_ranges(settings: Mapping[str, Any]) -> None:
    if settings["stage"] not in STAGES:
        raise errors.UserError(f"--stage must be one of {', '.join(STAGES)}; got {settings['stage']}.")
    if settings["stage"] not in TRANSFER_STAGES:
        for name, default in _TRANSFER_ONLY.items():
            if settings[name] != default:
                raise errors.UserError(
                    f"--{name} belongs to --stage={' and '.join(TRANSFER_STAGES)}; stage {settings['stage']} has no "
                    "teacher: leave it out."
                )
    if settings["temperature"] is not None and not settings["soft_label_weight"]:
        raise errors.UserError("--temperature softens the soft labels, which have no weight: add --soft_label_weight.")
    for name in ("rolling_period", "temperature"):
        if settings[name] is not None and not 0 < settings[name] < math.inf:
            raise errors.UserError(f"--{name} must be above 0 and finite, got {settings[name]}.")
    # So written that NaN, too, fails.
    for name in _POSITIVE:
        if not 0 < settings[name] < math.inf:
            raise errors.UserError(f"--{name} must be above 0 and finite, got {settings[name]}.")
    for name in _NOT_NEGATIVE:
        if not 0 <= settings[name] < math.inf:
            raise errors.UserError(f"--{name} must be at least 0 and finite, got {settings[name]}.")
    if settings["accumulation_steps"] > settings["batch_size"]:
        raise errors.UserError(
            f"--accumulation_steps={settings['accumulation_steps']} cuts --batch_size={settings['batch_size']} into "
            "parts of less than one clip: use fewer."
        )
    if settings["stream"] == "flow" and settings["color_jitter"]:
        raise errors.UserError("--color_jitter changes colours, of which optical flow has none: leave it out.")
    if not 0 <= settings["momentum"] < 1:
        raise errors.UserError(f"--momentum must be at least 0 and below 1, got {settings['momentum']}.")


def _initial_weights(settings: Mapping[str, Any], initial: RunConfig | None) -> tuple[str, bool]:
    """(--init_from, --frozen_batch_norm) with "auto" resolved (section 3.1.3)."""
    init_from, frozen = settings["init_from"], settings["frozen_batch_norm"]
    if initial is not None and init_from not in ("auto", "none"):
        raise errors.UserError(f"--init_run and --init_from={init_from} exclude each other: give one of them.")
    if init_from == "auto":
        pretrained_by_default = initial is None and settings["backbone"] == "efficientnet_lite0"
        init_from = "imagenet" if pretrained_by_default else "none"
    if frozen != "auto":
        return init_from, frozen == "true"
    return init_from, initial.recognizer.frozen_batch_norm if initial is not None else init_from != "none"


def _resolved_weights(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of eq. 4; teacher and student train on cross-entropy alone."""
    rolling = settings["weights"] == "rolling"
    if rolling and (settings["sat_weights"] or settings["tat_weights"]):
        raise errors.UserError(
            "--weights=rolling sets the SAT and TAT weights: leave out --sat_weights and --tat_weights."
        )
    stage = settings["stage"]
    overall = settings["overall_weights"] or _DEFAULT_OVERALL_WEIGHTS.get(stage, "1,0,0")
    resolved = {
        "overall_weights": fractions("overall_weights", overall, 3, some=not settings["soft_label_weight"]),
        "sat_weights": fractions("sat_weights", settings["sat_weights"] or "1/4,1/4,1/4,1/4", 4),
        "tat_weights": fractions("tat_weights", settings["tat_weights"] or "1/2,1/2", 2),
    }
    if stage == "unsupervised" and resolved["overall_weights"][0] != 0:
        raise errors.UserError(
            f"--overall_weights={overall} has a weight for cross-entropy, which needs labels; stage unsupervised reads "
            "none: make the first weight 0."
        )
    return resolved


def _train_splits(settings: Mapping[str, Any]) -> tuple[str, ...]:
    text = settings["train_splits"] or _DEFAULT_TRAIN_SPLITS.get(settings["stage"], "train")
    splits = tuple(dict.fromkeys(text.split(",")))
    if not set(splits) <= {"train", "unlabeled"}:
        raise errors.UserError(f"--train_splits={text} must be train, unlabeled, or train,unlabeled.")
    if settings["stage"] == "stat" and "train" not in splits:
        raise errors.UserError(
            "--train_splits=unlabeled leaves stage stat without a label for its cross-entropy: add train, or use "
            "--stage=unsupervised."
        )
    # The order of the splits decides the order of the clips.
    return tuple(sorted(splits))


def _check_initial(config: RunConfig, initial: RunConfig) -> None:
    of_lr = initial.view == config.view == "lr"
    _check_agree(config, initial, "init_run", _ARCHITECTURE, ("lens_blur", "noise") if of_lr else ())
    if of_lr and initial.lr_size != config.lr_size:
        raise errors.UserError(
            f"--init_run={config.init_run} was trained on LR frames of {sizes.text(initial.lr_size)}, "
            f"not {sizes.text(config.lr_size)}: give a run of this LR size."
        )


def _teacher(settings: Mapping[str, Any]) -> RunConfig | None:
    """The teacher's run; None in a stage that has none."""
    stage, teacher_run = settings["stage"], settings["teacher_run"]
    if stage not in TRANSFER_STAGES:
        return None
    if not teacher_run:
        raise errors.UserError(f"--stage={stage} needs --teacher_run, the run directory of a trained teacher.")
    teacher = RunConfig.load(teacher_run)
    if teacher.stage != "teacher":
        raise errors.UserError(f"--teacher_run={teacher_run} is a run of stage {teacher.stage}, not teacher.")
    return teacher


def _check_teacher(config: RunConfig, teacher: RunConfig) -> None:
    # Any two backbones have four stages each, but the TAM's outputs are one a segment.
    _check_agree(config, teacher, "teacher_run", ("stream", "num_segments", "num_frames"))
    if teacher.crop_size != config.crop_size:
        raise errors.UserError(
            f"--teacher_run={config.teacher_run} reads HR frames of {sizes.text(teacher.crop_size)}: "
            f"use --crop_size={sizes.text(teacher.crop_size)}, not {sizes.text(config.crop_size)}."
        )


def _check_agree(
    config: RunConfig, other: RunConfig, flag: str, names: tuple[str, ...], of_clips: tuple[str, ...] = ()
) -> None:
    """Checks classes, these fields of the network, and how the clips were made, `of_clips` included."""
    run_dir = getattr(config, flag)
    if other.classes != config.classes:
        raise errors.UserError(
            f"--{flag}={run_dir} knows other classes than {config.data_dir} "
            f"({len(other.classes)} and {len(config.classes)}): both need the same classes in the same order."
        )
    if differing := _differing(other.recognizer, config.recognizer, names):
        said = "; ".join(f"{name}={theirs}, not {ours}" for name, theirs, ours in differing)
        raise errors.UserError(f"--{flag}={run_dir} has another architecture: {said}; make the two agree.")
    if differing := _differing(other, config, ("frame_stride", "flow_method", "flow_bound", *of_clips)):
        theirs = ", ".join(f"{name}={value}" for name, value, _ in differing)
        ours = ", ".join(f"{name}={value}" for name, _, value in differing)
        raise errors.UserError(
            f"--{flag}={run_dir} was trained on clips of {theirs}, those of {config.data_dir} have {ours}: give a run "
            "trained on clips of the same kind."
        )


def _differing(other: Any, own: Any, names: Sequence[str]) -> list[tuple[str, Any, Any]]:
    """(name, the other's, one's own) of fields that differ."""
    both = [(name, getattr(other, name), getattr(own, name)) for name in names]
    return [(name, theirs, ours) for name, theirs, ours in both if theirs != ours]


def check_same_data(flag: str, run_dir: str, run: RunConfig, data_dir: str, data_fingerprint: str) -> None:
    """Checks that a run saw the very training clips: another split may have trained on what is tested on.

    Args:
      flag: The flag that names the run, for the message.
      run_dir: Its directory.
      run: Its configuration.
      data_dir: The dataset directory.
      data_fingerprint: The dataset's, as `RunConfig` has it.

    Raises:
      UserError: It saw others.
    """
    if run.data_fingerprint != data_fingerprint:
        raise errors.UserError(
            f"--{flag}={run_dir} was trained on other clips ({run.data_dir}) than the training split "
            f"of {data_dir}: make sure that they hold none of its test clips, then give --allow_other_data."
        )


def _fingerprints(info: info_lib.DatasetInfo, train_splits: Sequence[str], teacher: RunConfig | None) -> dict[str, str]:
    """What `RunConfig` records of the clips that the weights will have seen."""
    if info.signals:
        return {
            "data_fingerprint": info.signals.data_fingerprint,
            "unlabeled_fingerprint": info.signals.unlabeled_fingerprint if "unlabeled" in train_splits else "",
            "signals_fingerprint": info.fingerprint(*train_splits),
        }
    return {
        "data_fingerprint": info.fingerprint("train") if "train" in info.shards else teacher.data_fingerprint,
        "unlabeled_fingerprint": info.fingerprint("unlabeled") if "unlabeled" in train_splits else "",
    }


def _size(flag: str, value: str | None) -> tuple[int, int] | None:
    return sizes.parse(value, flag) if value else None


def fractions(flag: str, text: str, count: int | None = None, *, some: bool = True) -> tuple[float, ...]:
    """Parses a flag's list of numbers.

    Args:
      flag: The flag, for the message.
      text: Numbers or fractions, with commas between: 1/3,0.5.
      count: How many there must be; None for any number.
      some: Whether one at least must not be 0.

    Raises:
      UserError: They are not that, or a number is negative or not finite.
    """
    try:
        values = tuple(_fraction(part) for part in text.split(","))
    except (ValueError, ZeroDivisionError):
        raise errors.UserError(f"--{flag}={text} is no list of numbers or fractions such as 1/3,1/3,1/3.") from None
    if count is not None and len(values) != count:
        raise errors.UserError(f"--{flag}={text} has {len(values)} numbers, it needs {count}.")
    if not all(0 <= value < math.inf for value in values) or (some and not any(values)):
        raise errors.UserError(f"--{flag}={text} must all be finite and at least 0, and not all of them 0.")
    return values


def _fraction(text: str) -> float:
    numerator, slash, denominator = text.partition("/")
    return float(numerator) / float(denominator) if slash else float(numerator)
