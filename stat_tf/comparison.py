"""Compares runs clip by clip: whose accuracy is higher, and whether chance alone could have done it."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from stat_tf import errors, files


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
    return files.exists(os.path.join(directory, "metrics.json"))


def load(directory: str) -> Evaluation:
    """Reads an evaluation.

    Raises:
      UserError: The directory holds none.
    """
    try:
        metrics = json.loads(files.read_text(os.path.join(directory, "metrics.json")))
        predictions = io.StringIO(files.read_text(os.path.join(directory, "predictions.csv")), newline="")
        correct = {row["clip_id"]: row["label"] == row["top_1"] for row in csv.DictReader(predictions)}
    except (OSError, ValueError, KeyError) as error:
        raise errors.UserError(f"{directory} holds no evaluation ({error}): run python -m stat_tf.evaluate.") from error
    return Evaluation(metrics, correct)


def sign_flip_test(differences: Iterable[int]) -> float:
    """The two-sided exact sign-flip permutation test of paired differences.

    Under the hypothesis that two systems are equally good, a clip's difference is as likely to be d as -d, whatever
    those of other clips. The distribution of the sum under all sign flips is computed in full, not sampled. With
    differences of -1, 0 and 1 this is the exact McNemar test.

    Args:
      differences: A whole number a clip.

    Returns:
      The probability of a sum at least as far from 0 as the one seen.
    """
    differences = [int(value) for value in differences]
    sizes = [abs(value) for value in differences if value]
    reach = sum(sizes)
    # probability[reach + s] of the sum s.
    probability = np.zeros(2 * reach + 1)
    probability[reach] = 1.0
    for size in sizes:
        # The ends that roll over are still zero.
        probability = (np.roll(probability, size) + np.roll(probability, -size)) / 2
    sums = np.abs(np.arange(-reach, reach + 1))
    return min(1.0, float(probability[sums >= abs(sum(differences))].sum()))


def paired_test(first: Sequence[Mapping[str, bool]], second: Sequence[Mapping[str, bool]]) -> tuple[float, float]:
    """How much better the second of two rows is, over the same seeds and clips.

    The unit is the clip: of each, the number of seeds that got it right, in the second row less in the first.
    Seeds are not counted as more clips.

    Args:
      first: Whether each clip was right, by id, a mapping a seed.
      second: The same of the other row, seeds in the same order.

    Returns:
      (points of prec@1, p-value of `sign_flip_test`).

    Raises:
      UserError: They were evaluated on different clips.
    """
    clips = first[0].keys()
    if any(each.keys() != clips for each in (*first, *second)):
        raise errors.UserError("Two evaluations are of different clips: delete them, and run the command again.")
    differences = [
        sum(bool(after[clip]) - bool(before[clip]) for before, after in zip(first, second, strict=True))
        for clip in clips
    ]
    return 100 * sum(differences) / (len(clips) * len(first)), sign_flip_test(differences)


def difference(first: Evaluation, second: Evaluation) -> tuple[float, float]:
    """How much better the second is than the first, in points of prec@1, and the p-value of the exact McNemar test.

    Raises:
      UserError: They were evaluated on different clips.
    """
    if first.correct.keys() != second.correct.keys():
        raise errors.UserError(
            "The two evaluations are of different clips: evaluate both on the same dataset and split."
        )
    return paired_test([first.correct], [second.correct])
