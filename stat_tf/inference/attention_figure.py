"""Where and when networks look: pictures in the manner of Figure 5 (section 4.3).

Columns are segments. The first rows are the frames, as the camera of the teacher and those of the
students see them. Then, for each network, whichever stream it reads, the frames under the spatial
attention of its last residual stage, above a bar of its temporal attention.
"""

import collections
import dataclasses
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from matplotlib import figure

from stat_tf import attention, errors, files
from stat_tf.data import dataset, sizes
from stat_tf.data import info as info_lib
from stat_tf.inference import fit, report
from stat_tf.training import checkpoints, run_config

# What attention leaves of a frame where there is none, so that the scene can still be made out.
_FLOOR = 0.12
# Grey levels added there, so that dark because unattended differs from dark of itself.
_TINT = np.array([0, 10, 60], np.float32)
# Inches: a frame's width, the margins, a line of text, a bar of temporal attention.
_CELL, _MARGIN, _TEXT, _BAR = 1.5, 0.35, 0.3, 0.18


@dataclasses.dataclass(frozen=True)
class Look:
    """One network's attention to one clip.

    Attributes:
      title: What the network is and what it says of the clip.
      spatial: float32 [K, h, w], 0 to 1 over the clip: the last stage's attention (eq. 1).
      temporal: float32 [K], the temporal attention.
      correct: Whether its prediction is the clip's class.
    """

    title: str
    spatial: np.ndarray
    temporal: np.ndarray
    correct: bool


class _Frames(NamedTuple):
    """What to read of each clip; the arguments of `dataset.evaluation_dataset`."""

    view: str
    stream: str
    crop_size: tuple[int, int]
    lr_size: tuple[int, int]


def draw_runs(
    run_dirs: Sequence[str], data_dir: str, split: str, output_dir: str, *, num_clips: int, checkpoint: str = "best"
) -> Iterator[str]:
    """Draws clips of a split, one PNG each.

    Args:
      run_dirs: The runs to compare, top to bottom.
      data_dir: The dataset directory.
      split: "train" or "test".
      output_dir: Made if missing.
      num_clips: How many clips, spread over the classes; fewer where the split has fewer.
      checkpoint: "best" or "last".

    Yields:
      The path of each PNG, `CLIP.png` by the clip's id, once it is written.

    Raises:
      UserError: A run or the dataset is missing or damaged, or they do not fit.
    """
    info = info_lib.load(data_dir)
    runs = [(run_dir, *checkpoints.load_recognizer(run_dir, checkpoint)) for run_dir in run_dirs]
    for run_dir, _, config in runs:
        fit.check_fits(run_dir, config, data_dir, info, split)
    try:
        files.make_dirs(output_dir)
    except OSError as error:
        raise errors.UserError(f"Cannot write to {output_dir}: {error.strerror}.") from error
    # The rows of frames: HR, then each LR size that a run reads (the default one if none does).
    lr_sizes = [config.lr_size for _, _, config in runs if config.view == "lr"] or info.lr_sizes[:1]
    rows = {"HR": _Frames("hr", "rgb", info.hr_size, info.lr_sizes[0])}
    rows |= {f"LR {sizes.text(size)}": _Frames("lr", "rgb", info.hr_size, size) for size in lr_sizes}
    seen = [_Frames(config.view, config.stream, config.crop_size, config.lr_size) for _, _, config in runs]
    with dataset.explain_read_errors(data_dir, info):
        for clip_id, label, clips in _spread_clips(data_dir, info, split, [*rows.values(), *seen], num_clips):
            looks = [
                _look(run_dir, recognizer, config, clip, label)
                for (run_dir, recognizer, config), clip in zip(runs, clips[len(rows) :], strict=True)
            ]
            middle = [clip.numpy()[:, info.num_frames // 2] for clip in clips[: len(rows)]]
            path = os.path.join(output_dir, re.sub(r"[^\w.-]+", "_", clip_id) + ".png")
            draw(path, f"{clip_id}    class: {info.classes[label]}", dict(zip(rows, middle, strict=True)), looks)
            yield path


def _spread_clips(
    data_dir: str, info: info_lib.DatasetInfo, split: str, wanted: Sequence[_Frames], num_clips: int
) -> Iterator[tuple[str, int, list[tf.Tensor]]]:
    """The first clips of a split, no class more often than its share of `num_clips`: id, label, and what is wanted."""
    datasets = tuple(
        dataset.evaluation_dataset(
            data_dir,
            info,
            split,
            batch_size=1,
            crop_size=frames.crop_size,
            lr_size=frames.lr_size,
            stream=frames.stream,
            views=(frames.view,),
        ).unbatch()
        for frames in wanted
    )
    share = math.ceil(num_clips / len(info.counts[split]))
    drawn = collections.Counter()
    for clips in tf.data.Dataset.zip(datasets):
        label = int(clips[0]["label"])
        if drawn[label] < share:
            drawn[label] += 1
            shown = [clip[frames.view] for clip, frames in zip(clips, wanted, strict=True)]
            yield clips[0]["id"].numpy().decode(), label, shown
        if drawn.total() == num_clips:
            return


def _look(
    run_dir: str, recognizer: tf.keras.Model, config: run_config.RunConfig, frames: tf.Tensor, label: int
) -> Look:
    outputs = recognizer.activations(frames[tf.newaxis], training=False)
    # A 3D stage has several instants a segment: their mean stands for the segment.
    spatial = tf.reduce_mean(attention.spatial_attention_map(outputs.stages[-1]), axis=1).numpy()
    spatial = (spatial - spatial.min()) / max(spatial.max() - spatial.min(), 1e-12)
    probabilities = tf.nn.softmax(outputs.logits)[0].numpy()
    best = int(probabilities.argmax())
    seen = f"{config.view.upper()} {'flow' if config.stream == 'flow' else 'frames'}"
    title = (
        f"{os.path.basename(os.path.normpath(run_dir))} on {seen}: "
        f"{config.classes[best]}, {100 * probabilities[best]:.0f} % {'✓' if best == label else '✗'}"
    )
    return Look(title, spatial, outputs.temporal_attention[0].numpy(), best == label)


def draw(path: str, title: str, rows: Mapping[str, np.ndarray], looks: Sequence[Look]) -> None:
    """Draws one clip.

    Args:
      path: The PNG to write.
      title: The clip and its class.
      rows: uint8 [K, H, W, 3], RGB, by name; the first are the frames to draw attention on.
      looks: The networks, top to bottom.
    """
    hr = next(iter(rows.values()))
    num_segments, height, width = hr.shape[:3]
    frame = _CELL * height / width
    # Inches: the rows of frames, then for each network a line of text, its frames and its bar.
    heights = len(rows) * [frame] + len(looks) * [_TEXT, frame, _BAR]
    canvas = figure.Figure(figsize=(_CELL * num_segments + 2 * _MARGIN, sum(heights) + 3 * _MARGIN))
    grid = canvas.add_gridspec(
        len(heights),
        num_segments,
        height_ratios=heights,
        wspace=0.03,
        hspace=0.06,
        left=_MARGIN / canvas.get_figwidth(),
        right=1 - 0.2 * _MARGIN / canvas.get_figwidth(),
        bottom=0.5 * _MARGIN / canvas.get_figheight(),
        top=1 - 1.6 * _MARGIN / canvas.get_figheight(),
    )
    canvas.suptitle(title, fontsize=11, fontweight="bold", y=1 - 0.4 * _MARGIN / canvas.get_figheight())
    for row, (name, frames) in enumerate(rows.items()):
        _draw_frames(canvas, grid, row, frames, name)
    brightest = max(look.temporal.max() for look in looks)
    for number, look in enumerate(looks):
        row = len(rows) + 3 * number
        text = canvas.add_subplot(grid[row, :])
        text.axis("off")
        color = "darkgreen" if look.correct else "firebrick"
        text.text(0, 0.1, look.title, fontsize=9, color=color, va="bottom", transform=text.transAxes)
        _draw_frames(canvas, grid, row + 1, attended(hr, look.spatial), "spatial")
        _draw_bar(canvas.add_subplot(grid[row + 2, :]), look.temporal, brightest)
    report.save_figure(canvas, path)


def attended(frames: np.ndarray, spatial: np.ndarray) -> np.ndarray:
    """Frames times their spatial attention, upsampled bilinearly (section 4.3), the rest tinted blue.

    Args:
      frames: uint8 [K, H, W, 3].
      spatial: float32 [K, h, w], 0 to 1.

    Returns:
      uint8 [K, H, W, 3].
    """
    weights = tf.image.resize(spatial[..., np.newaxis], frames.shape[1:3]).numpy()
    return np.round(frames * (_FLOOR + (1 - _FLOOR) * weights) + _TINT * (1 - weights)).astype(np.uint8)


def _draw_frames(canvas: figure.Figure, grid, row: int, frames: np.ndarray, name: str) -> None:
    for column, frame in enumerate(frames):
        axes = canvas.add_subplot(grid[row, column])
        axes.imshow(frame, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        if column == 0:
            axes.set_ylabel(name, fontsize=8)
        if row == 0:
            axes.set_title(f"segment {column + 1}", fontsize=8, pad=2)


def _draw_bar(axes, temporal: np.ndarray, brightest: float) -> None:
    axes.imshow(temporal[np.newaxis], aspect="auto", cmap="viridis", vmin=0, vmax=brightest)
    axes.set(xticks=[], yticks=[])
    axes.set_ylabel("time", fontsize=8, rotation=0, ha="right", va="center")
    for segment, weight in enumerate(temporal):
        color = "black" if weight > 0.6 * brightest else "white"
        axes.text(segment, 0, f"{weight:.2f}", ha="center", va="center", fontsize=8, color=color)
