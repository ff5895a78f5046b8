"""What an evaluation leaves behind: metrics.json, predictions.csv, a picture and a printed table."""

import csv
import io
import json
import os
from collections.abc import Sequence

import numpy as np
import tabulate
from matplotlib import figure  # not pyplot, which wants a display

from stat_tf import errors, files
from stat_tf.inference import evaluation, metrics

METRICS_NAME = "metrics.json"
PREDICTIONS_NAME = "predictions.csv"
CONFUSION_NAME = "confusion.png"


def predictions_csv(predictions: evaluation.Predictions, classes: Sequence[str]) -> str:
    """One line a clip, for paired tests between runs.

    Columns: `clip_id`, `label`, `label_probability`, then `top_1`, `top_1_probability` to `top_5`,
    `top_5_probability` (fewer with fewer classes).
    """
    top = metrics.top_classes(predictions.probabilities)
    ranks = range(1, top.shape[1] + 1)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["clip_id", "label", "label_probability", *(f"top_{k}{end}" for k in ranks for end in ("", "_probability"))]
    )
    for clip_id, label, row, best in zip(
        predictions.ids, predictions.labels, predictions.probabilities, top, strict=True
    ):
        pairs = (value for index in best for value in (classes[index], f"{row[index]:.6f}"))
        writer.writerow([clip_id, classes[label], f"{row[label]:.6f}", *pairs])
    return text.getvalue()


def write_results(output_dir: str, results: dict, predictions: evaluation.Predictions) -> None:
    """Writes `predictions.csv`, `confusion.png` and, last, `metrics.json`, each whole or not at all.

    Args:
      output_dir: Made if missing.
      results: The contents of `metrics.json`, as of `evaluation.evaluate_run`.
      predictions: What was predicted.

    Raises:
      UserError: The directory cannot be written.
    """
    classes = list(results["per_class"])
    try:
        files.make_dirs(output_dir)
        files.write_text(os.path.join(output_dir, PREDICTIONS_NAME), predictions_csv(predictions, classes))
        draw_confusion(os.path.join(output_dir, CONFUSION_NAME), np.array(results["confusion_matrix"]), classes)
        files.write_text(os.path.join(output_dir, METRICS_NAME), json.dumps(results, indent=2) + "\n")
    except OSError as error:
        raise errors.UserError(f"Cannot write to {output_dir}: {error.strerror}.") from error


def draw_confusion(path: str, matrix: np.ndarray, classes: Sequence[str]) -> None:
    """Draws a confusion matrix, each row (label) as shares, with counts while there is room.

    Args:
      path: The PNG to write.
      matrix: int [classes, classes], counts by label and prediction.
      classes: Class names by index.
    """
    side = 2.5 + min(0.45 * len(classes), 16)
    canvas = figure.Figure(figsize=(side + 1, side), layout="constrained")
    axes = canvas.add_subplot()
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    font = 9 if len(classes) <= 30 else 5
    axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=font)
    axes.set_yticks(range(len(classes)), classes, fontsize=font)
    axes.set(xlabel="predicted", ylabel="label")
    if len(classes) <= 30:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                color = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", fontsize=7, color=color)
    canvas.colorbar(image, ax=axes, label="share of the label's clips", fraction=0.04)
    save_figure(canvas, path)


def save_figure(canvas: figure.Figure, path: str) -> None:
    """Writes a figure as PNG, whole or not at all."""
    png = io.BytesIO()
    canvas.savefig(png, dpi=120, format="png", bbox_inches="tight")
    files.write_bytes(path, png.getvalue())


def table(results: dict) -> str:
    """The results as text to print: totals, then a line a class with its commonest confusion.

    Args:
      results: As `evaluation.evaluate_run`.
    """
    classes = list(results["per_class"])
    rows = []
    for name, counts in zip(classes, results["confusion_matrix"], strict=True):
        entry = results["per_class"][name]
        wrong = [0 if other == name else count for other, count in zip(classes, counts, strict=True)]
        mistaken = f"{classes[int(np.argmax(wrong))]} ({max(wrong)})" if any(wrong) else ""
        rows.append([name, entry["num_clips"], _percent(entry["prec@1"]), mistaken])
    rows += [tabulate.SEPARATING_LINE, ["all", results["num_clips"], _percent(results["prec@1"]), ""]]
    by_class = tabulate.tabulate(
        rows,
        headers=["class", "clips", "prec@1 %", "most often taken for"],
        disable_numparse=True,
        colalign=("left", "right", "right", "left"),
    )
    streams = "".join(
        f"prec@1 of the {stream} stream alone {_percent(entry['prec@1'])} %\n"
        for stream, entry in results.get("streams", {}).items()
    )
    attention = results["temporal_attention"]
    weights = " ".join(f"{weight:.3f}" for weight in attention["mean_per_segment"])
    return (
        f"{by_class}\n\n{streams}"
        f"prec@5 {_percent(results['prec@5'])} %, mean prec@1 over classes {_percent(results['mean_class_prec@1'])} %\n"
        f"temporal attention: mean by segment {weights}, entropy {attention['mean_entropy']:.3f} of uniform"
    )


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"
