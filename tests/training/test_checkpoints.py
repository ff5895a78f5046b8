"""Checkpoints: what they hold, which is kept, and what is said of a damaged or foreign one."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors
from stat_tf.training import checkpoint_files, checkpoints, schedules
from stat_tf.training.checkpoints import Progress, RunCheckpoints
from tests import datasets, runs


class Parts:
    """A stand-in for a network and its optimizer, quick to build and to tell apart."""

    def __init__(self, run_dir, units=3, value=0.0):
        self.recognizer = tf.keras.Sequential([tf.keras.layers.Dense(units, kernel_initializer="zeros")])
        self.recognizer.build((None, 2))
        rate = schedules.StepSchedule(0.1, steps_per_epoch=1, warmup_epochs=0, decay_epochs=1, decay_factor=1)
        variables = self.recognizer.trainable_variables
        self.optimizer = schedules.make_optimizer(
            "sgd", rate, momentum=0.9, weight_decay=0.0, clip_norm=0.0, variables=variables
        )
        self.saved = RunCheckpoints(str(run_dir), self.recognizer, self.optimizer)
        self.kernel = self.recognizer.layers[0].kernel
        self.kernel.assign(tf.fill(self.kernel.shape, value))

    def step(self):
        variables = self.recognizer.trainable_variables
        self.optimizer.apply_gradients([(tf.ones_like(variable), variable) for variable in variables])


def run_epochs(parts, values, progress=None):
    progress = progress or Progress()
    for value in values:
        parts.step()
        progress = progress.after_epoch({"val_prec@1": value}, value)
        parts.saved.save(progress)
    return progress


def directories(run_dir, which):
    return sorted(path.name for path in pathlib.Path(checkpoints.checkpoint_dir(str(run_dir), which)).iterdir())


def test_restored_run_continues_bit_for_bit(tmp_path):
    first = Parts(tmp_path)
    progress = run_epochs(first, [0.1, 0.2])
    second = Parts(tmp_path, value=7.0)
    assert second.saved.restore() == progress
    for parts in (first, second):
        parts.step()  # momentum and iterations count too
    np.testing.assert_array_equal(first.kernel.numpy(), second.kernel.numpy())
    assert int(second.optimizer.iterations) == 3


def test_two_last_and_the_best_are_kept(tmp_path):
    run_epochs(Parts(tmp_path), [0.1, 0.7, 0.7, 0.3, 0.2])
    assert directories(tmp_path, "last") == ["epoch-0004", "epoch-0005"]
    assert directories(tmp_path, "best") == ["epoch-0002"]
    assert checkpoints.newest_epoch(str(tmp_path), "best") == 2


def test_without_evaluation_the_last_is_the_best(tmp_path):
    progress = run_epochs(Parts(tmp_path), [None, None, None])
    assert progress.best_epoch == 3 and progress.best_value is None
    # The older of the two last ones may yet be resumed from, and names its own best.
    assert directories(tmp_path, "best") == ["epoch-0002", "epoch-0003"]
    assert checkpoints.newest_epoch(str(tmp_path), "best") == 3


def test_teacherless_checkpoint_holds_only_its_parts(tmp_path):
    run_epochs(Parts(tmp_path), [0.1])
    best = tf.train.list_variables(str(tmp_path / "checkpoints/best/epoch-0001/recognizer"))
    assert [shape for name, shape in best if "kernel" in name or "bias" in name] == [[3], [2, 3]]
    assert len([name for name, _ in best if name.startswith("recognizer")]) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.with_suffix(".data-00000-of-00001").write_bytes(b""),
        lambda path: path.with_suffix(".index").write_bytes(path.with_suffix(".index").read_bytes()[:40]),
        lambda path: path.with_suffix(".index").unlink(),
        lambda path: path.with_name("state.json").write_text('{"history": [{"epo'),
        lambda path: flip_a_bit(path.with_suffix(".data-00000-of-00001")),
    ],
    ids=["truncated data", "truncated index", "no index", "truncated state", "flipped bit"],
)
def test_damaged_last_checkpoint_falls_back_to_the_one_before(tmp_path, damage):
    first = Parts(tmp_path)
    run_epochs(first, [0.1])
    expected = first.kernel.numpy()
    run_epochs(first, [0.2], Progress().after_epoch({"val_prec@1": 0.1}, 0.1))
    damage(tmp_path / "checkpoints/last/epoch-0002/recognizer")
    second = Parts(tmp_path)
    with pytest.warns(UserWarning, match="damaged checkpoint .*epoch-0002"):
        progress = second.saved.restore()
    assert progress.epochs_done == 1
    np.testing.assert_array_equal(second.kernel.numpy(), expected)
    assert len((tmp_path / "history.jsonl").read_text().splitlines()) == 1
    run_epochs(second, [0.2], progress)
    assert Parts(tmp_path).saved.restore().epochs_done == 2


def test_best_checkpoint_is_written_again_where_it_can_be(tmp_path):
    run_epochs(Parts(tmp_path), [0.1, 0.5])
    best = tmp_path / "checkpoints/best/epoch-0002"
    flip_a_bit(best / "recognizer.data-00000-of-00001")
    Parts(tmp_path).saved.restore()
    values = [
        tf.train.load_checkpoint(str(path / "recognizer")) for path in (best, tmp_path / "checkpoints/last/epoch-0002")
    ]
    for name in values[0].get_variable_to_shape_map():
        if "kernel" in name:
            np.testing.assert_array_equal(values[0].get_tensor(name), values[1].get_tensor(name))
    shutil.rmtree(best)
    Parts(tmp_path).saved.restore()
    assert directories(tmp_path, "best")[-1] == "epoch-0002"


def test_lost_best_checkpoint_of_an_earlier_epoch_is_named(tmp_path):
    run_epochs(Parts(tmp_path), [0.5, 0.1])
    shutil.rmtree(tmp_path / "checkpoints/best/epoch-0001")
    with pytest.raises(errors.UserError, match="epoch-0001 is damaged or gone .*: put it back, or train again"):
        Parts(tmp_path).saved.restore()


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_half_written_checkpoint_is_no_checkpoint(tmp_path):
    first = Parts(tmp_path)
    progress = run_epochs(first, [0.1])
    for which in ("last", "best"):
        aside = tmp_path / "checkpoints" / which / "epoch-0002.tmp"
        aside.mkdir()
        (aside / "recognizer.index").write_bytes(b"half")
    second = Parts(tmp_path)
    assert second.saved.restore() == progress
    assert directories(tmp_path, "last") == directories(tmp_path, "best") == ["epoch-0001"]


def test_kill_between_best_and_last_repeats_the_epoch(tmp_path, monkeypatch):
    first = Parts(tmp_path)
    progress = run_epochs(first, [0.1])
    write = checkpoint_files.write

    def killed_before_last(directory, *rest):
        if "/last/" in directory:
            raise KeyboardInterrupt
        write(directory, *rest)

    monkeypatch.setattr(checkpoint_files, "write", killed_before_last)
    with pytest.raises(KeyboardInterrupt):
        run_epochs(first, [0.9], progress)
    monkeypatch.undo()
    second = Parts(tmp_path)
    assert second.saved.restore().epochs_done == 1
    run_epochs(second, [0.9], progress)
    assert directories(tmp_path, "best")[-1] == "epoch-0002"
    history = [json.loads(line) for line in (tmp_path / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in history] == [1, 2]


def test_other_architecture_is_one_sentence(tmp_path):
    run_epochs(Parts(tmp_path), [0.1])
    with pytest.raises(errors.UserError, match="epoch-0001 is of another architecture"):
        Parts(tmp_path, units=4).saved.restore()


@pytest.fixture(scope="module")
def student_run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs")
    datasets.write_dataset(directory / "data")
    return directory / "run", runs.untrained(directory / "data", directory / "run", width=0.0625)


def test_loaded_recognizer_has_the_weights_of_the_run(student_run):
    run_dir, config = student_run
    recognizer, loaded = checkpoints.load_recognizer(str(run_dir))
    assert loaded == config
    reader = tf.train.load_checkpoint(str(run_dir / "checkpoints/best/epoch-0001/recognizer"))
    key = "recognizer/classifier/kernel/.ATTRIBUTES/VARIABLE_VALUE"
    np.testing.assert_array_equal(recognizer.classifier.kernel.numpy(), reader.get_tensor(key))
    last, _ = checkpoints.load_recognizer(str(run_dir), "last")
    for ours, theirs in zip(recognizer.variables, last.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_unfinished_first_epoch_and_damage_are_named(student_run, tmp_path):
    run_dir, config = student_run
    config.save(str(tmp_path))
    with pytest.raises(errors.UserError, match="has no 'best' checkpoint yet"):
        checkpoints.load_recognizer(str(tmp_path))
    source = run_dir / "checkpoints/best/epoch-0001"
    target = tmp_path / "checkpoints/best/epoch-0001"
    target.mkdir(parents=True)
    for file in source.iterdir():
        data = file.read_bytes()
        (target / file.name).write_bytes(data[: len(data) // 2] if "data" in file.name else data)
    with pytest.raises(errors.UserError, match="epoch-0001 is damaged"):
        checkpoints.load_recognizer(str(tmp_path))


@pytest.mark.parametrize("backbone", ["resnet34", "resnet18"])
def test_edited_architecture_is_found_out_either_way(student_run, tmp_path, backbone):
    """A larger network lacks weights, a smaller one would leave some unread: neither is loaded."""
    run_dir, _ = student_run
    other = "resnet18" if backbone == "resnet34" else "resnet34"
    runs.untrained(run_dir.parent / "data", tmp_path / "run", width=0.0625, backbone=other)
    config = json.loads((tmp_path / "run/config.json").read_text())
    config["recognizer"]["backbone"] = backbone
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    with pytest.raises(errors.UserError, match="another architecture"):
        checkpoints.load_recognizer(str(tmp_path / "run"))
