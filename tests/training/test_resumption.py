"""A run that was told to stop, at each of its steps, ends as one that never was."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tqdm

from stat_tf import errors
from stat_tf.training import callbacks
from tests import datasets, runs

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Three steps an epoch, the last of them smaller.
CLIPS = {"train": 11, "unlabeled": 11, "test": 5}
SETTINGS = {"batch_size": 4, "width": 0.0625, "deterministic": True}


def variables_of(run_dir):
    """Every variable of the newest `last` checkpoint by name."""
    [*_, last] = sorted((pathlib.Path(run_dir) / "checkpoints" / "last").iterdir())
    readers = {part: tf.train.load_checkpoint(str(last / part)) for part in ("recognizer", "optimizer")}
    return {
        (part, name): reader.get_tensor(name)
        for part, reader in readers.items()
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"  # holds serial numbers of the process
    }


def assert_same_run(one, other):
    assert (one / "history.jsonl").read_text() == (other / "history.jsonl").read_text()
    expected, found = variables_of(one), variables_of(other)
    assert expected.keys() == found.keys() and expected
    for name, values in expected.items():
        np.testing.assert_array_equal(values, found[name], err_msg=str(name))


def stop_at(patch, number, event):
    """Sends the process a signal at an event, counted from 1: steps, batches of evaluation and epochs' ends."""
    count = 0

    def counted(method):
        def call(self, *args, **kwargs):
            nonlocal count
            count += 1
            if count == event:
                os.kill(os.getpid(), number)
            return method(self, *args, **kwargs)

        return call

    for name in ("on_train_batch_end", "on_test_batch_end", "on_epoch_end"):
        patch.setattr(callbacks.StopOnNonFinite, name, counted(getattr(callbacks.StopOnNonFinite, name)))


def steps_of_curves(directory):
    return [
        event.step
        for path in sorted(directory.iterdir())
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
        if value.tag == "loss"
    ]


def test_a_stopped_run_goes_on_at_its_step(tmp_path, monkeypatch, capsys):
    datasets.write_dataset(tmp_path / "data", clips=CLIPS)
    settings = SETTINGS | {"checkpoint_steps": 0}
    runs.train(tmp_path / "data", tmp_path / "whole", **settings)
    bars, make_bar = [], tqdm.tqdm
    monkeypatch.setattr(tqdm, "tqdm", lambda **kwargs: bars.append(kwargs) or make_bar(**kwargs))
    before = signal.getsignal(signal.SIGTERM)
    with monkeypatch.context() as patch:
        stop_at(patch, signal.SIGTERM, 8)  # 3 steps, 2 batches of evaluation, 1 end, 2 steps
        with pytest.raises(errors.StoppedBySignal, match="SIGTERM: the state after step 2 of epoch 2 of 2 is kept in"):
            runs.train(tmp_path / "data", tmp_path / "stopped", **settings)
    assert signal.getsignal(signal.SIGTERM) is before
    assert [path.name for path in (tmp_path / "stopped/checkpoints/partial").iterdir()] == ["epoch-0002-step-000002"]
    progress = runs.train(tmp_path / "data", tmp_path / "stopped", **settings)
    assert "after step 2 of epoch 2 of 2" in capsys.readouterr().out
    assert [epoch["step"] for epoch in progress.history] == [3, 6]
    assert [(bar["initial"], bar["total"]) for bar in bars] == [(0, 3), (0, 3), (2, 3)]
    for logs in ("train", "eval"):
        steps = steps_of_curves(tmp_path / "whole/logs" / logs)
        assert steps_of_curves(tmp_path / "stopped/logs" / logs) == steps and steps


def compare(root, replicas, changes, events):
    """Trains a run whole, and another that is stopped at one event after the other; to be called in a new process."""
    if replicas > 1:
        [cpu] = tf.config.list_physical_devices("CPU")
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * replicas)
        make = tf.distribute.MirroredStrategy
        tf.distribute.MirroredStrategy = lambda: make([f"CPU:{number}" for number in range(replicas)])
    tf.config.experimental.enable_op_determinism()
    datasets.write_dataset(root / "data", clips=CLIPS)
    settings = SETTINGS | changes
    if settings.get("stage") == "unsupervised":
        for name, stage in (("teacher_run", "teacher"), ("init_run", "student")):
            runs.untrained(root / "data", root / stage, stage=stage, width=SETTINGS["width"])
            settings[name] = str(root / stage)
    runs.train(root / "data", root / "whole", **settings)
    for event in events:
        with pytest.MonkeyPatch.context() as patch:
            stop_at(patch, signal.SIGTERM, event)
            try:
                runs.train(root / "data", root / "stopped", **settings)
            except errors.StoppedBySignal as stopped:
                print("after " + re.search("after (.*) of 2 is kept", str(stopped))[1])
    assert_same_run(root / "whole", root / "stopped")


# With the event of each start and where it stops; the last start goes through, for the epoch's end that it
# is stopped in is the run's. An epoch has 3 steps, 2 batches of evaluation and its end.
EVALUATED = [(1, "step 1 of epoch 1"), (1, "step 2 of epoch 1"), (1, "step 3 of epoch 1"), (2, "step 3 of epoch 1")]
EVALUATED += [(3, "epoch 1"), (2, "step 2 of epoch 2"), (1, "step 3 of epoch 2"), (1, "step 3 of epoch 2"), (3, None)]
NOT_EVALUATED = [
    (1, "step 1 of epoch 1"),
    (1, "step 2 of epoch 1"),
    (1, "epoch 1"),
    (2, "step 2 of epoch 2"),
    (1, None),
]
FEWER = [(2, "step 2 of epoch 1"), (2, "epoch 1"), (2, "step 2 of epoch 2"), (3, None)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replicas", "changes", "stops"),
    [
        (1, {}, EVALUATED),
        (1, {"eval_split": "", "checkpoint_steps": 0, "optimizer": "adamw"}, NOT_EVALUATED),
        (2, {"strategy": "mirrored", "stage": "unsupervised", "weights": "rolling"}, FEWER),
    ],
    ids=["evaluated", "not evaluated", "two replicas"],
)
def test_stops_anywhere_change_nothing(tmp_path, replicas, changes, stops):
    events = [event for event, _ in stops]
    call = "import pathlib; from tests.training import test_resumption as t; "
    call += f"t.compare(pathlib.Path({str(tmp_path)!r}), {replicas}, {changes!r}, {events!r})"
    done = subprocess.run([sys.executable, "-c", call], cwd=ROOT, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    found = [line.removeprefix("after ") for line in done.stdout.splitlines() if line.startswith("after ")]
    assert found == [place for _, place in stops if place]
