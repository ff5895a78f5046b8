"""The command on real video files: what it prints, and what it does with a bad one among good ones."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf

from pipeline import beam_options, build, sources
from stat_tf.data import info
from stat_tf.inference import evaluation, inputs, prediction, serving
from stat_tf.training import checkpoints
from tests import builds, datasets, media, runs

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


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Videos, the dataset that the build made of them with optical flow, and runs of each stream and view."""
    root = tmp_path_factory.mktemp("built")
    texture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8), (0, 0), 3)
    for number, name in enumerate(["train/run/a", "train/jump/b", "test/run/c", "test/jump/d"]):
        frames = [np.roll(texture, (number - 1) * n, axis=1) for n in range(14)]
        media.encode_video(root / "videos" / f"{name}.mp4", np.stack(frames))
    settings = builds.record_settings(
        num_snippets=3, num_frames=2, lr_sizes=((6, 8), (12, 16)), noise=0.0, flow=info.FlowInfo("tvl1", 20.0)
    )
    listing = sources.read("folders", str(root / "videos"), None, 1)
    config = build.BuildConfig(str(root / "videos"), str(root / "data"), settings)
    build.build(listing, config, beam_options.parse([], len(listing.clips)))
    flow = {"stream": "flow", "color_jitter": 0.0}
    runs.untrained(root / "data", root / "rgb", lr_size="12x16")
    runs.untrained(root / "data", root / "flow", lr_size="12x16", **flow)
    runs.untrained(root / "data", root / "teacher", stage="teacher", crop_size="18x24", **flow)
    return root


def assert_same_answers(answers, expected, classes):
    """Predictions as of `evaluation.evaluate_run`, and lines of JSON by clip id."""
    assert sorted(answers) == sorted(expected.ids)
    for clip_id, probabilities, weights in zip(expected.ids, expected.probabilities, expected.attention, strict=True):
        found = {entry["class"]: entry["probability"] for entry in answers[clip_id]["top"]}
        np.testing.assert_allclose([found[name] for name in classes], probabilities, atol=1e-5)
        np.testing.assert_allclose(answers[clip_id]["segment_weights"], weights, atol=1e-5)


@pytest.mark.parametrize("run", ["rgb", "flow", "teacher"])
def test_video_is_answered_as_its_record_is(built, tmp_path, run):
    _, expected = evaluation.evaluate_run(str(built / run), str(built / "data"), "test")
    model = serving.ServedModel(serving.export_run(str(built / run), str(tmp_path)))
    answers = {}
    for clip_id in expected.ids:
        clips = inputs.clips_from_video(str(built / "videos" / clip_id), model.card)
        answers[clip_id] = json.loads(prediction.to_json(prediction.predict(model, clip_id, clips)))
    assert_same_answers(answers, expected, model.card.classes)


@pytest.mark.slow
def test_command_answers_as_the_fused_evaluation_over_snippets_and_flips(built, tmp_path):
    streams = {"flow_run_dir": str(built / "flow"), "flow_weight": 0.3}
    _, expected = evaluation.evaluate_run(
        str(built / "rgb"), str(built / "data"), "test", num_snippets=3, flips=True, **streams
    )
    version = serving.export_run(str(built / "rgb"), str(tmp_path), **streams)
    videos = {str(built / "videos" / clip_id): clip_id for clip_id in expected.ids}
    first, *rest = videos
    places = [f"--videos={first}", f"--videos={','.join(rest)}"]
    done = predict(f"--model={version}", *places, "--num_snippets=3", "--flips", "--format=jsonl")
    assert done.returncode == 0, done.stderr
    answers = {videos[answer["source"]]: answer for answer in map(json.loads, done.stdout.splitlines())}
    assert_same_answers(answers, expected, info.load(str(built / "data")).classes)


def test_two_streams_answer_frames_of_a_sensor(built, tmp_path):
    version = serving.export_run(str(built / "rgb"), str(tmp_path / "export"), flow_run_dir=str(built / "flow"))
    model = serving.ServedModel(version)
    np.save(tmp_path / "frames.npy", np.random.default_rng(0).integers(0, 256, (9, 12, 16, 3), np.uint8))
    clips = inputs.clips_from_frames(str(tmp_path / "frames.npy"), model.card)
    answer = prediction.predict(model, "frames.npy", clips)

    recognizers = [checkpoints.load_recognizer(str(built / stream))[0] for stream in ("rgb", "flow")]
    outputs = [recognizer.activations(clips[recognizer.config.stream]) for recognizer in recognizers]
    probabilities = np.mean([tf.nn.softmax(each.logits)[0].numpy() for each in outputs], axis=0)
    found = dict(answer.top)
    np.testing.assert_allclose([found[name] for name in model.card.classes], probabilities, atol=1e-5)
    weights = np.mean([each.temporal_attention[0].numpy() for each in outputs], axis=0)
    np.testing.assert_allclose(answer.segment_weights, weights, atol=1e-5)


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
