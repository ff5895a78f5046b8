"""What several seeds allow to be said."""

import math
from collections.abc import Sequence


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and the sample standard deviation (n - 1), which one value does not have."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def gap_closed(row: float, baseline: float, teacher: float) -> float | None:
    """The share of the way from the baseline to the teacher that a row has gone; None where there is no way."""
    return (row - baseline) / (teacher - baseline) if teacher > baseline else None
