"""Backbones, student inputs, streams and resolutions, any two together, through teacher, student and STAT."""

import functools
import itertools

import numpy as np
import pytest
import tensorflow as tf

from stat_tf.data import info as info_lib
from stat_tf.models.recognizer import BACKBONES
from stat_tf.training import assembly, checkpoints
from tests import datasets, runs

INPUTS, STREAMS = ("upsample", "native"), ("rgb", "flow")
LR_SIZES = ((6, 8), (12, 16), (18, 24), (24, 32))
TINY = {"width": 0.0625, "batch_size": 2, "eval_split": "", "color_jitter": 0.0, "init_from": "none", "num_frames": 2}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two frames a snippet in HR and four LR sizes, and their flow."""
    directory = tmp_path_factory.mktemp("data")
    datasets.write_dataset(
        directory,
        clips={"train": 2},
        num_frames=2,
        num_snippets=1,
        hr_size=(48, 64),
        lr_sizes=LR_SIZES,
        flow=info_lib.FlowInfo("tvl1", 20.0),
        num_shards=1,
    )
    return directory


def one_step(data, run_dir, **changes):
    """The first step of a run, on real batches; keeps the run as if that had been all its training."""
    config = runs.make_config(data, **TINY | changes | {"epochs": 1})
    info = info_lib.load(str(data))
    model = assembly.build(config, info)
    assembly.set_initial_weights(model.student, config)
    [batch] = assembly.training_data(config, info, ("hr", "lr"))
    before = [variable.numpy() for variable in model.student.trainable_variables]
    logs = {name: float(value) for name, value in model.train_step(batch).items()}
    config.save(str(run_dir))
    saved = checkpoints.RunCheckpoints(str(run_dir), model.student, model.optimizer)
    saved.save(checkpoints.Progress().after_epoch({"step": 1}, None))
    still = [
        variable.name
        for variable, value in zip(model.student.trainable_variables, before, strict=True)
        if np.array_equal(variable.numpy(), value)
    ]
    return logs, still


# Of each backbone two of the four; its sizes are split between them so that each input and stream meets each size.
COMBINATIONS = [
    (backbone, INPUTS[(number + stream) % 2], STREAMS[stream], LR_SIZES[(number // 2 + stream) % 2 :: 2])
    for number, backbone in enumerate(BACKBONES)
    for stream in (0, 1)
]


def test_combinations_hold_any_two_choices_together():
    rows = [
        (("backbone", backbone), ("input", student_input), ("stream", stream), ("size", size))
        for backbone, student_input, stream, sizes in COMBINATIONS
        for size in sizes
    ]
    pairs = {pair for row in rows for pair in itertools.combinations(row, 2)}
    values = [set(column) for column in zip(*rows)]
    assert sorted(map(len, values)) == [2, 2, 4, len(BACKBONES)]
    assert pairs == {pair for one, two in itertools.combinations(values, 2) for pair in itertools.product(one, two)}


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "student_input", "stream", "lr_sizes"), COMBINATIONS)
def test_combination_trains_through_all_stages(data, tmp_path, monkeypatch, backbone, student_input, stream, lr_sizes):
    # One frozen teacher serves all resolutions.
    monkeypatch.setattr(checkpoints, "load_recognizer", functools.cache(checkpoints.load_recognizer))
    common = {"backbone": backbone, "student_input": student_input, "stream": stream}
    if backbone == "efficientnet_lite0":
        common["width"] = 1.0
    teacher = tmp_path / "teacher"
    logs, _ = one_step(data, teacher, stage="teacher", **common)
    assert np.isfinite(list(logs.values())).all()
    for lr_size in lr_sizes:
        options = common | {"lr_size": "x".join(map(str, lr_size))}
        student, stat = tmp_path / f"student {lr_size}", tmp_path / f"stat {lr_size}"
        logs, still = one_step(data, student, stage="student", **options)
        assert np.isfinite(list(logs.values())).all() and not still
        logs, still = one_step(data, stat, stage="stat", teacher_run=str(teacher), init_run=str(student), **options)
        assert np.isfinite(list(logs.values())).all()
        expected = sum(logs[term] for term in ("ce", "sat", "tat")) / 3
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)
        assert logs["sat"] > 0 and logs["tat"] > 0
    recognizer, config = checkpoints.load_recognizer(str(stat), "last")
    assert config.lr_size == config.recognizer.frame_size == lr_sizes[-1]
    assert np.isfinite(recognizer(tf.zeros([1, *recognizer.config.clip_shape], tf.uint8))).all()
