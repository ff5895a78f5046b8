"""Recognizers over a split: what one predicts, and what an RGB and a flow recognizer predict together."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from stat_tf import errors, streams
from stat_tf.data import dataset, flow
from stat_tf.data import info as info_lib
from stat_tf.inference import fit, metrics
from stat_tf.models import two_stream
from stat_tf.training import checkpoints, run_config


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What a recognizer, or two streams together, said of N clips.

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
    run_dir: str,
    data_dir: str,
    split: str,
    *,
    flow_run_dir: str = "",
    flow_weight: float = 0.5,
    checkpoint: str = "best",
    num_snippets: int = 1,
    flips: bool = False,
    batch_size: int = 32,
) -> tuple[dict[str, object], Predictions]:
    """Evaluates a run's checkpoint, or those of two streams together, on a split.

    Args:
      run_dir: The run directory; the RGB stream's where there are two.
      data_dir: The dataset directory.
      split: "train" or "test".
      flow_run_dir: The flow stream's run directory; "" for one stream.
      flow_weight: The flow stream's share of the scores, 0 to 1.
      checkpoint: "best" or "last".
      num_snippets: How many of a segment's S snippets to average over; 1 is the paper's centre snippet.
      flips: Whether to average over each clip and its mirror image.
      batch_size: Clips at a time.

    Returns:
      The contents of `metrics.json`: whence the numbers come, then `metrics.summarize`'s; and the
      predictions they were computed from.

    Raises:
      UserError: A run, its checkpoint or the dataset is missing or damaged, or they do not fit.
    """
    info = info_lib.load(data_dir, or_signals=True)
    run_dirs = (run_dir, flow_run_dir) if flow_run_dir else (run_dir,)
    configs = [run_config.RunConfig.load(directory) for directory in run_dirs]
    if flow_run_dir:
        fit.check_streams(run_dir, configs[0], flow_run_dir, configs[1], flow_weight)
    for directory, config in zip(run_dirs, configs, strict=True):
        fit.check_fits(directory, config, data_dir, info, split)
    snippets = spread_snippets(num_snippets, info.num_snippets)

    parts = [
        _predict_run(
            directory,
            data_dir,
            info,
            split,
            checkpoint=checkpoint,
            snippets=snippets,
            flips=flips,
            batch_size=batch_size,
        )
        for directory in run_dirs
    ]
    sources = [_source(directory, config, checkpoint) for directory, config in zip(run_dirs, configs, strict=True)]
    source, predictions = sources[0], parts[0]
    if flow_run_dir:
        predictions = _fuse(*parts, flow_weight)
        streams = {
            each["stream"]: each | {"prec@1": metrics.precision_at_k(part.probabilities, part.labels, 1)}
            for each, part in zip(sources, parts, strict=True)
        }
        source = {"flow_weight": flow_weight, "streams": streams}
    source |= {
        "data_dir": data_dir,
        "dataset_fingerprint": info.source_fingerprint,
        "split": split,
        "num_snippets": num_snippets,
        "flips": flips,
    }
    measured = metrics.summarize(predictions.probabilities, predictions.labels, predictions.attention, info.classes)
    return source | measured, predictions


def run_batches(
    config: run_config.RunConfig,
    data_dir: str,
    info: info_lib.DatasetInfo,
    split: str,
    batch_size: int,
    snippet: int | None = None,
) -> tf.data.Dataset:
    """A split's batches in the view that a run's network reads; the arguments are `dataset.evaluation_dataset`'s."""
    return dataset.evaluation_dataset(
        data_dir,
        info,
        split,
        batch_size=batch_size,
        crop_size=config.crop_size,
        lr_size=config.lr_size,
        stream=config.stream,
        snippet=snippet,
        views=(config.view,),
    )


def spread_snippets(num_snippets: int, stored: int) -> list[int]:
    """Which of a segment's stored snippets to look at, evenly spread.

    Args:
      num_snippets: How many; 1 is the centre one, `stored // 2`.
      stored: S.

    Returns:
      Snippet numbers from 0, ascending.

    Raises:
      UserError: There are not so many.
    """
    if not 1 <= num_snippets <= stored:
        raise errors.UserError(
            f"--num_snippets={num_snippets} is not between 1 and {stored}, the snippets a segment of the dataset: "
            "ask for no more, or build the dataset again with more."
        )
    return [(2 * number + 1) * stored // (2 * num_snippets) for number in range(num_snippets)]


def mirrored(clips: tf.Tensor) -> tf.Tensor:
    """The clips as a mirror shows them.

    Args:
      clips: uint8 [..., w, C], RGB frames (C = 3), or quantised optical flow (C = 2), whose x changes its sign.

    Returns:
      uint8 of the same shape.
    """
    return flow.mirror(clips) if clips.shape[-1] == streams.CHANNELS["flow"] else tf.reverse(clips, [-2])


def _source(run_dir: str, config: run_config.RunConfig, checkpoint: str) -> dict[str, object]:
    return {
        "run_dir": run_dir,
        "stage": config.stage,
        "stream": config.stream,
        "checkpoint": checkpoint,
        "epoch": checkpoints.newest_epoch(run_dir, checkpoint),
    }


def _fuse(first: Predictions, second: Predictions, weight: float) -> Predictions:
    """Two streams' predictions of the same clips as those of one model."""
    return dataclasses.replace(
        first,
        probabilities=two_stream.fuse(first.probabilities, second.probabilities, weight),
        attention=two_stream.fuse(first.attention, second.attention, weight),
    )


def _predict_run(
    run_dir: str,
    data_dir: str,
    info: info_lib.DatasetInfo,
    split: str,
    *,
    checkpoint: str,
    snippets: Sequence[int],
    flips: bool,
    batch_size: int,
) -> Predictions:
    recognizer, config = checkpoints.load_recognizer(run_dir, checkpoint)
    batches = [run_batches(config, data_dir, info, split, batch_size, snippet) for snippet in snippets]
    with dataset.explain_read_errors(data_dir, info):
        return predict_split(
            answer_of(recognizer),
            batches,
            config.view,
            flips=flips,
            num_batches=dataset.steps_per_epoch(info, (split,), batch_size),
        )


def answer_of(recognizer: tf.keras.Model) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    """A recognizer in inference mode: from clips to probabilities [B, classes] and temporal attention [B, K]."""

    @tf.function(reduce_retracing=True)
    def answer(clips):
        outputs = recognizer.activations(clips, training=False)
        return tf.nn.softmax(outputs.logits), outputs.temporal_attention

    return answer


def predict_split(
    answer: Callable[[Any], tuple[tf.Tensor, tf.Tensor]],
    batches: Sequence[tf.data.Dataset],
    view: str,
    *,
    flips: bool = False,
    num_batches: int,
) -> Predictions:
    """Asks a model about an evaluation dataset, with a progress bar.

    Args:
      answer: The model: from clips to probabilities [B, classes] and temporal attention [B, K].
      batches: As of `dataset.evaluation_dataset`, once a snippet, over which predictions are averaged.
      view: The key of the clips that it takes, "hr" or "lr": a tensor, or one a stream.
      flips: Whether to average over each clip and its mirror image.
      num_batches: For the progress bar.

    Returns:
      The predictions, clips in the dataset's order: means of probabilities and of temporal attention.

    Raises:
      UserError: The model answers with NaN, so it is of no use.
    """
    rows = []
    for snippets in tqdm.tqdm(
        zip(*batches, strict=True), total=num_batches, desc="evaluating", unit="batch", disable=None
    ):
        looks = [batch[view] for batch in snippets]
        if flips:
            looks += [tf.nest.map_structure(mirrored, look) for look in looks]
        answers = zip(*(answer(look) for look in looks), strict=True)
        rows.append(
            [snippets[0]["id"].numpy(), snippets[0]["label"].numpy(), *(np.mean(each, axis=0) for each in answers)]
        )
    ids, labels, probabilities, attention = (np.concatenate(column) for column in zip(*rows, strict=True))
    if not np.isfinite(probabilities).all():
        raise errors.UserError("The model's predictions are not finite numbers: train it again.")
    return Predictions(tuple(clip_id.decode() for clip_id in ids), labels, probabilities, attention)
