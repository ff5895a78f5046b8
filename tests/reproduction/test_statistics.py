"""The statistics against enumeration, SciPy, NumPy and cases known beforehand."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from stat_tf import comparison, errors
from stat_tf.reproduction import statistics


@pytest.mark.parametrize("differences", [[], [0, 0], [1], [1, -1], [3, 0, -1, 2], [2, 2, -3, 1, 0, 1], [3] * 8])
def test_sign_flips_are_all_counted(differences):
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = sum(each >= abs(sum(differences)) for each in sums) / len(sums)
    assert statistics.sign_flip_test(differences) == pytest.approx(expected)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 0), (7, 2), (20, 31), (60, 60)])
def test_with_one_seed_it_is_mcnemars_exact_test(better, worse):
    differences = [1] * better + [-1] * worse + [0] * 100
    assert statistics.sign_flip_test(differences) == pytest.approx(comparison.exact_mcnemar(better, worse))


def test_it_agrees_with_scipys_sampled_permutations():
    generator = np.random.default_rng(0)
    before, after = generator.binomial(3, 0.6, 366), generator.binomial(3, 0.61, 366)
    sampled = stats.permutation_test(
        (after, before),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=20_000,
        vectorized=True,
        random_state=1,
    )
    exact = statistics.sign_flip_test(after - before)
    assert 0.01 < exact < 0.9
    assert exact == pytest.approx(sampled.pvalue, abs=4 * math.sqrt(exact / 20_000))


def test_equally_good_rows_are_seldom_told_apart():
    """Of tests at the 5% level of rows without a difference, about one in twenty rejects."""
    generator = np.random.default_rng(0)
    skill = generator.random((366, 1))
    rejected = sum(
        statistics.sign_flip_test(np.diff(generator.binomial(3, np.repeat(skill, 2, 1)))[:, 0]) < 0.05
        for _ in range(400)
    )
    assert 6 <= rejected <= 34


def test_paired_test_counts_seeds_within_clips():
    first = [{"a": True, "b": False}, {"a": True, "b": False}]
    second = [{"b": True, "a": True}, {"b": True, "a": False}]
    # b: two seeds better; a: one worse. Of the four sums 3, 1, -1, -3 all are as far from 0 as 1.
    assert statistics.paired_test(first, second) == (25.0, 1.0)
    assert statistics.paired_test(first[:1], second[:1]) == (50.0, 1.0)


def test_more_seeds_of_the_same_answers_are_no_more_evidence():
    first = {str(clip): False for clip in range(10)}
    second = {str(clip): clip < 6 for clip in range(10)}
    once = statistics.paired_test([first], [second])
    assert once == (60.0, pytest.approx(2 / 2**6))
    assert statistics.paired_test([first] * 5, [second] * 5) == once


def test_other_clips_are_an_error():
    with pytest.raises(errors.UserError, match="different clips"):
        statistics.paired_test([{"a": True}], [{"b": True}])


def test_mean_and_deviation_are_numpys():
    values = [0.71, 0.74, 0.69]
    assert statistics.mean_and_deviation(values) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert statistics.mean_and_deviation([0.5]) == (0.5, None)


def test_gap_closed():
    assert statistics.gap_closed(0.5, 0.4, 0.8) == pytest.approx(0.25)
    assert statistics.gap_closed(0.3, 0.4, 0.8) == pytest.approx(-0.25)
    assert statistics.gap_closed(0.5, 0.4, 0.4) is None
    # The paper's claim for SAT+TAT+rc+ut with ResNet-34 is about 14%.
    assert statistics.gap_closed(48.03, 42.79, 78.82) == pytest.approx(0.145, abs=0.001)
