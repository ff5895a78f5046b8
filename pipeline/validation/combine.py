"""Beam combiners whose results are small and do not depend on the order in which they see their elements."""

import bisect
import heapq
import itertools
from collections.abc import Iterable

import apache_beam as beam

from pipeline.validation.measures import UNIT

BINS = 32
# Grey levels a bin of the histograms.
BIN_WIDTHS = {"brightness": 8, "contrast": 4, "motion": 8}


class CountAndSmallest(beam.CombineFn):
    """Counts elements and keeps the smallest of them: (count, sorted list of at most `limit`)."""

    def __init__(self, limit: int):
        """Creates the combiner of sortable elements."""
        self._limit = limit

    def create_accumulator(self) -> tuple[int, list]:
        return 0, []

    def add_input(self, accumulator: tuple[int, list], element) -> tuple[int, list]:
        count, kept = accumulator
        if len(kept) < self._limit or kept and element < kept[-1]:
            bisect.insort(kept, element)
            del kept[self._limit :]
        return count + 1, kept

    def merge_accumulators(self, accumulators: Iterable[tuple[int, list]]) -> tuple[int, list]:
        counts, lists = zip(*accumulators)
        return sum(counts), list(itertools.islice(heapq.merge(*lists), self._limit))

    def extract_output(self, accumulator: tuple[int, list]) -> tuple[int, list]:
        return accumulator


class Distribution(beam.CombineFn):
    """Sums up a measure in whole numbers, 1 / `UNIT` of a grey level each, so that the result is exact.

    The result holds `count`, `sum`, `squares` (the sum of squares), `min`, `max` and `histogram`, `BINS` counts
    of which the last takes all that is larger.
    """

    def __init__(self, bin_width: int):
        """Creates the combiner; `bin_width` is in grey levels."""
        self._bin_width = bin_width * UNIT

    def create_accumulator(self) -> list:
        return [0, 0, 0, None, None, [0] * BINS]

    def add_input(self, accumulator: list, value: int) -> list:
        histogram = [0] * BINS
        histogram[min(value // self._bin_width, BINS - 1)] = 1
        return self.merge_accumulators([accumulator, [1, value, value * value, value, value, histogram]])

    def merge_accumulators(self, accumulators: Iterable[list]) -> list:
        counts, sums, squares, smallest, largest, histograms = zip(*accumulators)
        return [
            sum(counts),
            sum(sums),
            sum(squares),
            min((value for value in smallest if value is not None), default=None),
            max((value for value in largest if value is not None), default=None),
            [sum(bins) for bins in zip(*histograms)],
        ]

    def extract_output(self, accumulator: list) -> dict:
        return dict(zip(("count", "sum", "squares", "min", "max", "histogram"), accumulator, strict=True))


def mean_and_deviation(distribution: dict) -> tuple[float, float]:
    """The mean and the standard deviation of a `Distribution`'s result, in grey levels."""
    count, total, squares = (distribution[name] for name in ("count", "sum", "squares"))
    # In whole numbers up to here: nothing cancels.
    return total / count / UNIT, (count * squares - total * total) ** 0.5 / count / UNIT


def by_key(limit: int) -> beam.CombinePerKey:
    """Counts the values of each key and keeps the smallest."""
    return beam.CombinePerKey(CountAndSmallest(limit))
