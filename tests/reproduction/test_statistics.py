"""The statistics against NumPy and cases known beforehand."""

import numpy as np
import pytest

from stat_tf.reproduction import statistics


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
