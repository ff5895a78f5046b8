"""One answer of an export, as a line of JSON or as text to read."""

import dataclasses
import json

import tabulate
import tensorflow as tf

from stat_tf.inference import serving

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


def predict(model: serving.ServedModel, source: str, clip: tf.Tensor) -> Prediction:
    """Asks the model about one clip.

    Args:
      model: The export.
      source: Where the clip came from.
      clip: uint8 [K, T, h, w, 3].
    """
    answer = {name: value[0].numpy() for name, value in model.predict(clip[tf.newaxis]).items()}
    names = (name.decode() for name in answer["top_classes"])
    top = tuple(zip(names, answer["top_probabilities"].tolist(), strict=True))
    return Prediction(source, top, tuple(answer["segment_weights"].tolist()))


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
