"""Copies of variables: nothing that training changes is left out, and all of it comes back."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from stat_tf.data import info as info_lib
from stat_tf.training import assembly, resumption, snapshot
from tests import datasets, runs


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with everything that has a state: dropout, momenta, a loss scale, running means."""
    directory = tmp_path_factory.mktemp("data")
    datasets.write_dataset(directory)
    config = runs.make_config(directory, width=0.0625, dropout=0.5, precision="float16", optimizer="adamw")
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        return assembly.build(config, info_lib.load(str(directory)))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def parts_of(model):
    return {"recognizer": model.student, "optimizer": model.optimizer, **resumption.means(model)}


def known_state(model):
    """What Keras lists, by its own means, and the loss scale, which it does not list."""
    listed = [*model.student.variables, *model.optimizer.variables, *model.variables, model.optimizer.dynamic_counter]
    # The loss weights of an epoch are set at its beginning.
    listed = [variable for variable in listed if not variable.name.startswith("loss_weights")]
    state = {f"{number} {variable.name}": variable.numpy() for number, variable in enumerate(listed)}
    return state | {"scale": model.optimizer.loss_scale.numpy()}


def change_all(model, seed):
    random = np.random.default_rng(seed)
    for variable in snapshot.variables(parts_of(model)).values():
        variable.assign(tf.cast(random.uniform(1, 100, variable.shape), variable.dtype))


def test_paths_are_those_of_an_ordinary_checkpoint(model, tmp_path):
    tf.train.Checkpoint(**parts_of(model)).write(str(tmp_path / "ordinary"))
    suffix = "/.ATTRIBUTES/VARIABLE_VALUE"
    names = [name for name, _ in tf.train.list_variables(str(tmp_path / "ordinary"))]
    expected = {name.removesuffix(suffix) for name in names if name.endswith(suffix)} - {"save_counter"}
    assert set(snapshot.variables(parts_of(model))) == expected
    assert any("loss_scale" in name for name in expected)


def test_all_state_comes_back_from_the_file(model, tmp_path):
    strategy = tf.distribute.get_strategy()
    change_all(model, 0)
    values = known_state(model)
    snapshot.write(snapshot.take(parts_of(model), strategy), str(tmp_path / "file"))
    change_all(model, 1)
    changed = known_state(model)
    assert not [name for name in values if np.array_equal(values[name], changed[name])]
    snapshot.put_back(parts_of(model), strategy, snapshot.read(str(tmp_path / "file")))
    back = known_state(model)
    for name, value in values.items():
        np.testing.assert_array_equal(value, back[name], err_msg=name)


def test_a_copy_does_not_follow_its_variable():
    variable = tf.Variable([1.0, 2.0])
    taken = snapshot.take({"v": variable}, tf.distribute.get_strategy())
    variable.assign_add([1.0, 1.0])
    np.testing.assert_array_equal(taken["v/0"], [1, 2])


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"a": tf.Variable([1.0, 2.0]), "b": tf.Variable(1.0)}, "b is missing"),
        ({}, "a is left over"),
        ({"a": tf.Variable([[1.0, 2.0]])}, r"a has the shape \(2,\), not \(1, 2\)"),
    ],
)
def test_what_does_not_fit_is_named_and_changes_nothing(other, words):
    strategy = tf.distribute.get_strategy()
    arrays = snapshot.take({"a": tf.Variable([5.0, 6.0])}, strategy)
    before = snapshot.take(other, strategy)
    with pytest.raises(ValueError, match=words):
        snapshot.put_back(other, strategy, arrays)
    after = snapshot.take(other, strategy)
    assert all(np.array_equal(before[name], after[name]) for name in before)


_REPLICAS = """
import numpy as np
import tensorflow as tf
[cpu] = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from stat_tf.models import layers
from stat_tf.training import snapshot

def make(strategy):
    with strategy.scope():
        return {"mean": tf.keras.metrics.Mean(), "dropout": layers.Dropout(0.5, seed=1), "weights": tf.Variable([3.0])}

def own(strategy, parts):
    results = strategy.experimental_local_results
    return [[value.numpy() for value in results(variable)] for variable in parts["mean"].variables]

two, one = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), tf.distribute.get_strategy()
first, second, single = make(two), make(two), make(one)

@tf.function
def step():
    replica = tf.distribute.get_replica_context().replica_id_in_sync_group
    first["mean"].update_state(0.1 + tf.cast(replica, tf.float32))
    first["dropout"](tf.ones([4]), training=True)

for _ in range(3):
    two.run(step)
first["weights"].assign([7.0])
taken = snapshot.take(first, two)
snapshot.put_back(second, two, taken)
assert own(two, first) == own(two, second), (own(two, first), own(two, second))
assert own(two, first)[0][0] != own(two, first)[0][1]
assert second["dropout"].step.numpy() == 3 and second["weights"].numpy() == 7

# On one device: the sum of what the two had; and the other way round.
snapshot.put_back(single, one, taken)
assert single["mean"].count.numpy() == 6 and single["dropout"].step.numpy() == 3
np.testing.assert_allclose(single["mean"].result(), 0.6, rtol=1e-6)
single["mean"].update_state(5.0)
third = make(two)
snapshot.put_back(third, two, snapshot.take(single, one))
np.testing.assert_allclose(third["mean"].result(), single["mean"].result(), rtol=1e-6)
assert third["dropout"].step.numpy() == 3
print("replicas agree")
"""


def test_each_replica_gets_its_own_values_back():
    done = subprocess.run([sys.executable, "-c", _REPLICAS], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0 and "replicas agree" in done.stdout, done.stderr
