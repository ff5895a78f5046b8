"""Learning rates against their formula in NumPy; what the optimizer clips and decays."""

import numpy as np
import pytest
import tensorflow as tf

from stat_tf.training import schedules


def rates(schedule, steps):
    return np.array([float(schedule(tf.constant(step, tf.int64))) for step in steps])


def test_step_schedule_is_section_4_2s():
    steps_per_epoch = 7
    schedule = schedules.StepSchedule(
        0.001, steps_per_epoch=steps_per_epoch, warmup_epochs=5, decay_epochs=20, decay_factor=0.1
    )
    steps = np.arange(50 * steps_per_epoch)
    expected = 0.001 * 0.1 ** (steps // (20 * steps_per_epoch)) * np.minimum(1, (steps + 1) / (5 * steps_per_epoch))
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=1e-5)
    # The turning points in figures, so that the formula above cannot share a mistake.
    np.testing.assert_allclose(
        rates(schedule, [0, 34, 35, 139, 140, 279, 280, 349]),
        [0.001 / 35, 1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5],
        rtol=1e-5,
    )


def test_cosine_schedule_starts_at_the_rate_and_ends_at_zero():
    schedule = schedules.CosineSchedule(0.2, steps_per_epoch=10, warmup_epochs=2, epochs=12)
    steps = np.arange(120)
    expected = 0.1 * (1 + np.cos(np.pi * np.clip((steps - 20) / 100, 0, 1))) * np.minimum(1, (steps + 1) / 20)
    np.testing.assert_allclose(rates(schedule, steps), expected, rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(rates(schedule, [20, 70, 120, 500]), [0.2, 0.1, 0, 0], atol=1e-7)


@pytest.mark.parametrize("make", [schedules.StepSchedule, schedules.CosineSchedule])
def test_no_warmup_starts_at_the_full_rate(make):
    rest = {"decay_epochs": 2, "decay_factor": 0.5} if make is schedules.StepSchedule else {"epochs": 4}
    assert rates(make(0.5, steps_per_epoch=3, warmup_epochs=0, **rest), [0]) == 0.5


def optimizer_of(name, variables, **changes):
    options = {"momentum": 0.9, "weight_decay": 0.0, "clip_norm": 0.0} | changes
    rate = schedules.StepSchedule(0.5, steps_per_epoch=1, warmup_epochs=0, decay_epochs=100, decay_factor=1.0)
    return schedules.make_optimizer(name, rate, variables=variables, **options)


def test_gradients_are_clipped_by_their_global_norm():
    variables = [tf.Variable(tf.zeros([2, 1])), tf.Variable(tf.zeros([1]))]
    gradients = [tf.constant([[3.0], [0.0]]), tf.constant([4.0])]
    optimizer_of("sgd", variables, clip_norm=1.0).apply_gradients(zip(gradients, variables))
    np.testing.assert_allclose(variables[0].numpy(), [[-0.5 * 3 / 5], [0]], rtol=1e-6)
    np.testing.assert_allclose(variables[1].numpy(), [-0.5 * 4 / 5], rtol=1e-6)


def test_sgd_has_momentum():
    variables = [tf.Variable(tf.zeros([1, 1]))]
    optimizer = optimizer_of("sgd", variables)
    for _ in range(2):
        optimizer.apply_gradients([(tf.ones([1, 1]), variables[0])])
    np.testing.assert_allclose(variables[0].numpy(), [[-0.5 - (0.5 + 0.9 * 0.5)]], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_is_times_the_rate_and_spares_vectors(name):
    variables = [tf.Variable(tf.ones([1, 2])), tf.Variable(tf.ones([2]))]
    gradients = [tf.zeros([1, 2]), tf.zeros([2])]
    optimizer_of(name, variables, weight_decay=0.1).apply_gradients(zip(gradients, variables))
    np.testing.assert_allclose(variables[0].numpy(), [[0.95, 0.95]], rtol=1e-6)
    np.testing.assert_array_equal(variables[1].numpy(), [1, 1])
