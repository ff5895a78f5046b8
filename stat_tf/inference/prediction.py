"""One answer of an export, as a line of JSON or as text to read."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
import tabulate
import tensorflow as tf

from stat_tf.inference import evaluation, metrics, serving

_BAR_WIDTH = 24


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What an export said of one clip.

    Attributes:
      source: The video, frame file or directory.
      top: Up to five (class, probability), best first.
      segment_weights: K temporal attention weights, which sum to 1.
    """

    source: str
    top: tuple[tuple[str, float], ...]
    segment_weights: tuple[float, ...]


def predict(model: serving.ServedModel, source: str, clips: Mapping[str, tf.Tensor], flips: bool = False) -> Prediction:
    """Asks the model about one clip.

    Args:
      model: The export.
      source: Where the clip came from.
      clips: Its S snippets, over which the answers are averaged: for each stream of the model, uint8
        [S, K, T, h, w, C].
      flips: Whether to average over each snippet and its mirror image.
    """
    if flips:
        clips = {stream: tf.concat([each, evaluation.mirrored(each)], 0) for stream, each in clips.items()}
    answer = model.predict(clips)
    probabilities, segment_weights = (
        np.mean(answer[name], axis=0, keepdims=True) for name in ("probabilities", "segment_weights")
    )
    (best,) = metrics.top_classes(probabilities)
    top = tuple((model.card.classes[index], float(probabilities[0, index])) for index in best)
    return Prediction(source, top, tuple(segment_weights[0].tolist()))


def to_json(prediction: Prediction) -> str:
    """One line: `source`, `top` (a list of `class` and `probability`, best first), `segment_weights`."""
    return json.dumps(
        {
            "source": prediction.source,
            "top": [{"class": name, "probability": probability} for name, probability in prediction.top],
            "segment_weights": prediction.segment_weights,
        }
    )


def to_text(prediction: Prediction) -> str:
    """The source, a line a class with a bar, and a line a segment with its weight as a bar."""
    rows = [[name, f"{100 * value:.1f} %", _bar(value)] for name, value in prediction.top]
    weights = prediction.segment_weights
    rows += [tabulate.SEPARATING_LINE]
    # Bars of weights are relative to the largest: with K segments most weights are near 1/K.
    rows += [
        [f"segment {number} of {len(weights)}", f"{weight:.3f}", _bar(weight / max(weights))]
        for number, weight in enumerate(weights, 1)
    ]
    body = tabulate.tabulate(rows, tablefmt="simple", colalign=("left", "right", "left"), disable_numparse=True)
    return f"{prediction.source}\n{body}\n"


def _bar(fraction: float) -> str:
    return "█" * round(_BAR_WIDTH * fraction)
