"""Checkpoints where no directory moves at one stroke: what a killed process leaves half-written is never loaded.

A directory of this machine stands for an object store; tests/test_s3.py has a real one.
"""

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors, files, stores
from stat_tf.training import checkpoint_files, checkpoints
from stat_tf.training.checkpoints import Progress
from tests.training.test_step_checkpoints import Run, assert_same_state


class Killed(BaseException):
    """Stands for a process that ends at once."""


@pytest.fixture
def run_dir(monkeypatch, tmp_path):
    def rename(source, target):
        raise AssertionError(f"{source} is renamed")

    monkeypatch.setattr(stores, "has_directories", lambda path: False)
    monkeypatch.setattr(files, "rename", rename)
    return str(tmp_path / "run")


def count_writes(monkeypatch, limit=None):
    """Lets every write and deletion in `files` and of TensorFlow's variables count; raises `Killed` past the limit."""
    done = []

    def counted(function):
        def call(*arguments, **keywords):
            if limit is not None and len(done) >= limit:
                raise Killed
            done.append(function.__name__)
            return function(*arguments, **keywords)

        return call

    for name in ("write_bytes", "remove", "remove_tree"):
        monkeypatch.setattr(files, name, counted(getattr(files, name)))
    monkeypatch.setattr(tf.train.Checkpoint, "write", counted(tf.train.Checkpoint.write))
    return done


def test_run_goes_on_from_a_remote_directory_bit_for_bit(run_dir):
    first = Run(run_dir)
    progress = first.epoch(Progress(), 0.5)
    first.steps(progress, [1, 2])
    again = Run(run_dir)
    assert again.saved.restore() == progress.at_step(2)
    assert_same_state(first, again)
    second = again.epoch(progress, 0.4)
    assert Run(run_dir).saved.restore() == second
    assert files.list_dir(f"{run_dir}/checkpoints/best") == ["epoch-0001"]
    assert not files.list_dir(f"{run_dir}/checkpoints/partial")
    history = files.read_text(f"{run_dir}/history.jsonl")
    assert history.count("\n") == 2


def test_epoch_killed_at_any_write_is_either_whole_or_unseen(monkeypatch, run_dir):
    """Whatever the last write, the state restored is that of the epoch before or of this one, and it goes on."""
    limit, found = 0, set()
    while True:
        where = f"{run_dir}-{limit}"
        run = Run(where)
        before = run.epoch(Progress(), 0.5)
        weights = {1: run.recognizer.get_weights()}
        with monkeypatch.context() as patched:
            writes = count_writes(patched, limit)
            try:
                after = run.epoch(before, 0.9)
            except Killed:
                after = None
        weights[2] = run.recognizer.get_weights()
        again = Run(where)
        progress = again.saved.restore()
        assert progress.epochs_done in (1, 2)
        found.add(progress.epochs_done)
        for one, other in zip(again.recognizer.get_weights(), weights[progress.epochs_done], strict=True):
            np.testing.assert_array_equal(one, other)
        best = checkpoints.newest_epoch(where, "best")
        checkpoints.restore_recognizer(again.recognizer, where, "best")
        for one, other in zip(again.recognizer.get_weights(), weights[best], strict=True):
            np.testing.assert_array_equal(one, other)
        if after is not None:
            assert progress == after and len(writes) == limit
            break
        limit += 1
    assert found == {1, 2} and limit > 5


def test_half_written_and_half_deleted_checkpoints_are_not_counted(run_dir):
    run = Run(run_dir)
    progress = run.epoch(Progress(), 0.5)
    run.steps(progress, [1, 2])
    for path in ("last/epoch-0007/recognizer.index", "best/epoch-0007/recognizer.data-00000-of-00001"):
        files.make_dirs(f"{run_dir}/checkpoints/{path}".rpartition("/")[0])
        files.write_text(f"{run_dir}/checkpoints/{path}", "half")
    files.remove(f"{run_dir}/checkpoints/partial/epoch-0002-step-000002/state.json")
    assert checkpoints.newest_epoch(run_dir, "last") == checkpoints.newest_epoch(run_dir, "best") == 1
    assert Run(run_dir).saved.restore() == progress.at_step(1)


def test_deletion_begins_with_what_makes_a_checkpoint(monkeypatch, run_dir):
    Run(run_dir).epoch(Progress(), 0.5)
    removed = []
    monkeypatch.setattr(files, "remove", removed.append)
    monkeypatch.setattr(files, "remove_tree", removed.append)
    last = f"{run_dir}/checkpoints/last/epoch-0001"
    checkpoint_files.delete(last)
    assert set(removed[:-1]) == {f"{last}/{name}" for name in ("recognizer.index", "optimizer.index", "state.json")}
    assert removed[-1] == last


def test_checkpoint_is_not_called_damaged_while_its_store_is_down(monkeypatch, run_dir):
    run = Run(run_dir)
    run.epoch(Progress(), 0.5)

    def down(path):
        raise errors.UserError("the store does not answer")

    monkeypatch.setattr(stores, "check", down)
    monkeypatch.setattr(tf.train, "load_checkpoint", lambda path: [][0])
    with pytest.raises(errors.UserError, match="does not answer"):
        Run(run_dir).saved.restore()
    assert files.list_dir(f"{run_dir}/checkpoints/last") == ["epoch-0001"]
