"""Checkpoints amid an epoch: which are kept, what is resumed from, and what a bad disk does to them."""

import errno
import json
import os
import pathlib
import resource
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors
from stat_tf.training import checkpoints, schedules, snapshot
from stat_tf.training.checkpoints import Progress, RunCheckpoints


class Run:
    """A stand-in for a run: `steps` adds to its weight, its momentum and a mean."""

    def __init__(self, run_dir, **kwargs):
        self.dir = pathlib.Path(run_dir)
        self.recognizer = tf.keras.Sequential([tf.keras.layers.Dense(3, kernel_initializer="zeros")])
        self.recognizer.build((None, 2))
        rate = schedules.StepSchedule(0.1, steps_per_epoch=1, warmup_epochs=0, decay_epochs=1, decay_factor=1)
        self.optimizer = schedules.make_optimizer(
            "sgd", rate, momentum=0.9, weight_decay=0.0, clip_norm=0.0, variables=self.recognizer.trainable_variables
        )
        self.mean = tf.keras.metrics.Mean()
        self.saved = RunCheckpoints(str(run_dir), self.recognizer, self.optimizer, {"loss": self.mean}, **kwargs)

    def step(self):
        variables = self.recognizer.trainable_variables
        self.optimizer.apply_gradients([(tf.ones_like(variable), variable) for variable in variables])
        self.mean.update_state(self.optimizer.iterations)

    def steps(self, progress, numbers):
        """Takes a step for each number and saves it as that one of the epoch."""
        for number in numbers:
            self.step()
            self.saved.save_step(progress.at_step(number))
        self.saved.wait()

    def epoch(self, progress, value):
        self.step()
        progress = progress.after_epoch({"val_prec@1": value}, value)
        self.saved.save(progress)
        self.mean.reset_state()
        return progress

    def state(self):
        return [
            value.numpy() for value in (*self.recognizer.variables, *self.optimizer.variables, *self.mean.variables)
        ]

    def names(self, which="partial"):
        return sorted(path.name for path in (self.dir / "checkpoints" / which).iterdir())


def assert_same_state(one, other):
    for first, second in zip(one.state(), other.state(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_a_run_goes_on_amid_its_epoch_bit_for_bit(tmp_path):
    first = Run(tmp_path)
    progress = first.epoch(Progress(), 0.5)
    first.steps(progress, [7, 8])
    second = Run(tmp_path)
    assert second.saved.restore() == progress.at_step(8)
    assert_same_state(first, second)
    assert float(second.mean.count) == 2
    for run in (first, second):
        run.step()
    assert_same_state(first, second)
    assert [json.loads(line)["epoch"] for line in (tmp_path / "history.jsonl").read_text().splitlines()] == [1]


def test_the_newest_are_kept_and_an_epochs_end_deletes_them(tmp_path):
    run = Run(tmp_path, max_to_keep=3)
    run.steps(Progress(), [2, 4, 6, 8, 10])
    assert run.names() == [f"epoch-0001-step-{step:06d}" for step in (6, 8, 10)]
    damaged = tmp_path / "checkpoints/partial/epoch-0001-step-000003.damaged"
    damaged.mkdir()
    progress = run.epoch(Progress(), 0.1)
    assert run.names() == []
    run.steps(progress, [2])
    for value in (0.9, 0.3, 0.2, 0.1):
        progress = run.epoch(progress, value)
    assert run.names("last") == ["epoch-0003", "epoch-0004", "epoch-0005"]
    assert run.names("best") == ["epoch-0002"]
    assert Run(tmp_path).saved.restore() == progress


def test_the_best_by_precision_survives_resuming_amid_an_epoch(tmp_path):
    run = Run(tmp_path, max_to_keep=1)
    progress = run.epoch(run.epoch(Progress(), 0.9), 0.2)
    run.steps(progress, [1])
    again = Run(tmp_path, max_to_keep=1)
    progress = again.saved.restore()
    assert (progress.best_epoch, progress.best_value) == (1, 0.9)
    progress = again.epoch(progress, 0.5)
    assert again.names("best") == ["epoch-0001"] and again.names("last") == ["epoch-0003"]
    assert again.epoch(progress, 0.95).best_epoch == 4
    assert again.names("best") == ["epoch-0004"]


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    "damage",
    [
        lambda at: truncate(at / "training.data-00000-of-00001"),
        lambda at: truncate(at / "training.index"),
        lambda at: truncate(at / "state.json"),
        lambda at: (at / "training.index").unlink(),
        lambda at: (at / "training.data-00000-of-00001").unlink(),
        lambda at: (at / "state.json").unlink(),
        lambda at: (at / "state.json").write_text((at / "state.json").read_text().replace("0.5", "0.7")),
    ],
    ids=["half the data", "half the index", "half the state", "no index", "no data", "no state", "another state"],
)
def test_damage_is_skipped_with_a_warning(tmp_path, damage):
    first = Run(tmp_path)
    progress = first.epoch(Progress(), 0.5)
    first.steps(progress, [3])
    expected = first.state()
    first.steps(progress, [6])
    damage(tmp_path / "checkpoints/partial/epoch-0002-step-000006")
    second = Run(tmp_path)
    with pytest.warns(UserWarning, match="damaged checkpoint .*epoch-0002-step-000006"):
        assert second.saved.restore() == progress.at_step(3)
    for one, other in zip(expected, second.state(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert "epoch-0002-step-000006.damaged" in second.names()
    shutil.rmtree(tmp_path / "checkpoints/partial/epoch-0002-step-000003")
    assert Run(tmp_path).saved.restore() == progress  # of the epoch before


def test_a_flipped_bit_is_found_wherever_it_matters(tmp_path):
    first = Run(tmp_path / "whole")
    progress = first.epoch(Progress(), 0.5)
    first.steps(progress, [3])
    expected = [value for value in first.state()]
    path = pathlib.Path("checkpoints/partial/epoch-0002-step-000003")
    found = tried = 0
    for file in sorted((tmp_path / "whole" / path).iterdir()):
        data = file.read_bytes()
        for position in range(0, len(data), max(1, len(data) // 25)):
            shutil.rmtree(tmp_path / "flipped", ignore_errors=True)
            shutil.copytree(tmp_path / "whole", tmp_path / "flipped")
            flipped = bytearray(data)
            flipped[position] ^= 1 << position % 8
            (tmp_path / "flipped" / path / file.name).write_bytes(flipped)
            second = Run(tmp_path / "flipped")
            tried += 1
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("warnings.warn", lambda *_, **__: None)
                if second.saved.restore() == progress:
                    found += 1
                else:  # a bit that means nothing: an index has some
                    for one, other in zip(expected, second.state(), strict=True):
                        np.testing.assert_array_equal(one, other)
    assert tried > 60 and found > 0.9 * tried


def test_saving_copies_at_once_and_writes_aside_one_at_a_time(tmp_path, monkeypatch):
    write, may_write, writing = snapshot.write, threading.Event(), []

    def slow_write(arrays, prefix):
        writing.append(prefix)
        assert may_write.wait(60)
        write(arrays, prefix)

    monkeypatch.setattr(snapshot, "write", slow_write)
    run = Run(tmp_path)
    run.step()
    expected = run.state()
    run.saved.save_step(Progress().at_step(1))  # returns although nothing is written yet
    run.step()
    assert not any(name.endswith("1") for name in run.names())
    second = threading.Thread(target=lambda: run.saved.save_step(Progress().at_step(2)))
    second.start()
    second.join(0.3)
    assert second.is_alive() and len(writing) == 1, "two saves at a time"
    may_write.set()
    second.join(60)
    run.saved.wait()
    assert run.names() == ["epoch-0001-step-000001", "epoch-0001-step-000002"]
    shutil.rmtree(tmp_path / "checkpoints/partial/epoch-0001-step-000002")
    again = Run(tmp_path)
    assert again.saved.restore().step == 1
    for one, other in zip(expected, again.state(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_full_disk_is_one_sentence_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.steps(Progress(), [1])

    def full(arrays, prefix):
        pathlib.Path(f"{prefix}.data-00000-of-00001").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(snapshot, "write", full)
    run.saved.save_step(Progress().at_step(2))
    with pytest.raises(errors.UserError, match=r"step-000002 cannot be written \(No space left on device\)") as raised:
        run.saved.wait()
    assert "\n" not in str(raised.value)
    run.saved.wait()  # said once
    assert run.names() == ["epoch-0001-step-000001"]
    run.saved.save_step(Progress().at_step(3))
    with pytest.raises(errors.UserError, match="step-000003 cannot be written"):
        run.saved.save_step(Progress().at_step(4))
    with pytest.raises(errors.UserError, match="step-000005 cannot be written"), run.saved:
        run.saved.save_step(Progress().at_step(5))
    monkeypatch.undo()
    again = Run(tmp_path)
    assert again.saved.restore().step == 1


@pytest.mark.parametrize("which", ["partial", "last"])
def test_what_the_system_refuses_to_write_is_one_sentence(tmp_path, which):
    """A limit on the size of files, at which TensorFlow's own writer fails."""
    run = Run(tmp_path)
    progress = run.epoch(Progress(), 0.5)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, limits[1]))
    try:
        with pytest.raises(errors.UserError, match="epoch-0002.* cannot be written") as raised:
            if which == "partial":
                run.steps(progress, [1])
            else:
                run.epoch(progress, 0.4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(raised.value)
    assert run.names() == [] and run.names("last") == ["epoch-0001"]
    assert Run(tmp_path).saved.restore() == progress


def test_a_state_that_is_no_number_is_not_kept(tmp_path):
    run = Run(tmp_path)
    run.steps(Progress(), [1])
    run.recognizer.layers[0].kernel.assign(tf.fill([2, 3], np.inf))
    run.saved.save_step(Progress().at_step(2))
    run.saved.wait()
    assert run.names() == ["epoch-0001-step-000001"]


def test_what_a_killed_process_left_half_written_is_swept_up(tmp_path):
    run = Run(tmp_path)
    run.steps(Progress(), [1])
    shutil.copytree(tmp_path / "checkpoints/partial/epoch-0001-step-000001", tmp_path / "checkpoints/partial/x.tmp")
    again = Run(tmp_path)
    assert again.saved.restore().step == 1 and again.names() == ["epoch-0001-step-000001"]


def test_another_architecture_is_one_sentence(tmp_path):
    run = Run(tmp_path)
    run.steps(Progress(), [1])
    other = tf.keras.Sequential([tf.keras.layers.Dense(4)])
    other.build((None, 2))
    saved = RunCheckpoints(str(tmp_path), other, run.optimizer, {"loss": run.mean})
    with pytest.raises(errors.UserError, match="step-000001 is of another architecture"):
        saved.restore()


def test_runs_of_versions_without_partial_checkpoints_go_on(tmp_path):
    first = Run(tmp_path)
    progress = first.epoch(Progress(), 0.5)
    shutil.rmtree(tmp_path / "checkpoints/partial")
    state = tmp_path / "checkpoints/last/epoch-0001/state.json"
    fields = json.loads(state.read_text())
    state.write_text(json.dumps({name: fields[name] for name in ("history", "best_epoch", "best_value")}))
    second = Run(tmp_path)
    assert second.saved.restore() == progress
    assert checkpoints.newest_epoch(str(tmp_path), "best") == 1
