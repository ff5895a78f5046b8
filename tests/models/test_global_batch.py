"""Batch normalisation and dropout on two replicas, against NumPy and against one device."""

import subprocess
import sys

COMMON = """
import numpy as np
import tensorflow as tf
from stat_tf.models import global_batch, layers

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
generator = np.random.default_rng(0)

def on_replicas(function, *shares):
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tuple(map(tf.constant, shares[context.replica_id_in_sync_group])))
    outcome = tf.function(lambda: strategy.run(function, args=values))()
    return tf.nest.map_structure(lambda each: [e.numpy() for e in strategy.experimental_local_results(each)], outcome)
"""

MOMENTS = """
def run(values, positions, counted):
    part = global_batch.Part(positions, tf.constant(5, tf.int64), counted, True, True)
    with global_batch.entered(part):
        return global_batch.moments(values)

# A deviation of a thousandth of the mean: E[x^2] - E[x]^2 in float32 would be off by a tenth.
x = (1000 + generator.normal(size=(5, 3, 2, 4))).astype(np.float32)
for filler in (False, True):
    shares = [(x, np.arange(5), np.float32(1)), (x[:1] - 7, np.zeros(1, np.int64), np.float32(0))] if filler else [
        (x[:4], np.arange(4), np.float32(1)), (x[4:], np.array([4]), np.float32(1))]
    mean, variance, count = on_replicas(run, *shares)
    for replica in (0, 1):
        assert count[replica] == 30
        np.testing.assert_allclose(mean[replica], np.float64(x).mean((0, 1, 2)), rtol=1e-6)
        np.testing.assert_allclose(variance[replica], np.float64(x).var((0, 1, 2)), rtol=1e-4)
"""

BATCH_NORM = """
x = generator.normal(3, 2, size=(5, 3, 2, 4)).astype(np.float32)
upstream = generator.normal(size=x.shape).astype(np.float32)

def make():
    layer = layers.BatchNormalization("bn", epsilon=1e-3, frozen=False)
    layer.build([None, 3, 2, 4])
    layer.gamma.assign([1, 2, -1, 0.5])
    layer.beta.assign([0, 1, 2, 3])
    return layer

def run(layer, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(y * upstream)
    return y, *tape.gradient(loss, [x, layer.gamma, layer.beta])

alone = make()
expected = [value.numpy() for value in run(alone, tf.constant(x), tf.constant(upstream))]
with strategy.scope():
    spread = make()
found = on_replicas(lambda *share: run(spread, *share), *((a[s], b[s]) for a, b in [(x, upstream)]
                                                             for s in (slice(2), slice(2, 5))))
for name, whole, parts in zip(("y", "dx"), expected[:2], found[:2]):
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-4, atol=1e-5, err_msg=name)
for name, whole, parts in zip(("dgamma", "dbeta"), expected[2:], found[2:]):
    np.testing.assert_allclose(sum(parts), whole, rtol=1e-4, atol=1e-5, err_msg=name)
for name in ("moving_mean", "moving_variance"):
    locally = [each.numpy() for each in strategy.experimental_local_results(getattr(spread, name))]
    np.testing.assert_array_equal(*locally)
    np.testing.assert_allclose(locally[0], getattr(alone, name).numpy(), rtol=1e-5)
    np.testing.assert_array_equal(getattr(spread, name).numpy(), locally[0])
np.testing.assert_allclose(spread.moving_variance.numpy(), 0.9 + 0.1 * x.var((0, 1, 2), ddof=1), rtol=1e-5)

# Parts normalised by themselves leave replicas with statistics of their own, averaged where clips count.
module = tf.Module()
module.layer = spread
def differ(mean, counted):
    spread.moving_mean.assign(tf.fill([4], mean))
    layers.average_moving_statistics(module, counted)
    return spread.moving_mean + 0
assert np.all(np.array(on_replicas(differ, (1.0, 1.0), (3.0, 1.0))) == 2)
assert np.all(np.array(on_replicas(differ, (1.0, 1.0), (3.0, 0.0))) == 1)
"""

DROPOUT = """
x = generator.normal(size=(5, 100)).astype(np.float32)
alone = layers.Dropout(0.5, seed=3)
with strategy.scope():
    spread = layers.Dropout(0.5, seed=3)

def run(x, positions):
    with global_batch.entered(global_batch.Part(positions, tf.constant(5, tf.int64), 1.0, True, True)):
        return spread(x, training=True)

for step in range(2):
    expected = alone(x, training=True).numpy()
    first, second = on_replicas(run, (x[::2], np.arange(0, 5, 2)), (x[1::2], np.arange(1, 5, 2)))
    np.testing.assert_array_equal(first, expected[::2])
    np.testing.assert_array_equal(second, expected[1::2])
    assert spread.step.numpy() == alone.step.numpy() == step + 1
"""


def succeeds(script):
    done = subprocess.run([sys.executable, "-c", COMMON + script], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_moments_are_those_of_all_clips_but_fillers():
    succeeds(MOMENTS)


def test_batch_normalisation_is_that_of_one_device():
    """Outputs, gradients and moving statistics, whose variance is over N - 1."""
    succeeds(BATCH_NORM)


def test_dropout_goes_by_position_and_not_by_replica():
    succeeds(DROPOUT)
