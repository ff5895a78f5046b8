"""The wiring: each setting reaches the part that it is for."""

import dataclasses
import shlex
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors
from stat_tf.data import augment, dataset, degrade
from stat_tf.data import info as info_lib
from stat_tf.training import assembly, checkpoints, loop, resolve
from stat_tf.training.run_config import RunConfig
from tests import datasets, runs

# Everything away from the command's default, and from every other setting's value.
SETTINGS = {
    "stage": "stat",
    "width": 0.0625,
    "dropout": 0.15,
    "frozen_batch_norm": "true",
    "crop_size": "18x24",
    "scales": "0.9,0.8,0.7",
    "flip": False,
    "color_jitter": 0.35,
    "overall_weights": "0.5,0.3,0.2",
    "sat_weights": "0.1,0.2,0.3,0.4",
    "tat_weights": "0.6,0.7",
    "distance": "squared",
    "epochs": 6,
    "batch_size": 3,
    "learning_rate": 0.4,
    "momentum": 0.55,
    "weight_decay": 0.025,
    "clip_norm": 7.5,
    "warmup_epochs": 2.0,
    "decay_epochs": 3.0,
    "decay_factor": 0.25,
    "eval_split": "held_out",
    "seed": 11,
    "train_splits": "unlabeled,train",
    "soft_label_weight": 0.8,
    "temperature": 2.5,
}


# Holds a run directory until its input ends.
HOLD = """
import sys
from stat_tf import processes
with processes.locked(sys.argv[1], "stat_tf.train"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset of a blurred and noisy sensor, and a teacher of its own width trained on it."""
    root = tmp_path_factory.mktemp("root")
    info = datasets.write_dataset(root / "data", clips={"train": 5, "unlabeled": 2, "held_out": 2})
    info = dataclasses.replace(info, lens_blur=1.25, noise=3.5)
    (root / "data" / info_lib.FILE_NAME).write_text(info.to_json())
    shared = {"crop_size": "18x24", "eval_split": ""}
    runs.untrained(root / "data", root / "teacher", stage="teacher", width=0.125, seed=3, **shared)
    return root


@pytest.fixture(scope="module")
def config(root):
    return runs.make_config(root / "data", **SETTINGS | {"teacher_run": str(root / "teacher")})


@pytest.fixture(scope="module")
def model(root, config):
    return assembly.build(config, info_lib.load(str(root / "data")))


def test_network_and_teacher_are_the_configured_ones(root, config, model):
    assert model.student.config == config.recognizer and model.student.seed == 11
    assert config.recognizer.dropout == 0.15 and config.recognizer.frozen_batch_norm
    teacher = model._teacher_activations.__self__
    saved, _ = checkpoints.load_recognizer(str(root / "teacher"))
    assert teacher.config == saved.config and teacher.config.width == 0.125
    for ours, theirs in zip(teacher.variables, saved.variables, strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())


def test_losses_are_the_configured_ones(config, model):
    assert model._squared and model._view == "lr"
    np.testing.assert_allclose(model._term_weights, [0.5, 0.3, 0.2, 0.8, 0.1, 0.2, 0.3, 0.4, 0.6, 0.7], rtol=1e-6)
    assert model._temperature == 2.5
    rolling = dataclasses.replace(config, weights="rolling", rolling_period=2)
    assert resolve.weights_at(rolling, 2).sat_stages == (0.3, 0.4, 0.2, 0.1)
    assert resolve.weights_at(rolling, 2).ce == 0.5


def test_optimizer_is_the_configured_one(root, config, model):
    optimizer = model.optimizer
    assert isinstance(optimizer, tf.keras.optimizers.SGD)
    assert (optimizer.momentum, optimizer.weight_decay, optimizer.global_clipnorm) == (0.55, 0.025, 7.5)
    # 3 steps an epoch: 2 epochs of warm-up, a quarter after every 3.
    rates = [float(assembly.learning_rate(config, 3)(step)) for step in (0, 5, 8, 9, 17)]
    np.testing.assert_allclose(rates, [0.4 / 6, 0.4, 0.4, 0.1, 0.1], rtol=1e-5)
    np.testing.assert_allclose(float(optimizer.learning_rate), 0.4 / 6, rtol=1e-5)
    cosine = assembly.learning_rate(dataclasses.replace(config, schedule="cosine"), 3)
    np.testing.assert_allclose([float(cosine(step)) for step in (6, 12, 18)], [0.4, 0.2, 0], atol=1e-7)
    other = dataclasses.replace(
        config, optimizer="adamw", teacher_run="", overall_weights=(1.0, 0.0, 0.0), soft_label_weight=0.0
    )
    optimizer = assembly.build(other, info_lib.load(str(root / "data"))).optimizer
    assert isinstance(optimizer, tf.keras.optimizers.AdamW)
    assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.025, 7.5)


def test_data_is_the_configured_one(root, config, monkeypatch):
    info = info_lib.load(str(root / "data"))
    calls = {}
    for name in ("training_dataset", "evaluation_dataset"):
        monkeypatch.setattr(dataset, name, lambda *args, name=name, **rest: calls.update({name: (args, rest)}))
    assembly.training_data(config, info, ("hr", "lr"), start_epoch=4, start_batch=1)
    assembly.evaluation_data(config, info)
    args, rest = calls["training_dataset"]
    assert args == (str(root / "data"), info, ("train", "unlabeled"))
    assert rest == {
        "batch_size": 3,
        "augmentation": augment.Augmentation((18, 24), (0.9, 0.8, 0.7), flip=False, color_jitter=0.35),
        "degradation": degrade.Degradation((12, 16), lens_blur=1.25, noise=3.5),
        "seed": 11,
        "start_epoch": 4,
        "start_batch": 1,
        "num_epochs": 6,
        "stream": "rgb",
        "views": ("hr", "lr"),
        "labeled": True,
        "share": None,
    }
    args, rest = calls["evaluation_dataset"]
    assert args == (str(root / "data"), info, "held_out")
    assert rest == {
        "batch_size": 3,
        "crop_size": (18, 24),
        "lr_size": (12, 16),
        "stream": "rgb",
        "views": ("lr",),
        "share": None,
    }


def test_failed_build_leaves_no_run_directory(root, config, tmp_path):
    """The mended command would not fit the configuration that was left there."""
    other = dataclasses.replace(config, recognizer=dataclasses.replace(config.recognizer, width=0.125))
    broken = dataclasses.replace(other, init_run=str(tmp_path / "nowhere"))
    with pytest.raises(errors.UserError):
        loop.train(broken, info_lib.load(str(root / "data")), str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_weights_that_changed_since_are_found_out_on_resuming(root, tmp_path):
    """The teacher was trained anew between a run and its resumption."""
    changes = {"crop_size": "18x24", "eval_split": "", "width": 0.0625}
    runs.untrained(root / "data", tmp_path / "teacher", stage="teacher", seed=1, **changes)
    stat = changes | {"stage": "stat", "teacher_run": str(tmp_path / "teacher")}
    config = runs.make_config(root / "data", **stat)
    config.save(str(tmp_path / "run"))
    (tmp_path / "teacher").rename(tmp_path / "first teacher")
    runs.untrained(root / "data", tmp_path / "teacher", stage="teacher", seed=2, **changes)
    with pytest.raises(errors.UserError, match="begun with other weights of --teacher_run"):
        runs.train(root / "data", tmp_path / "run", **stat)
    assert RunConfig.load(str(tmp_path / "run")) == config


def test_summary_can_be_pasted_into_a_shell(config):
    progress = checkpoints.Progress().after_epoch({"step": 3, "val_prec@1": 0.5}, 0.5)
    spaced = dataclasses.replace(config, stage="student", data_dir="my data")
    [evaluate, train] = loop.summary(spaced, "it's a run", progress).splitlines()[-2:]
    assert shlex.split(evaluate)[-3:] == ["--run_dir=it's a run", "--data_dir=my data", "--split=held_out"]
    # Not all of this line is for the shell: it says which flags to fill in.
    assert shlex.quote("--init_run=it's a run") in train


def test_run_that_another_process_is_at_work_on_is_left_alone(root, tmp_path):
    stage = {"stage": "student", "eval_split": "", "crop_size": "18x24"}
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "run")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(errors.UserError, match="Another python -m stat_tf.train.*is at work in .*run: wait"):
            runs.train(root / "data", tmp_path / "run", **stage)
    finally:
        other.communicate()
    assert runs.train(root / "data", tmp_path / "run", **stage).epochs_done
