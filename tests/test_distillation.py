"""Soft labels, against NumPy and SciPy's definitions."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from stat_tf import distillation

GENERATOR = np.random.default_rng(0)
STUDENT, TEACHER = GENERATOR.normal(0, 3, (2, 20, 7)).astype(np.float32)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_soft_label_loss_is_the_relative_entropy_of_softened_distributions(temperature):
    teacher, student = (special.softmax(np.float64(logits) / temperature, axis=1) for logits in (TEACHER, STUDENT))
    expected = temperature**2 * special.rel_entr(teacher, student).sum(axis=1)
    actual = distillation.soft_label_loss(tf.constant(STUDENT), tf.constant(TEACHER), temperature)
    assert actual.dtype == tf.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-4)


def test_agreement_costs_nothing_and_pulls_nowhere():
    logits = tf.constant(TEACHER)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = distillation.soft_label_loss(logits, tf.constant(TEACHER) + 5.0, 2.0)
    np.testing.assert_allclose(loss, np.zeros(20), atol=1e-5)
    np.testing.assert_allclose(tape.gradient(loss, logits), np.zeros_like(TEACHER), atol=1e-5)


def test_gradient_keeps_its_scale_at_high_temperature():
    """Towards T = inf it is (s - t) / classes, less the rows' means (Hinton et al., section 2.1)."""
    logits = tf.constant(STUDENT)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = distillation.soft_label_loss(logits, tf.constant(TEACHER), 1000.0)
    difference = STUDENT - TEACHER
    expected = (difference - difference.mean(axis=1, keepdims=True)) / 7
    np.testing.assert_allclose(tape.gradient(loss, logits), expected, atol=0.02)


def test_losses_of_half_precision_logits_are_float32():
    half = tf.constant(STUDENT, tf.bfloat16)
    assert distillation.soft_label_loss(half, half, 1.0).dtype == tf.float32
