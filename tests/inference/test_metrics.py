"""Metrics against a clip-by-clip restatement, and what they are where the answer is known."""

import math

import numpy as np
import pytest

from stat_tf.inference import metrics


def draw(num_clips=57, num_classes=7, num_segments=4, seed=0):
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(num_classes), num_clips).astype(np.float32)
    attention = generator.dirichlet(np.ones(num_segments), num_clips).astype(np.float32)
    return probabilities, generator.integers(0, num_classes - 1, num_clips), attention


def rank_of_label(row, label):
    """How many classes come before the label: those more probable, then those equal with a lower index."""
    return sum(p > row[label] or (p == row[label] and i < label) for i, p in enumerate(row))


@pytest.mark.parametrize("k", [1, 2, 5, 7, 9])
def test_precision_counts_clips_whose_label_ranks_before_k(k):
    probabilities, labels, _ = draw()
    ranks = [rank_of_label(row, label) for row, label in zip(probabilities, labels, strict=True)]
    assert metrics.precision_at_k(probabilities, labels, k) == pytest.approx(np.mean([rank < k for rank in ranks]))


def test_ties_go_to_the_lower_class():
    probabilities = np.array([[0.25, 0.25, 0.5, 0.0], [0.25, 0.25, 0.25, 0.25]], np.float32)
    assert metrics.top_classes(probabilities, 3).tolist() == [[2, 0, 1], [0, 1, 2]]
    # Enough equal values for a sort that is not stable to disturb them.
    assert metrics.top_classes(np.full((1, 101), 1 / 101, np.float32)).tolist() == [[0, 1, 2, 3, 4]]


def test_confusion_rows_are_labels():
    matrix = metrics.confusion_matrix(np.array([0, 0, 2]), np.array([1, 1, 2]), 3)
    assert matrix.tolist() == [[0, 2, 0], [0, 0, 0], [0, 0, 1]]


def test_summary_equals_a_restatement_clip_by_clip():
    probabilities, labels, attention = draw()
    classes = tuple("abcdefg")
    summary = metrics.summarize(probabilities, labels, attention, classes)

    ranks = np.array([rank_of_label(row, label) for row, label in zip(probabilities, labels, strict=True)])
    assert summary["num_clips"] == 57
    assert summary["prec@1"] == pytest.approx(np.mean(ranks < 1))
    assert summary["prec@5"] == pytest.approx(np.mean(ranks < 5))
    per_class = []
    for index, name in enumerate(classes):
        mine = ranks[labels == index]
        assert summary["per_class"][name]["num_clips"] == len(mine)
        assert summary["per_class"][name]["prec@1"] == (pytest.approx(np.mean(mine < 1)) if len(mine) else None)
        per_class += [np.mean(mine < 1)] if len(mine) else []
    assert summary["mean_class_prec@1"] == pytest.approx(np.mean(per_class))
    assert summary["per_class"]["g"] == {"num_clips": 0, "prec@1": None}
    matrix = np.array(summary["confusion_matrix"])
    assert matrix.sum() == 57 and np.trace(matrix) == (ranks < 1).sum()


def test_prec_at_5_of_three_classes_is_one():
    probabilities, labels, attention = draw(num_classes=3)
    assert metrics.summarize(probabilities, labels, attention, ("a", "b", "c"))["prec@5"] == 1.0


def test_temporal_attention_is_measured_from_one_segment_to_uniform():
    uniform = metrics.temporal_attention_summary(np.full((5, 4), 0.25, np.float32))
    single = metrics.temporal_attention_summary(np.eye(4, dtype=np.float32)[[2, 2]])
    assert uniform["mean_entropy"] == pytest.approx(1.0)
    assert uniform["mean_maximum"] == pytest.approx(0.25)
    assert single["mean_entropy"] == pytest.approx(0.0, abs=1e-9)
    assert single["mean_per_segment"] == [0.0, 0.0, 1.0, 0.0]

    attention = draw()[2].astype(float)
    by_hand = np.mean([-sum(a * math.log(a) for a in row) for row in attention]) / math.log(4)
    assert metrics.temporal_attention_summary(attention)["mean_entropy"] == pytest.approx(by_hand, rel=1e-5)


def test_one_segment_has_no_entropy():
    assert metrics.temporal_attention_summary(np.ones((3, 1), np.float32))["mean_entropy"] == 0.0
