"""The command on real video files: what it prints, and what it does with a bad one among good ones."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from stat_tf.inference import prediction, serving
from stat_tf.training import checkpoints
from tests import datasets, media, runs

CLASSES = ("climb", "jump", "run", "sit", "swim", "walk")


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """An export and its recognizer."""
    root = tmp_path_factory.mktemp("predict")
    datasets.write_dataset(root / "data", classes=CLASSES, hr_size=(24, 32))
    runs.untrained(root / "data", root / "run")
    version = serving.export_run(str(root / "run"), str(root / "export"))
    return version, checkpoints.load_recognizer(str(root / "run"))[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A video larger than the HR size, sensor frames, and a text file that says it is a video."""
    root = tmp_path_factory.mktemp("files")
    media.encode_video(root / "good.mp4", np.random.default_rng(0).integers(0, 256, (9, 50, 70, 3), np.uint8))
    np.save(root / "clip.npy", np.random.default_rng(1).integers(0, 256, (2, 1, 12, 16, 3), np.uint8))
    (root / "text.avi").write_text("not a video")
    return root


def predict(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "stat_tf.predict", *arguments], capture_output=True, text=True, timeout=300
    )


def test_json_lines_answer_all_but_the_bad_one(export, files):
    good, bad, clip = files / "good.mp4", files / "text.avi", files / "clip.npy"
    done = predict(f"--model={export[0]}", f"--videos={bad},{good}", f"--frames={clip}", "--format=jsonl")
    assert done.returncode == 1
    assert str(bad) in done.stderr and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
    video, frames = map(json.loads, done.stdout.splitlines())
    assert (video["source"], frames["source"]) == (str(good), str(clip))

    expected = export[1].activations(tf.constant(np.load(clip)[np.newaxis]))
    probabilities = tf.nn.softmax(expected.logits)[0].numpy()
    best = np.argsort(-probabilities)[:5]
    assert [entry["class"] for entry in frames["top"]] == [CLASSES[index] for index in best]
    np.testing.assert_allclose([entry["probability"] for entry in frames["top"]], probabilities[best], atol=1e-5)
    np.testing.assert_allclose(frames["segment_weights"], expected.temporal_attention[0].numpy(), atol=1e-5)


def test_table_shows_classes_and_segments(export, files):
    done = predict(f"--model={export[0]}", f"--videos={files / 'good.mp4'}")
    assert done.returncode == 0 and done.stderr == ""
    assert str(files / "good.mp4") in done.stdout
    assert sum(name in done.stdout for name in CLASSES) == 5
    assert "segment 1 of 2" in done.stdout and "segment 2 of 2" in done.stdout


def test_nothing_to_predict_and_a_missing_export_are_one_sentence(tmp_path, files):
    for arguments, sentence in (
        ([f"--model={tmp_path}"], "Nothing to predict"),
        ([f"--model={tmp_path}/none", f"--videos={files / 'good.mp4'}"], "There is no export"),
    ):
        done = predict(*arguments)
        assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr


def test_bars_are_as_long_as_the_numbers():
    shown = prediction.to_text(prediction.Prediction("a.mp4", (("run", 0.75), ("jump", 0.25)), (0.1, 0.8, 0.1)))
    lengths = {line.split("  ")[0].strip(): line.count("█") for line in shown.splitlines()}
    assert lengths["run"] == 3 * lengths["jump"] == 18
    assert lengths["segment 2 of 3"] == 8 * lengths["segment 1 of 3"] == 24
