"""Compares runs clip by clip: whose accuracy is higher, and whether chance alone could have done it."""

import csv
import dataclasses
import json
import math
import os

from stat_tf import errors


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What `python -m stat_tf.evaluate` wrote in one directory.

    Attributes:
      metrics: The contents of `metrics.json`.
      correct: Whether the top class was right, by clip id.
    """

    metrics: dict
    correct: dict[str, bool]


def exists(directory: str) -> bool:
    """Whether a directory holds an evaluation, whose metrics are written last."""
    return os.path.exists(os.path.join(directory, "metrics.json"))


def load(directory: str) -> Evaluation:
    """Reads an evaluation.

    Raises:
      UserError: The directory holds none.
    """
    try:
        with open(os.path.join(directory, "metrics.json"), encoding="utf-8") as file:
            metrics = json.load(file)
        with open(os.path.join(directory, "predictions.csv"), encoding="utf-8", newline="") as file:
            correct = {row["clip_id"]: row["label"] == row["top_1"] for row in csv.DictReader(file)}
    except (OSError, ValueError, KeyError) as error:
        raise errors.UserError(f"{directory} holds no evaluation ({error}): run python -m stat_tf.evaluate.") from error
    return Evaluation(metrics, correct)


def exact_mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact McNemar test of two classifiers on the same clips.

    Args:
      only_first: Clips that only the first classifier got right.
      only_second: Clips that only the second got right.

    Returns:
      The probability of a split at least this uneven if both were equally good.
    """
    total = only_first + only_second
    tail = sum(math.comb(total, k) for k in range(min(only_first, only_second) + 1)) / 2**total
    return min(1.0, 2 * tail)


def difference(first: Evaluation, second: Evaluation) -> tuple[float, float]:
    """How much better the second is than the first, in points of prec@1, and the p-value.

    Raises:
      UserError: They were evaluated on different clips.
    """
    if first.correct.keys() != second.correct.keys():
        raise errors.UserError(
            "The two evaluations are of different clips: evaluate both on the same dataset and split."
        )
    only_first = sum(first.correct[clip] and not second.correct[clip] for clip in first.correct)
    only_second = sum(second.correct[clip] and not first.correct[clip] for clip in first.correct)
    return 100 * (only_second - only_first) / len(first.correct), exact_mcnemar(only_first, only_second)
