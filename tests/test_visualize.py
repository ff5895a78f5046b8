"""Pictures of attention: what is drawn, of which clips, and that the command leaves whole PNGs."""

import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors
from stat_tf.data import info as info_lib
from stat_tf.inference import attention_figure
from stat_tf.training import checkpoints
from tests import datasets, runs

CLASSES = ("climb", "jump", "run")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset of three classes and seven test clips, a teacher's run and a student's."""
    directory = tmp_path_factory.mktemp("visualize")
    datasets.write_dataset(directory / "data", clips={"train": 3, "test": 7}, classes=CLASSES)
    runs.untrained(directory / "data", directory / "teacher", stage="teacher", crop_size="18x24")
    runs.untrained(directory / "data", directory / "student")
    return directory


def test_frames_are_multiplied_by_their_upsampled_attention():
    generator = np.random.default_rng(0)
    frames = generator.integers(0, 256, (2, 24, 32, 3), np.uint8)
    np.testing.assert_array_equal(attention_figure.attended(frames, np.ones((2, 3, 4), np.float32)), frames)

    spatial = generator.random((2, 3, 4), np.float32)
    weights = np.stack([cv2.resize(each, (32, 24), interpolation=cv2.INTER_LINEAR) for each in spatial])[..., None]
    expected = frames * (0.12 + 0.88 * weights) + np.array([0, 10, 60]) * (1 - weights)
    assert np.abs(attention_figure.attended(frames, spatial) - expected).max() <= 0.51


def test_spatial_attention_is_the_last_stage_summed_over_channels(root):
    recognizer, config = checkpoints.load_recognizer(str(root / "student"))
    frames = np.random.default_rng(0).integers(0, 256, (2, 1, 12, 16, 3), np.uint8)
    look = attention_figure._look("runs/student/", recognizer, config, tf.constant(frames), label=1)

    outputs = recognizer.activations(tf.constant(frames[np.newaxis]))
    expected = np.abs(outputs.stages[3].numpy()[:, 0]).sum(-1)
    expected = (expected - expected.min()) / (expected.max() - expected.min())
    np.testing.assert_allclose(look.spatial, expected, atol=1e-4)
    np.testing.assert_allclose(look.temporal, outputs.temporal_attention[0].numpy(), atol=1e-5)
    best = int(outputs.logits[0].numpy().argmax())
    assert look.title.startswith(f"student on LR frames: {CLASSES[best]}, ")
    assert look.correct == (best == 1)


@pytest.mark.parametrize(("num_clips", "expected"), [(2, 2), (3, 3), (6, 6), (50, 7)])
def test_clips_are_spread_over_the_classes(root, tmp_path, num_clips, expected):
    paths = list(
        attention_figure.draw_runs(
            [str(root / "student")], str(root / "data"), "test", str(tmp_path), num_clips=num_clips
        )
    )
    # Clip n has class n modulo 3.
    drawn = [int(path.removesuffix(".mp4.png")[-3:]) % 3 for path in paths]
    assert len(paths) == expected
    assert max(map(drawn.count, range(3))) - min(map(drawn.count, range(3))) <= 1
    assert sorted(map(str, tmp_path.iterdir())) == sorted(paths)


def test_command_draws_runs_of_both_views_one_beneath_the_other(root, tmp_path):
    command = [
        sys.executable,
        "-m",
        "stat_tf.visualize",
        f"--run_dir={root / 'teacher'}",
        f"--data_dir={root / 'data'}",
    ]
    heights = []
    for more in ([], [f"--compare_run={root / 'student'}"]):
        done = subprocess.run(
            [*command, *more, "--num_clips=1", f"--output={tmp_path}"], capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        (path,) = done.stdout.split()
        heights.append(cv2.imread(path).shape[0])
    assert heights[1] > heights[0] * 1.3


def test_each_run_sees_its_own_stream_and_size(tmp_path, monkeypatch):
    data = tmp_path / "data"
    sizes = {"lr_sizes": ((12, 16), (6, 8)), "flow": info_lib.FlowInfo("tvl1", 20.0)}
    datasets.write_dataset(data, clips={"train": 2, "test": 1}, num_frames=2, **sizes)
    flow = {"stream": "flow", "color_jitter": 0.0}
    settings = {
        "rgb": {"lr_size": "6x8"},
        "flow": {"lr_size": "12x16", **flow},
        "teacher": {"stage": "teacher", **flow},
    }
    for name, changes in settings.items():
        runs.untrained(data, tmp_path / name, **changes)
    drawn = {}
    monkeypatch.setattr(attention_figure, "draw", lambda path, title, rows, looks: drawn.update(rows=rows, looks=looks))
    run_dirs = [str(tmp_path / name) for name in settings]
    list(attention_figure.draw_runs(run_dirs, str(data), "test", str(tmp_path / "out"), num_clips=1))

    # The second frame of the centre snippet of both segments, that is, frames 3 and 9 of the record.
    frames = datasets.frames_of(0, 12, (24, 32))[[3, 9]]
    assert {name: row.shape for name, row in drawn["rows"].items()} == {
        "HR": (2, 24, 32, 3),
        "LR 6x8": (2, 6, 8, 3),
        "LR 12x16": (2, 12, 16, 3),
    }
    assert np.abs(drawn["rows"]["HR"].astype(int) - frames).mean() < 2
    for name, look in zip(settings, drawn["looks"], strict=True):
        recognizer, config = checkpoints.load_recognizer(str(tmp_path / name))
        size = config.recognizer.frame_size
        if name == "rgb":
            stored = np.round(tf.image.resize(datasets.frames_of(0, 12, (24, 32)), size, method="area"))
        else:
            stored = datasets.fields_of(0, 12, size)
        clip = stored.astype(np.uint8).reshape(2, 3, 2, *size, -1)[:, 1]
        outputs = recognizer.activations(tf.constant(clip[np.newaxis]))
        np.testing.assert_allclose(look.temporal, outputs.temporal_attention[0].numpy(), atol=1e-5)
        where = {"rgb": "LR frames", "flow": "LR flow", "teacher": "HR flow"}[name]
        assert look.title.startswith(f"{name} on {where}: ")


def test_run_on_other_classes_is_named(root, tmp_path):
    datasets.write_dataset(tmp_path / "data")
    with pytest.raises(errors.UserError, match="differ from class 0 on"):
        list(attention_figure.draw_runs([str(root / "student")], str(tmp_path / "data"), "test", "", num_clips=1))
