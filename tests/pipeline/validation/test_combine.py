"""The combiners against plain Python, however the elements are divided and merged."""

import numpy as np
import pytest

from pipeline.validation import combine
from pipeline.validation.measures import UNIT


def combined(combiner, elements, rng):
    """Combines as a runner might: in any number of parts, merged in any order."""
    parts = np.array_split(rng.permutation(len(elements)), rng.integers(1, 6))
    accumulators = []
    for part in parts:
        accumulator = combiner.create_accumulator()
        for place in part:
            accumulator = combiner.add_input(accumulator, elements[place])
        accumulators.append(accumulator)
    half = len(accumulators) // 2
    merged = [combiner.merge_accumulators(some) for some in (accumulators[:half], accumulators[half:]) if some]
    return combiner.extract_output(combiner.merge_accumulators(merged))


@pytest.mark.parametrize("limit", [0, 1, 7])
@pytest.mark.parametrize("seed", range(5))
def test_smallest_are_kept_and_all_counted(seed, limit):
    rng = np.random.default_rng(seed)
    elements = [(int(number), f"clip {number}") for number in rng.integers(0, 50, rng.integers(1, 40))]
    assert combined(combine.CountAndSmallest(limit), elements, rng) == (len(elements), sorted(elements)[:limit])


@pytest.mark.parametrize("seed", range(5))
def test_distribution_is_exact(seed):
    rng = np.random.default_rng(seed)
    levels = rng.uniform(0, 300, 33)
    values = [round(UNIT * level) for level in levels]
    found = combined(combine.Distribution(8), values, rng)
    assert (found["count"], found["sum"], found["squares"]) == (33, sum(values), sum(v * v for v in values))
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["histogram"] == np.histogram(levels, [*(8 * np.arange(32)), np.inf])[0].tolist()
    np.testing.assert_allclose(combine.mean_and_deviation(found), [levels.mean(), levels.std()], atol=1e-3)


def test_deviation_of_equal_values_is_nothing():
    combiner = combine.Distribution(8)
    accumulator = combiner.create_accumulator()
    for _ in range(3):
        accumulator = combiner.add_input(accumulator, 200_123_457)
    assert combine.mean_and_deviation(combiner.extract_output(accumulator))[1] == 0
