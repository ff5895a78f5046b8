"""Training from stored signals: neither HR frames nor a teacher, any replicas, any interruption."""

import dataclasses
import json
import shutil
import signal

import numpy as np
import pytest

from stat_tf import errors
from stat_tf.data import dataset, shares
from stat_tf.data import info as info_lib
from stat_tf.data import signals as stored_signals
from stat_tf.inference import evaluation
from stat_tf.training import assembly, loop, resolve
from tests import datasets, runs
from tests import stored_signals as made
from tests.training import test_resumption as resumption


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Signals, a student, and nothing else of the dataset and the teacher that they come from."""
    root = tmp_path_factory.mktemp("root")
    datasets.write_dataset(root / "data", clips={"train": 7, "test": 3, "unlabeled": 4})
    runs.untrained(root / "data", root / "teacher", stage="teacher")
    runs.untrained(root / "data", root / "student", seed=3)
    made.store(root / "data", root / "teacher", root / "signals")
    shutil.rmtree(root / "teacher")
    (root / "data").rename(root / "kept")
    return root


def resolved(signals_dir, **changes):
    return resolve.resolve(made.settings(signals_dir, **changes), info_lib.load_signals(str(signals_dir)))


def train(signals_dir, run_dir, **changes):
    return loop.train(resolved(signals_dir, **changes), info_lib.load_signals(str(signals_dir)), str(run_dir))


def epochs(signals_dir, splits=("train",), **options):
    info = info_lib.load_signals(str(signals_dir))
    options = {"batch_size": 3, "seed": 0} | options
    return list(stored_signals.training_dataset(str(signals_dir), info, splits, **options).as_numpy_iterator())


def test_stages_train_from_signals_alone(root, tmp_path):
    common = {"batch_size": 4, "epochs": 1}
    options = {"soft_label_weight": 0.5, "train_splits": "train,unlabeled"}
    first = {"stage": "unsupervised", "init_run": str(root / "student")}
    train(root / "signals", tmp_path / "unsupervised", **first | common)
    train(root / "signals", tmp_path / "stat", init_run=str(tmp_path / "unsupervised"), **common | options)
    [entry] = map(json.loads, (tmp_path / "stat" / "history.jsonl").read_text().splitlines())
    assert entry["step"] == 3 and entry["soft_labels"] > 0 and entry["sat_1"] > 0 and entry["tat_hidden"] > 0
    config, data = resolve.RunConfig.load(str(tmp_path / "stat")), info_lib.load(str(root / "kept"))
    assert config.from_signals and config.data_fingerprint == data.fingerprint("train")
    assert config.unlabeled_fingerprint == data.fingerprint("unlabeled") and not config.teacher_run
    # Its evaluation in training, by the stored frames, is that by the dataset.
    measured = [
        evaluation.evaluate_run(str(tmp_path / "stat"), str(root / name), "test")[0] for name in ("signals", "kept")
    ]
    assert measured[0]["prec@1"] == measured[1]["prec@1"] == pytest.approx(entry["val_prec@1"])


def test_a_plain_student_needs_no_signals_but_their_frames(root):
    config, info = resolved(root / "signals", stage="student"), info_lib.load_signals(str(root / "signals"))
    [batch, *_] = assembly.training_data(config, info, (config.view,))
    assert set(batch) == {"id", "label", "lr"} and batch["lr"].shape == (4, 2, 1, 12, 16, 3)


def test_what_the_views_were_made_with_need_not_be_given(root):
    asked = {"crop_size": None, "scales": None, "flip": None, "color_jitter": None}
    config = resolved(root / "signals", **asked)
    assert (config.crop_size, config.scales, config.flip, config.color_jitter) == ((24, 32), (1.0, 0.75), True, 0.1)


def test_each_epoch_draws_views_of_each_clip(root):
    drawn = {}
    for batch in epochs(root / "signals", num_epochs=9):
        for clip_id, frames, logits in zip(batch["id"], batch["lr"], batch["teacher_logits"], strict=True):
            drawn.setdefault(clip_id, []).append((frames.tobytes(), logits.tobytes()))
    assert len(drawn) == 7 and all(len(seen) == 9 for seen in drawn.values())
    # Frames and signals are of the same view: as many pairs as there are views.
    assert {len(set(seen)) for seen in drawn.values()} <= {2, 3}
    assert sum(len(set(seen)) for seen in drawn.values()) > 2 * 7


def test_an_epoch_can_be_gone_on_with_at_any_batch(root):
    whole = epochs(root / "signals", ("train", "unlabeled"), num_epochs=2)
    assert len(whole) == 8
    rest = epochs(root / "signals", ("train", "unlabeled"), num_epochs=2, start_epoch=1, start_batch=3)
    for ours, theirs in zip(rest, whole[7:], strict=True):
        for name, values in theirs.items():
            np.testing.assert_array_equal(ours[name], values, err_msg=name)


def test_replicas_share_the_batches_of_one_device(root):
    info = info_lib.load_signals(str(root / "signals"))
    options = {"batch_size": 3, "seed": 0}
    whole = epochs(root / "signals", **options)
    for first in range(2):
        share = shares.Share(first_replica=first, num_replicas=1, all_replicas=2)
        parts = stored_signals.training_dataset(str(root / "signals"), info, **options, share=share)
        for part, batch in zip(parts.as_numpy_iterator(), whole, strict=True):
            if part["weight"][0]:
                for name, values in batch.items():
                    np.testing.assert_array_equal(part[name], values[first::2], err_msg=name)


def test_a_stopped_run_goes_on_at_its_step(root, tmp_path, monkeypatch):
    settings = {"batch_size": 4, "width": 0.0625, "eval_split": ""}
    train(root / "signals", tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        resumption.stop_at(patch, signal.SIGTERM, 4)  # 2 steps, 1 end, 1 step
        with pytest.raises(errors.StoppedBySignal, match="after step 1 of epoch 2"):
            train(root / "signals", tmp_path / "stopped", **settings)
    train(root / "signals", tmp_path / "stopped", **settings)
    resumption.assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_labels_are_not_read_where_a_stage_reads_none(root):
    [batch, *_] = epochs(root / "signals", labeled=False, with_signals=False)
    assert set(batch) == {"id", "label", "lr"} and set(batch["label"]) == {-1}


def test_damaged_shard_is_named(root, tmp_path):
    shutil.copytree(root / "signals", tmp_path / "signals")
    [path, *_] = sorted((tmp_path / "signals").glob("train-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    info = info_lib.load_signals(str(tmp_path / "signals"))
    with (
        pytest.raises(errors.UserError, match=f"Shard .*{path.name} is damaged"),
        dataset.explain_read_errors(str(tmp_path / "signals"), info),
    ):
        epochs(tmp_path / "signals")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stage": "teacher"}, "--stage=teacher does not go with .*: a teacher reads HR frames"),
        ({"teacher_run": "teacher"}, "--teacher_run=teacher does not go with .*what their teacher said"),
        ({"stream": "flow"}, "--stream=flow does not go with .*RGB"),
        ({"eval_split": "train"}, "--eval_split=train does not go with"),
        ({"scales": "1,1/2"}, r"--scales asks for \(1.0, 0.5\), but the views in .* were made with \(1.0, 0.75\)"),
        ({"scales": "1,0.875,0.75"}, r"--scales asks for \(1.0, 0.875, 0.75\)"),
        ({"flip": False}, "--flip asks for False"),
        ({"color_jitter": 0.0}, "--color_jitter asks for 0.0, .* were made with 0.1"),
        ({"color_jitter": 0.3}, "--color_jitter asks for 0.3, .* were made with 0.1"),
        ({"crop_size": "20x28"}, r"--crop_size asks for \(20, 28\)"),
        ({"lr_size": "6x8"}, "holds LR frames of 12x16, not 6x8"),
        ({"num_segments": 3}, "--num_segments=2, not 3"),
        ({"student_input": "upsample"}, "for students of --backbone=resnet18 --student_input=native"),
    ],
)
def test_what_signals_do_not_hold_is_refused(root, tmp_path, changes, message):
    with pytest.raises(errors.UserError, match=message):
        train(root / "signals", tmp_path / "run", **{"width": 0.0625, "init_from": "none"} | changes)
    assert not (tmp_path / "run").exists()


def test_splits_that_are_not_stored_are_refused(root):
    info = info_lib.load_signals(str(root / "signals"))
    without = dataclasses.replace(info, shards={name: info.shards[name] for name in ("train", "test")})
    with pytest.raises(errors.UserError, match="has no clips in split 'unlabeled'; its splits: train, test"):
        resolve.resolve(made.settings(root / "signals", stage="unsupervised", init_run=str(root / "student")), without)


def test_other_clips_than_the_students_are_refused(root, tmp_path):
    datasets.write_dataset(tmp_path / "data", clips={"train": 3, "test": 2})
    runs.untrained(tmp_path / "data", tmp_path / "student")
    with pytest.raises(errors.UserError, match="was trained on other clips"):
        resolved(root / "signals", init_run=str(tmp_path / "student"))
    resolved(root / "signals", init_run=str(tmp_path / "student"), allow_other_data=True)


def test_readers_tell_a_dataset_from_signals(root):
    with pytest.raises(errors.UserError, match="is a dataset without teacher signals"):
        info_lib.load_signals(str(root / "kept"))
    with pytest.raises(errors.UserError, match="holds teacher signals, with LR frames only"):
        info_lib.load(str(root / "signals"))
    with pytest.raises(errors.UserError, match="give --signals a directory of teacher signals that python -m pipeline"):
        info_lib.load_signals(str(root / "nowhere"))
    with pytest.raises(errors.UserError, match="has views to train on and no frames to evaluate"):
        evaluation.evaluate_run(str(root / "student"), str(root / "signals"), "train")


def test_a_teacher_is_not_evaluated_without_hr_frames(root, tmp_path):
    runs.untrained(root / "kept", tmp_path / "teacher", stage="teacher")
    with pytest.raises(errors.UserError, match="reads HR frames, and .* holds teacher signals"):
        evaluation.evaluate_run(str(tmp_path / "teacher"), str(root / "signals"), "test")


def test_resuming_with_other_signals_is_refused(root):
    config = resolved(root / "signals")
    other = dataclasses.replace(config, signals_fingerprint="0" * 64)
    with pytest.raises(errors.UserError, match="signals_fingerprint"):
        other.check_same_run(config, "run")
