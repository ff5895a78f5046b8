"""Around the steps: what stops a run, what it records, what TensorBoard shows."""

import json
import re

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors
from stat_tf.data import info as info_lib
from stat_tf.training import assembly, checkpoints
from tests import datasets, runs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    datasets.write_dataset(directory, clips={"train": 6, "test": 3})
    return directory


@pytest.fixture(scope="module")
def stat_run(data, tmp_path_factory):
    """A finished run of stage stat, 2 epochs of 2 steps, and its directory."""
    root = tmp_path_factory.mktemp("runs")
    runs.untrained(data, root / "teacher", stage="teacher")
    settings = {"stage": "stat", "teacher_run": str(root / "teacher"), "weights": "rolling", "rolling_period": 1}
    return root / "stat", runs.train(data, root / "stat", **settings)


def scalars(directory):
    """{tag: [(step, value)]} of a TensorBoard directory."""
    found = {}
    for path in sorted(directory.iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, float(tf.make_ndarray(value.tensor))))
    return found


def test_curves_show_losses_terms_weights_rate_precision_and_speed(stat_run):
    run_dir, _ = stat_run
    train = scalars(run_dir / "logs" / "train")
    terms = {"sat", "tat", "sat_1", "sat_2", "sat_3", "sat_4", "tat_hidden", "tat_logits"}
    weights = {f"weights/{name}" for name in terms | {"ce"}}
    assert set(train) == {"loss", "ce", "prec@1", "prec@5", "learning_rate", "clips_per_second"} | terms | weights
    assert all([step for step, _ in points] == [1, 2, 3, 4] for points in train.values())
    # A turn of the rolling weights after the first epoch (section 3.3.2).
    np.testing.assert_allclose([value for _, value in train["weights/sat_1"]], [0.4, 0.4, 0.3, 0.3])
    # One epoch of warm-up in two steps, then a tenth.
    np.testing.assert_allclose([value for _, value in train["learning_rate"]], [0.005, 0.01, 0.001, 0.001], rtol=1e-5)
    assert all(value > 0 for _, value in train["clips_per_second"])
    evaluation = scalars(run_dir / "logs" / "eval")
    assert set(evaluation) == {"loss", "ce", "prec@1", "prec@5"}
    assert [step for step, _ in evaluation["prec@1"]] == [2, 4]


def test_history_has_a_line_an_epoch_and_no_times(stat_run):
    run_dir, progress = stat_run
    lines = [json.loads(line) for line in (run_dir / "history.jsonl").read_text().splitlines()]
    assert tuple(lines) == progress.history
    assert [(line["epoch"], line["step"]) for line in lines] == [(1, 2), (2, 4)]
    assert not any("second" in name for name in lines[0])


def test_finished_run_has_nothing_left_to_do(data, stat_run, capsys):
    run_dir, progress = stat_run
    settings = {
        "stage": "stat",
        "teacher_run": str(run_dir.parent / "teacher"),
        "weights": "rolling",
        "rolling_period": 1,
    }
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("recognizer.*")}
    assert runs.train(data, run_dir, **settings) == progress
    assert "already trained" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("recognizer.*")} == before


def poison(monkeypatch, at_step, what):
    """Makes `what` of the model not a number at a step, as a diverging run would."""
    build = assembly.build

    def build_poisoned(config, info):
        model = build(config, info)
        kernel, cross_entropy = model.student.classifier.kernel, model._loss_terms

        def loss_terms(*inputs):
            terms = cross_entropy(*inputs)
            bad = tf.where(tf.equal(model.optimizer.iterations, at_step - 1), np.nan, 0.0)
            return terms | {"loss": terms["loss"] + bad}

        apply = model.optimizer.apply_gradients

        def apply_gradients(*inputs):
            apply(*inputs)
            kernel.assign(tf.where(tf.equal(model.optimizer.iterations, at_step), np.inf, kernel))

        if what == "loss":
            model._loss_terms = loss_terms
        else:
            model.optimizer.apply_gradients = apply_gradients
        return model

    monkeypatch.setattr(assembly, "build", build_poisoned)


@pytest.mark.parametrize("what", ["loss", "variable"])
@pytest.mark.parametrize("eval_split", ["test", ""])
def test_non_finite_run_stops_with_the_step_and_keeps_the_last_good_checkpoint(
    data, tmp_path, monkeypatch, what, eval_split
):
    poison(monkeypatch, 4, what)  # the last step of the second epoch: the next epoch would be too late
    with pytest.raises(errors.UserError, match=rf"The {what}.* is not finite at step 4 \(epoch 2\)"):
        runs.train(data, tmp_path / "run", epochs=3, eval_split=eval_split)
    monkeypatch.undo()
    assert checkpoints.newest_epoch(str(tmp_path / "run"), "last") == 1
    recognizer, _ = checkpoints.load_recognizer(str(tmp_path / "run"), "last")
    assert all(np.isfinite(variable.numpy()).all() for variable in recognizer.variables)


def test_non_finite_first_epoch_does_not_speak_of_a_checkpoint(data, tmp_path, monkeypatch):
    poison(monkeypatch, 2, "loss")
    with pytest.raises(errors.UserError, match=r"step 2 \(epoch 1\).*run has no checkpoint yet") as raised:
        runs.train(data, tmp_path / "run")
    assert "kept" not in str(raised.value)
    assert checkpoints.newest_epoch(str(tmp_path / "run"), "last") == 0


def test_log_gets_a_line_an_epoch_and_no_bar(data, tmp_path, capfd):
    runs.train(data, tmp_path / "run", epochs=2)
    lines = [line for line in capfd.readouterr().err.splitlines() if "loss" in line]
    assert len(lines) == 2
    assert re.fullmatch(r"epoch 2/2: loss [\d.]+, ce [\d.]+, prec@1 [\d.]+, val_ce .*", lines[1])


def test_initial_weights_come_from_the_run_named(data, tmp_path):
    config = runs.untrained(data, tmp_path / "first", seed=5)
    first, _ = checkpoints.load_recognizer(str(tmp_path / "first"))
    second = runs.make_config(data, init_run=str(tmp_path / "first"), seed=6, epochs=config.epochs)
    student = assembly.build(second, info_lib.load(str(data))).student
    assembly.set_initial_weights(student, second)
    for ours, theirs in zip(student.variables, first.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy(), err_msg=ours.name)
