"""Whether runs fit a dataset, and whether two of them are the two streams of one model."""

import dataclasses
import itertools
from collections.abc import Sequence

from stat_tf import errors
from stat_tf.data import dataset, sizes
from stat_tf.data import info as info_lib
from stat_tf.training import run_config

_CLIP_FIELDS = (
    "view",
    "num_segments",
    "num_frames",
    "frame_stride",
    "frame_size",
    "hr_size",
    "lens_blur",
    "noise",
)


def clip_fields(config: run_config.RunConfig) -> dict[str, object]:
    """What clips a run's network reads, by the names of its configuration; two streams agree in all of it."""
    return {
        name: getattr(config, name) if hasattr(config, name) else getattr(config.recognizer, name)
        for name in _CLIP_FIELDS
    }


def check_streams(
    run_dir: str, config: run_config.RunConfig, flow_run_dir: str, flow_config: run_config.RunConfig, flow_weight: float
) -> None:
    """Checks that two runs are the RGB and the flow stream of one model.

    Args:
      run_dir: The RGB run, for the messages.
      config: Its configuration.
      flow_run_dir: The flow run, for the messages.
      flow_config: Its configuration.
      flow_weight: The flow stream's share.

    Raises:
      UserError: What is wrong with which flag.
    """
    for flag, directory, wanted, found in (
        ("run_dir", run_dir, "rgb", config.stream),
        ("flow_run_dir", flow_run_dir, "flow", flow_config.stream),
    ):
        if found != wanted:
            raise errors.UserError(
                f"--{flag}={directory} is a run of stream {found}: "
                "two streams are an rgb run as --run_dir and a flow run as --flow_run_dir."
            )
    if not 0 <= flow_weight <= 1:
        raise errors.UserError(f"--flow_weight={flow_weight:g} is no share: give a number from 0 to 1.")
    _check_classes(run_dir, config.classes, "flow run", flow_run_dir, flow_config.classes)
    flow_fields = clip_fields(flow_config)
    for name, value in clip_fields(config).items():
        if value != flow_fields[name]:
            ours, theirs = (
                sizes.text(each) if isinstance(each, tuple) else each for each in (value, flow_fields[name])
            )
            raise errors.UserError(
                f"--run_dir={run_dir} was trained on clips of {name}={ours}, --flow_run_dir={flow_run_dir} on clips of "
                f"{name}={theirs}: give two runs trained on clips of the same kind."
            )


def check_fits(
    run_dir: str,
    config: run_config.RunConfig,
    data_dir: str,
    info: info_lib.DatasetInfo,
    split: str,
    *,
    labeled: bool = True,
) -> None:
    """Checks that a dataset is whole and of the kind that a run was trained on.

    A teacher takes no LR frames, so their size does not matter to it.

    Args:
      run_dir: The run, for the messages.
      config: Its configuration.
      data_dir: The dataset directory.
      info: Its description.
      split: The split that will be read.
      labeled: Whether every clip needs a label.

    Raises:
      UserError: What differs, naming run and dataset, or which shard is missing or cut short.
    """
    if info.signals:
        _check_frames_of_signals(run_dir, config, data_dir, split)
    taken = Clips(
        classes=config.classes,
        streams=(config.stream,),
        view=config.view,
        num_segments=config.recognizer.num_segments,
        num_frames=config.recognizer.num_frames,
        frame_stride=config.frame_stride,
        lr_size=config.lr_size,
        flow_method=config.flow_method,
        flow_bound=config.flow_bound,
    )
    check_clips(run_dir, taken, data_dir, info, split, labeled=labeled)


@dataclasses.dataclass(frozen=True)
class Clips:
    """The clips that a model takes; attributes as in `model_card.ModelCard`, `lr_size` of no account to an HR model."""

    classes: tuple[str, ...]
    streams: tuple[str, ...]
    view: str
    num_segments: int
    num_frames: int
    frame_stride: int
    lr_size: tuple[int, int]
    flow_method: str
    flow_bound: float


def check_clips(
    path: str, taken: Clips, data_dir: str, info: info_lib.DatasetInfo, split: str, *, labeled: bool = True
) -> None:
    """Checks that a dataset is whole and has the clips that a model takes.

    Args:
      path: The run or export, for the messages.
      taken: What it takes.
      data_dir: The dataset directory.
      info: Its description.
      split: The split that will be read.
      labeled: Whether every clip needs a label.

    Raises:
      UserError: As `check_fits`.
    """
    _check_classes(path, taken.classes, "dataset", data_dir, info.classes)
    if not set(taken.streams) <= set(info.streams):
        raise errors.UserError(
            f"{path} reads optical flow, and {data_dir} holds none: build the dataset again with --streams=rgb,flow."
        )
    kinds = [
        ("K={} segments a clip", taken.num_segments, info.num_segments),
        ("T={} frames a segment", taken.num_frames, info.num_frames),
        ("frames {} apart", taken.frame_stride, info.frame_stride),
    ]
    if taken.view == "lr" and taken.lr_size not in info.lr_sizes:
        stored = " and ".join(map(sizes.text, info.lr_sizes))
        kinds.append(("LR frames of {}", sizes.text(taken.lr_size), stored))
    if "flow" in taken.streams:
        kinds.append(("optical flow by {}", taken.flow_method, info.flow.method))
        kinds.append(("optical flow of up to {:g} pixels", taken.flow_bound, info.flow.bound))
    for what, trained, stored in kinds:
        if trained != stored:
            raise errors.UserError(
                f"{path} was trained with {what.format(trained)}, but {data_dir} has {what.format(stored)}: "
                "build the dataset again to fit the run."
            )
    dataset.check(
        data_dir,
        info,
        split,
        num_segments=info.num_segments,
        num_frames=info.num_frames,
        lr_size=info.lr_sizes[0],
        labeled=labeled,
    )


def _check_frames_of_signals(run_dir: str, config: run_config.RunConfig, data_dir: str, split: str) -> None:
    if config.view == "hr":
        raise errors.UserError(
            f"{run_dir} reads HR frames, and {data_dir} holds teacher signals, with LR frames only: give the dataset "
            "that these were made from."
        )
    if split != "test":
        raise errors.UserError(
            f"Split {split} of {data_dir}, which holds teacher signals, has views to train on and no frames to "
            "evaluate: use split test, or the dataset that the signals were made from."
        )


def _check_classes(run_dir: str, classes: Sequence[str], kind: str, other: str, others: Sequence[str]) -> None:
    for index, (mine, theirs) in enumerate(itertools.zip_longest(classes, others, fillvalue="none")):
        if mine != theirs:
            raise errors.UserError(
                f"{run_dir} was trained on {len(classes)} classes, {other} has {len(others)}, and they differ from "
                f"class {index} on, which is {mine} in the run and {theirs} in the {kind}: "
                f"give a {kind} of the same classes in the same order."
            )
