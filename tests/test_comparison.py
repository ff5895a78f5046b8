"""The paired test against values worked out by hand and by enumeration."""

import itertools
import json

import pytest

from stat_tf import comparison, errors


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (3, 3), (0, 5), (2, 7), (10, 1)])
def test_mcnemar_equals_counting_all_outcomes(first, second):
    total, observed = first + second, abs(first - second)
    outcomes = [sum(flips) for flips in itertools.product((0, 1), repeat=total)]
    expected = sum(abs(total - 2 * k) >= observed for k in outcomes) / len(outcomes)
    assert comparison.exact_mcnemar(first, second) == pytest.approx(expected)


def write(directory, rows):
    directory.mkdir()
    (directory / "metrics.json").write_text(json.dumps({"prec@1": 0.5}))
    lines = [f"{clip},{label},{top}" for clip, label, top in rows]
    (directory / "predictions.csv").write_text("\n".join(["clip_id,label,top_1", *lines]) + "\n")
    return comparison.load(str(directory))


def test_difference_counts_the_clips_that_only_one_got_right(tmp_path):
    first = write(tmp_path / "a", [("1", "x", "x"), ("2", "x", "y"), ("3", "y", "x"), ("4", "y", "x")])
    second = write(tmp_path / "b", [("4", "y", "y"), ("3", "y", "y"), ("2", "x", "x"), ("1", "x", "y")])
    assert comparison.difference(first, second) == (50.0, comparison.exact_mcnemar(1, 3))


def test_other_clips_or_no_evaluation_are_errors(tmp_path):
    first = write(tmp_path / "a", [("1", "x", "x")])
    second = write(tmp_path / "b", [("2", "x", "x")])
    with pytest.raises(errors.UserError, match="different clips"):
        comparison.difference(first, second)
    with pytest.raises(errors.UserError, match="holds no evaluation"):
        comparison.load(str(tmp_path / "missing"))
