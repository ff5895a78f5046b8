"""Stage unsupervised: SAT and TAT on unlabelled clips, before stage stat (section 4.6)."""

import dataclasses
import json

import numpy as np
import pytest

from stat_tf import errors
from stat_tf.data import info as info_lib
from stat_tf.training import checkpoints, resolve
from tests import datasets, runs

TRANSFER_TERMS = {"sat", "tat", "tat_hidden", "tat_logits", *(f"sat_{i}" for i in range(1, 5))}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    datasets.write_dataset(root / "data", clips={"train": 6, "test": 4, "unlabeled": 6})
    runs.untrained(root / "data", root / "teacher", stage="teacher", seed=3)
    runs.untrained(root / "data", root / "student")
    return root


def unsupervised(root, data="data", **changes):
    others = {"teacher_run": str(root / "teacher"), "init_run": str(root / "student")}
    return runs.make_config(root / data, **{"stage": "unsupervised"} | others | changes)


def train(root, run_dir, data="data", **changes):
    others = {"teacher_run": str(root / "teacher"), "init_run": str(root / "student")}
    return runs.train(root / data, run_dir, **{"stage": "unsupervised", "deterministic": True} | others | changes)


def weights_of(run_dir):
    return [variable.numpy() for variable in checkpoints.load_recognizer(str(run_dir))[0].variables]


@pytest.fixture(scope="module")
def trained(root):
    train(root, root / "unsupervised")
    return root / "unsupervised"


def test_defaults_are_the_unlabeled_split_half_sat_and_half_tat_and_no_evaluation(root):
    config = unsupervised(root)
    assert (config.train_splits, config.eval_split, config.labeled) == (("unlabeled",), "", False)
    weights = resolve.weights_at(config, 0)
    assert (weights.ce, weights.sat, weights.tat) == (0, 0.5, 0.5)
    # SAT alone, and rolling weights (section 3.3.2).
    rolling = resolve.weights_at(unsupervised(root, weights="rolling", rolling_period=1, overall_weights="0,1,0"), 1)
    assert (rolling.sat, rolling.tat, rolling.sat_stages) == (1, 0, (0.3, 0.4, 0.2, 0.1))


def test_it_learns_from_the_teacher_and_logs_no_label(root, trained):
    history = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
    assert [set(entry) for entry in history] == [{"epoch", "step", "loss"} | TRANSFER_TERMS] * 2
    assert history[-1]["step"] == 4
    moved = [np.abs(a - b).max() for a, b in zip(weights_of(trained), weights_of(root / "student"), strict=True)]
    assert max(moved) > 1e-4


def test_labels_play_no_part(root, trained, tmp_path):
    """Training clips equal to the unlabelled ones give the same weights, whatever their labels say."""
    train(root, tmp_path / "labels", train_splits="train")
    for ours, theirs in zip(weights_of(trained), weights_of(tmp_path / "labels"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_classifier_is_left_alone(root, tmp_path):
    """Nothing behind the temporal attention has a gradient without a label; nor does it decay."""
    train(root, tmp_path / "run", optimizer="adamw", weight_decay=0.5, epochs=1)
    runs_of_both = (root / "student", tmp_path / "run")
    before, after = (checkpoints.load_recognizer(str(run))[0].classifier for run in runs_of_both)
    for old, new in zip(before.variables, after.variables, strict=True):
        np.testing.assert_array_equal(old.numpy(), new.numpy())


def test_stage_stat_goes_on_from_it(root, trained, tmp_path):
    stat = {"stage": "stat", "init_run": str(trained), "train_splits": "train,unlabeled", "epochs": 1}
    progress = train(root, tmp_path / "stat", **stat)
    assert progress.history[0]["step"] == 3  # 12 clips, 4 a step
    assert {"ce", "prec@1", "sat", "tat", "val_prec@1"} <= set(progress.history[0])


def test_dataset_without_classes_takes_the_teachers(root, tmp_path):
    info = datasets.write_dataset(tmp_path / "only", clips={"unlabeled": 6})
    info = dataclasses.replace(info, classes=())
    (tmp_path / "only" / info_lib.FILE_NAME).write_text(info.to_json())
    config = unsupervised(root, data=tmp_path / "only")
    assert config.classes == ("jump", "run") and config.recognizer.num_classes == 2
    # The labelled clips that its weights have seen are the teacher's.
    assert config.data_fingerprint == unsupervised(root).data_fingerprint
    train(root, tmp_path / "run", data=tmp_path / "only", epochs=1)
    stat = {"stage": "stat", "init_run": str(tmp_path / "run"), "epochs": 1}
    assert train(root, tmp_path / "stat", **stat).epochs_done == 1
    with pytest.raises(errors.UserError, match="has no clips in split 'train'; its splits: unlabeled"):
        runs.make_config(tmp_path / "only", stage="teacher")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_run": ""}, "--stage=unsupervised needs --teacher_run"),
        ({"init_run": ""}, "--stage=unsupervised needs --init_run"),
        ({"overall_weights": "1/3,1/3,1/3"}, "--overall_weights=1/3,1/3,1/3 has a weight for cross-entropy"),
        ({"overall_weights": "0,0,0"}, "not all of them 0"),
        ({"train_splits": "test"}, "--train_splits=test must be train, unlabeled, or train,unlabeled"),
        ({"stage": "stat", "train_splits": "unlabeled"}, "leaves stage stat without a label"),
        ({"stage": "student", "teacher_run": "", "train_splits": "train"}, "--train_splits belongs to"),
        ({"soft_label_weight": -1.0}, "--soft_label_weight must be at least 0"),
        ({"temperature": 0.0, "soft_label_weight": 1.0}, "--temperature must be above 0"),
        ({"temperature": 2.0}, "--temperature softens the soft labels, which have no weight"),
        ({"stage": "stat", "eval_split": "unlabeled"}, "6 clips without a label, which this needs"),
        ({"stage": "student", "teacher_run": "", "rolling_period": 3}, "--rolling_period belongs to"),
        ({"momentum": 1.0, "stage": "stat"}, "--momentum must be at least 0 and below 1"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(root, changes, message):
    with pytest.raises(errors.UserError, match=message):
        unsupervised(root, **changes)


def test_other_unlabelled_clips_or_another_schedule_are_another_run(root, trained, tmp_path):
    datasets.write_dataset(tmp_path / "other", clips={"train": 6, "test": 4, "unlabeled": 7})
    for changes, message in (
        ({"data": tmp_path / "other"}, "unlabeled_fingerprint"),
        ({"weights": "rolling"}, "holds a run with weights=fixed, but this command has weights=rolling"),
        ({"overall_weights": "0,1,0"}, "holds a run with overall_weights=0.0,0.5,0.5"),
    ):
        with pytest.raises(errors.UserError, match=message):
            train(root, trained, **changes)
