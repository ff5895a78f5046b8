import json
import pathlib

import numpy as np
import pytest

from stat_tf import errors, weighting

ROWS = json.loads((pathlib.Path(__file__).parent / "golden" / "losses.json").read_text())


@pytest.mark.parametrize("row", ROWS)
def test_rolling_total_equals_the_golden_total(row):
    weights = weighting.rolling_weights(row["epoch"])
    sat, tat = np.dot(weights.sat_stages, row["sat"]), np.dot(weights.tat_layers, row["tat"])
    assert sat == pytest.approx(row["l_sat"], abs=1e-12)
    assert tat == pytest.approx(row["l_tat"], abs=1e-12)
    total = weights.ce * row["ce"] + weights.sat * sat + weights.tat * tat
    assert total == pytest.approx(row["total"], abs=1e-12)


def test_turns_last_a_period_and_come_round():
    turns = [weighting.rolling_weights(epoch, period=3) for epoch in range(15)]
    assert turns[0] == turns[2] != turns[3]
    assert turns[12] == turns[0]
    assert len(set(turns)) == 4


def test_last_turn_stresses_the_deep_layers():
    weights = weighting.rolling_weights(39)
    assert weights.sat_stages == (0.1, 0.2, 0.3, 0.4)
    assert weights.tat_layers == (0.33, 0.66)


def test_overall_weights_do_not_roll():
    overall = {(w.ce, w.sat, w.tat) for w in (weighting.rolling_weights(e, overall=(0, 0.5, 0.5)) for e in range(40))}
    assert overall == {(0, 0.5, 0.5)}


def test_fixed_weights_are_equal_by_default():
    weights = weighting.LossWeights()
    assert (weights.ce, weights.sat, weights.tat) == (1 / 3, 1 / 3, 1 / 3)
    assert weights.sat_stages == (0.25,) * 4 and weights.tat_layers == (0.5, 0.5)


@pytest.mark.parametrize(
    "fields",
    [
        {"ce": -1.0},
        {"sat": float("nan")},
        {"sat_stages": (1.0,)},
        {"tat_layers": (0.5, 0.5, 0.5)},
        {"tat": float("inf")},
    ],
)
def test_bad_weights_are_refused(fields):
    with pytest.raises(errors.UserError):
        weighting.LossWeights(**fields)


def test_period_of_no_epochs_is_refused():
    with pytest.raises(errors.UserError, match="at least 1 epoch"):
        weighting.rolling_weights(3, period=0)
