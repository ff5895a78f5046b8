"""What several seeds and one set of test clips allow to be said."""

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from stat_tf import errors


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the sample standard deviation (n - 1), which one value does not have."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


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


def gap_closed(row: float, baseline: float, teacher: float) -> float | None:
    """The share of the way from the baseline to the teacher that a row has gone; None where there is no way."""
    return (row - baseline) / (teacher - baseline) if teacher > baseline else None
