"""A recognizer over a split: whether the two fit, and what it predicts."""

import dataclasses
import itertools

import numpy as np
import tensorflow as tf
import tqdm

from stat_tf import errors
from stat_tf.data import dataset, sizes
from stat_tf.data import info as info_lib
from stat_tf.inference import metrics
from stat_tf.training import checkpoints, run_config


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a recognizer said of N clips.

    Attributes:
      ids: N clip ids, in the dataset's order.
      labels: int64 [N].
      probabilities: float32 [N, classes].
      attention: float32 [N, K], the temporal attention.
    """

    ids: tuple[str, ...]
    labels: np.ndarray
    probabilities: np.ndarray
    attention: np.ndarray


def evaluate_run(
    run_dir: str, data_dir: str, split: str, *, checkpoint: str = "best", batch_size: int = 32
) -> tuple[dict[str, object], Predictions]:
    """Evaluates a run's checkpoint on a split.

    Args:
      run_dir: The run directory.
      data_dir: The dataset directory.
      split: "train" or "test".
      checkpoint: "best" or "last".
      batch_size: Clips at a time.

    Returns:
      The contents of `metrics.json`: whence the numbers come, then `metrics.summarize`'s; and the
      predictions they were computed from.

    Raises:
      UserError: The run, its checkpoint or the dataset is missing or damaged, or they do not fit.
    """
    config = run_config.RunConfig.load(run_dir)
    info = info_lib.load(data_dir)
    check_fits(run_dir, config, data_dir, info, split)
    recognizer, config = checkpoints.load_recognizer(run_dir, checkpoint)
    batches = dataset.evaluation_dataset(
        data_dir, info, split, batch_size=batch_size, crop_size=config.crop_size, views=(config.view,)
    )
    with dataset.explain_read_errors(data_dir, info):
        predictions = predict_split(
            recognizer, batches, config.view, num_batches=dataset.steps_per_epoch(info, split, batch_size)
        )
    source = {
        "run_dir": run_dir,
        "stage": config.stage,
        "checkpoint": checkpoint,
        "epoch": checkpoints.newest_epoch(run_dir, checkpoint),
        "data_dir": data_dir,
        "dataset_fingerprint": info.source_fingerprint,
        "split": split,
    }
    measured = metrics.summarize(predictions.probabilities, predictions.labels, predictions.attention, info.classes)
    return {**source, **measured}, predictions


def check_fits(
    run_dir: str, config: run_config.RunConfig, data_dir: str, info: info_lib.DatasetInfo, split: str
) -> None:
    """Checks that a dataset is whole and of the kind that a run was trained on.

    A teacher takes no LR frames, so their size does not matter to it.

    Args:
      run_dir: The run, for the messages.
      config: Its configuration.
      data_dir: The dataset directory.
      info: Its description.
      split: The split that will be read.

    Raises:
      UserError: What differs, naming run and dataset, or which shard is missing or cut short.
    """
    network = config.recognizer
    for index, (trained, stored) in enumerate(itertools.zip_longest(config.classes, info.classes, fillvalue="none")):
        if trained != stored:
            raise errors.UserError(
                f"{run_dir} was trained on {len(config.classes)} classes, {data_dir} has {len(info.classes)}, and they "
                f"differ from class {index} on, which is {trained} in the run and {stored} in the dataset: "
                "give a dataset of the same classes in the same order."
            )
    for what, trained, stored in (
        ("K={} segments a clip", network.num_segments, info.num_segments),
        ("T={} frames a segment", network.num_frames, info.num_frames),
        ("frames {} apart", config.frame_stride, info.frame_stride),
        (
            "LR frames of {}",
            sizes.text(config.lr_size if config.view == "lr" else info.lr_size),
            sizes.text(info.lr_size),
        ),
    ):
        if trained != stored:
            raise errors.UserError(
                f"{run_dir} was trained with {what.format(trained)}, but {data_dir} has {what.format(stored)}: "
                "build the dataset again to fit the run."
            )
    dataset.check(
        data_dir, info, split, num_segments=info.num_segments, num_frames=info.num_frames, lr_size=info.lr_size
    )
    if unlabeled := info.counts[split].get("", 0):
        raise errors.UserError(f"{unlabeled} clips of split {split!r} of {data_dir} have no label to compare with.")


def predict_split(recognizer: tf.keras.Model, batches: tf.data.Dataset, view: str, *, num_batches: int) -> Predictions:
    """Runs a recognizer in inference mode over an evaluation dataset, with a progress bar.

    Args:
      recognizer: A `Recognizer`.
      batches: As of `dataset.evaluation_dataset`.
      view: The frames it takes, "hr" or "lr".
      num_batches: For the progress bar.

    Returns:
      The predictions, clips in the dataset's order.

    Raises:
      UserError: The recognizer answers with NaN, so its checkpoint is of no use.
    """

    @tf.function(reduce_retracing=True)
    def answer(clips):
        outputs = recognizer.activations(clips, training=False)
        return tf.nn.softmax(outputs.logits), outputs.temporal_attention

    rows = []
    for batch in tqdm.tqdm(batches, total=num_batches, desc="evaluating", unit="batch", disable=None):
        rows.append([value.numpy() for value in (batch["id"], batch["label"], *answer(batch[view]))])
    ids, labels, probabilities, attention = (np.concatenate(column) for column in zip(*rows, strict=True))
    if not np.isfinite(probabilities).all():
        raise errors.UserError("The checkpoint's predictions are not finite numbers: train the run again.")
    return Predictions(tuple(clip_id.decode() for clip_id in ids), labels, probabilities, attention)
