"""An export over a split: what the very model that is served predicts."""

import tensorflow as tf

from stat_tf import digests
from stat_tf.data import dataset
from stat_tf.data import info as info_lib
from stat_tf.inference import evaluation, fit, metrics, model_card, serving


def evaluate_export(
    model: str, data_dir: str, split: str, *, num_snippets: int = 1, flips: bool = False, batch_size: int = 32
) -> tuple[dict[str, object], evaluation.Predictions]:
    """Evaluates an export on a split of a dataset.

    Args:
      model: `EXPORT/VERSION`, or `EXPORT` for its newest version.
      data_dir: The dataset directory.
      split: "train" or "test".
      num_snippets: As of `evaluation.evaluate_run`, like the rest.
      flips: Whether to average over each clip and its mirror image.
      batch_size: Clips at a time.

    Returns:
      The contents of `metrics.json`: whence the numbers come, with `model_digest`, the export's SHA-256, then
      `metrics.summarize`'s; and the predictions.

    Raises:
      UserError: The export or the dataset is missing or damaged, or they do not fit.
    """
    info = info_lib.load(data_dir)
    path = serving.version_dir(model)
    served = serving.ServedModel(path)
    card = served.card
    fit.check_clips(path, _taken(card), data_dir, info, split)
    snippets = evaluation.spread_snippets(num_snippets, info.num_snippets)
    with dataset.explain_read_errors(data_dir, info):
        predictions = evaluation.predict_split(
            lambda clips: _answer(served, clips),
            [_batches(card, data_dir, info, split, batch_size, snippet) for snippet in snippets],
            card.view,
            flips=flips,
            num_batches=dataset.steps_per_epoch(info, (split,), batch_size),
        )
    source = {
        "model": path,
        "model_digest": digests.of(path),
        "data_dir": data_dir,
        "dataset_fingerprint": info.source_fingerprint,
        "split": split,
        "num_snippets": num_snippets,
        "flips": flips,
    }
    measured = metrics.summarize(predictions.probabilities, predictions.labels, predictions.attention, info.classes)
    return source | measured, predictions


def _taken(card: model_card.ModelCard) -> fit.Clips:
    return fit.Clips(
        classes=card.classes,
        streams=tuple(card.networks),
        view=card.view,
        num_segments=card.num_segments,
        num_frames=card.num_frames,
        frame_stride=card.frame_stride,
        lr_size=card.frame_size,
        flow_method=card.flow_method,
        flow_bound=card.flow_bound,
    )


def _answer(served: serving.ServedModel, clips: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    outputs = served.predict(clips)
    return outputs["probabilities"], outputs["segment_weights"]


def _batches(
    card: model_card.ModelCard, data_dir: str, info: info_lib.DatasetInfo, split: str, batch_size: int, snippet: int
) -> tf.data.Dataset:
    """A split's batches, the clips of each stream under its name."""
    streams = {
        stream: dataset.evaluation_dataset(
            data_dir,
            info,
            split,
            batch_size=batch_size,
            crop_size=card.frame_size if card.view == "hr" else card.hr_size,
            lr_size=card.frame_size if card.view == "lr" else info.lr_sizes[0],
            stream=stream,
            snippet=snippet,
            views=(card.view,),
        )
        for stream in card.networks
    }

    def join(batches):
        first = next(iter(batches.values()))
        return {
            "id": first["id"],
            "label": first["label"],
            card.view: {stream: batch[card.view] for stream, batch in batches.items()},
        }

    return tf.data.Dataset.zip(streams).map(join)
