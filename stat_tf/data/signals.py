"""Shards of teacher signals to training batches: LR frames and what a teacher saw in the HR frames behind them.

Which of a clip's stored views an epoch holds is drawn as everything else is: a pure function of seed and epoch.
"""

from collections.abc import Sequence

import tensorflow as tf

from stat_tf import errors
from stat_tf.data import dataset, record, shares
from stat_tf.data import info as info_lib
from stat_tf.data import views as views_lib


def training_dataset(
    signals_dir: str,
    info: info_lib.DatasetInfo,
    splits: Sequence[str] = ("train",),
    *,
    batch_size: int,
    seed: int,
    start_epoch: int = 0,
    start_batch: int = 0,
    num_epochs: int = 1,
    with_signals: bool = True,
    labeled: bool = True,
    share: shares.Share | None = None,
) -> tf.data.Dataset:
    """Shuffled batches of epochs `start_epoch` to `num_epochs - 1`, of each clip one view an epoch.

    Args:
      signals_dir: The directory of signals.
      info: Its description.
      splits: Which splits to read, mixed with one another.
      batch_size: Clips a batch, over all replicas; an epoch's last batch may be smaller.
      seed: With the epoch, fixes the order of the clips and the views drawn.
      start_epoch: The first epoch, for a run that goes on.
      start_batch: How many of its batches are left out; their clips are read, but not decoded.
      num_epochs: The epoch before which to stop.
      with_signals: Whether batches hold the teacher's signals; without, they are for plain cross-entropy.
      labeled: Whether to read labels; if not, every clip is as one without.
      share: As of `dataset.training_dataset`.

    Returns:
      Batches of `id`, `label` and `lr` as of `dataset.training_dataset`, and of the signals by their names, float16
      [B, ...].
    """
    (lr_size,), stored = info.lr_sizes, info.signals
    shapes = stored.shapes if with_signals else {}

    def load(serialized, clip_seed):
        clip = record.parse(serialized, {"lr": record.LR_PREFIX}, signals=tuple(shapes), times=record.LR_PREFIX)
        view = tf.random.stateless_uniform([], clip_seed, 0, stored.num_views, tf.int32)
        frames = views_lib.decode(tf.reshape(clip["lr"], [stored.num_views, -1])[view], lr_size)
        label = clip["label"] if labeled else tf.constant(record.UNLABELED, tf.int64)
        signals = {
            name: tf.reshape(tf.io.decode_raw(clip[name][view], tf.float16), shape) for name, shape in shapes.items()
        }
        return {"id": clip["id"], "label": label, "lr": views_lib.to_clip(frames, info)} | signals

    return dataset.epochs(
        signals_dir,
        info,
        splits,
        load,
        batch_size=batch_size,
        seed=seed,
        start_epoch=start_epoch,
        start_batch=start_batch,
        num_epochs=num_epochs,
        share=share,
    )


def check_grids(signals_dir: str, info: info_lib.DatasetInfo, shapes: dict[str, tuple[int, ...]]) -> None:
    """Checks that signals were stored for a student like this one.

    Args:
      signals_dir: The directory of signals, for the message.
      info: Its description.
      shapes: What the student compares itself with, as `signals.shapes` gives it.

    Raises:
      UserError: They were not.
    """
    for name, shape in shapes.items():
        stored = info.signals.shapes[name]
        if stored != shape:
            made_for = " ".join(f"--{flag}={value}" for flag, value in info.signals.student.items())
            raise errors.UserError(
                f"{signals_dir} holds signals for students of {made_for} ({name} of {_text(stored)}), not for this one "
                f"({_text(shape)}): use these flags, or run python -m pipeline.teacher_signals for this student."
            )


def _text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
