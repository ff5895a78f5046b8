"""The paired test against enumeration, SciPy and values worked out by hand."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from stat_tf import comparison, errors


@pytest.mark.parametrize("differences", [[], [0, 0], [1], [1, -1], [3, 0, -1, 2], [2, 2, -3, 1, 0, 1], [3] * 8])
def test_sign_flips_are_all_counted(differences):
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    expected = sum(each >= abs(sum(differences)) for each in sums) / len(sums)
    assert comparison.sign_flip_test(differences) == pytest.approx(expected)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 3), (0, 5), (2, 7), (10, 1)])
def test_mcnemar_equals_counting_all_outcomes(first, second):
    total, observed = first + second, abs(first - second)
    outcomes = [sum(flips) for flips in itertools.product((0, 1), repeat=total)]
    expected = sum(abs(total - 2 * k) >= observed for k in outcomes) / len(outcomes)
    assert comparison.sign_flip_test([-1] * first + [1] * second) == pytest.approx(expected)


@pytest.mark.parametrize(("better", "worse"), [(0, 0), (5, 0), (7, 2), (20, 31), (60, 60)])
def test_with_one_seed_it_is_mcnemars_exact_test(better, worse):
    expected = stats.binomtest(better, better + worse).pvalue if better + worse else 1.0
    differences = [1] * better + [-1] * worse + [0] * 100
    assert comparison.sign_flip_test(differences) == pytest.approx(expected)


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
    exact = comparison.sign_flip_test(after - before)
    assert 0.01 < exact < 0.9
    assert exact == pytest.approx(sampled.pvalue, abs=4 * math.sqrt(exact / 20_000))


def test_equally_good_rows_are_seldom_told_apart():
    """Of tests at the 5% level of rows without a difference, about one in twenty rejects."""
    generator = np.random.default_rng(0)
    skill = generator.random((366, 1))
    rejected = sum(
        comparison.sign_flip_test(np.diff(generator.binomial(3, np.repeat(skill, 2, 1)))[:, 0]) < 0.05
        for _ in range(400)
    )
    assert 6 <= rejected <= 34


def test_paired_test_counts_seeds_within_clips():
    first = [{"a": True, "b": False}, {"a": True, "b": False}]
    second = [{"b": True, "a": True}, {"b": True, "a": False}]
    # b: two seeds better; a: one worse. Of the four sums 3, 1, -1, -3 all are as far from 0 as 1.
    assert comparison.paired_test(first, second) == (25.0, 1.0)
    assert comparison.paired_test(first[:1], second[:1]) == (50.0, 1.0)


def test_more_seeds_of_the_same_answers_are_no_more_evidence():
    first = {str(clip): False for clip in range(10)}
    second = {str(clip): clip < 6 for clip in range(10)}
    once = comparison.paired_test([first], [second])
    assert once == (60.0, pytest.approx(2 / 2**6))
    assert comparison.paired_test([first] * 5, [second] * 5) == once


def test_other_clips_are_an_error():
    with pytest.raises(errors.UserError, match="different clips"):
        comparison.paired_test([{"a": True}], [{"b": True}])


def write(directory, rows):
    directory.mkdir()
    (directory / "metrics.json").write_text(json.dumps({"prec@1": 0.5}))
    lines = [f"{clip},{label},{top}" for clip, label, top in rows]
    (directory / "predictions.csv").write_text("\n".join(["clip_id,label,top_1", *lines]) + "\n")
    return comparison.load(str(directory))


def test_difference_counts_the_clips_that_only_one_got_right(tmp_path):
    first = write(tmp_path / "a", [("1", "x", "x"), ("2", "x", "y"), ("3", "y", "x"), ("4", "y", "x")])
    second = write(tmp_path / "b", [("4", "y", "y"), ("3", "y", "y"), ("2", "x", "x"), ("1", "x", "y")])
    assert comparison.difference(first, second) == (50.0, stats.binomtest(1, 4).pvalue)


def test_other_clips_or_no_evaluation_are_errors(tmp_path):
    first = write(tmp_path / "a", [("1", "x", "x")])
    second = write(tmp_path / "b", [("2", "x", "x")])
    with pytest.raises(errors.UserError, match="different clips"):
        comparison.difference(first, second)
    with pytest.raises(errors.UserError, match="holds no evaluation"):
        comparison.load(str(tmp_path / "missing"))
