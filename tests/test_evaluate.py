"""The evaluation of real run directories on real shards, as a function and as a command."""

import csv
import dataclasses
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors
from stat_tf.data import dataset
from stat_tf.data import info as info_lib
from stat_tf.inference import evaluation, fit, report
from stat_tf.training import checkpoints, run_config
from tests import datasets, runs

CLASSES = ("climb", "jump", "run")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    datasets.write_dataset(directory, clips={"train": 3, "test": 7}, classes=CLASSES)
    return directory


@pytest.fixture(scope="module", params=["student", "teacher"])
def run(request, data, tmp_path_factory):
    """A run, its recognizer and the view that it takes."""
    directory = tmp_path_factory.mktemp(request.param)
    runs.untrained(data, directory, stage=request.param)
    recognizer, config = checkpoints.load_recognizer(str(directory))
    return directory, recognizer, config.view


def middle_snippets(data, info, view):
    """The middle snippet's frames of every test clip, read without the code under test, by clip id."""
    key = {"hr": "image/encoded", "lr": "LR/image/encoded"}[view]
    clips = {}
    for shard in info.shards["test"]:
        for serialized in tf.data.TFRecordDataset(str(data / shard.name)).as_numpy_iterator():
            example = tf.train.SequenceExample.FromString(serialized)
            images = [
                cv2.imdecode(np.frombuffer(feature.bytes_list.value[0], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
                for feature in example.feature_lists.feature_list[key].feature
            ]
            frames = np.stack(images).reshape(2, 3, 1, *images[0].shape)[:, 1]
            clip_id = example.context.feature["clip/media_id"].bytes_list.value[0].decode()
            clips[clip_id] = (frames, example.context.feature["clip/label/index"].int64_list.value[0])
    return clips


def test_evaluation_equals_the_recognizer_on_each_clip_alone(data, run):
    run_dir, recognizer, view = run
    results, predictions = evaluation.evaluate_run(str(run_dir), str(data), "test", batch_size=3)

    clips = middle_snippets(data, info_lib.load(str(data)), view)
    assert sorted(predictions.ids) == sorted(clips) and len(clips) == 7
    hits = 0
    for clip_id, label, row in zip(predictions.ids, predictions.labels, predictions.probabilities, strict=True):
        frames, expected_label = clips[clip_id]
        logits = recognizer(tf.constant(frames[np.newaxis])).numpy()[0].astype(np.float64)
        expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        np.testing.assert_allclose(row, expected, atol=1e-5)
        assert label == expected_label
        hits += int(expected.argmax() == expected_label)
    assert results["prec@1"] == pytest.approx(hits / 7)
    assert (results["checkpoint"], results["epoch"], results["dataset_fingerprint"]) == ("best", 1, "test")


def test_batch_size_does_not_change_the_files(data, run, tmp_path):
    for name, batch_size in (("a", 2), ("b", 7)):
        results, predictions = evaluation.evaluate_run(str(run[0]), str(data), "test", batch_size=batch_size)
        report.write_results(str(tmp_path / name), results, predictions)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["confusion.png", "metrics.json", "predictions.csv"]
    first, second = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ab")
    averages = [result.pop("temporal_attention") for result in (first, second)]
    assert first == second and averages[0].keys() == averages[1].keys()
    rows = [list(csv.DictReader((tmp_path / name / "predictions.csv").open())) for name in "ab"]
    assert len(rows[0]) == len(rows[1]) > 0
    for one, other in zip(*rows):
        assert one["clip_id"] == other["clip_id"] and one["top_1"] == other["top_1"]
        assert float(one["label_probability"]) == pytest.approx(float(other["label_probability"]), abs=1e-5)


def test_predictions_file_gives_the_five_best_and_the_label(tmp_path):
    classes = [f"class {number}" for number in range(8)]
    probabilities = np.array([[0.05, 0.3, 0.01, 0.2, 0.15, 0.1, 0.12, 0.07]], np.float32)
    predictions = evaluation.Predictions(("a, clip",), np.array([7]), probabilities, np.ones((1, 1), np.float32))
    path = tmp_path / "predictions.csv"
    path.write_text(report.predictions_csv(predictions, classes))
    with path.open() as file:
        (row,) = csv.DictReader(file)
    assert row["clip_id"] == "a, clip" and row["label"] == "class 7" and float(row["label_probability"]) == 0.07
    assert [row[f"top_{k}"] for k in range(1, 6)] == ["class 1", "class 3", "class 4", "class 6", "class 5"]
    assert [float(row[f"top_{k}_probability"]) for k in range(1, 6)] == [0.3, 0.2, 0.15, 0.12, 0.1]


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"classes": ("climb", "jump", "swim")}, ["class 2", "swim in the run", "run in the dataset"]),
        ({"classes": ("climb", "jump")}, ["class 2", "none in the run"]),
        ({"num_segments": 3}, ["K=3", "K=2"]),
        ({"num_frames": 2}, ["T=2", "T=1"]),
        ({"lr_sizes": ((6, 8),)}, ["6x8", "12x16"]),
    ],
)
def test_dataset_of_another_kind_is_named_beside_the_run(data, tmp_path, change, names):
    datasets.write_dataset(tmp_path / "other", **{"classes": CLASSES, **change})
    runs.untrained(tmp_path / "other", tmp_path / "run")
    with pytest.raises(errors.UserError) as caught:
        evaluation.evaluate_run(str(tmp_path / "run"), str(data), "test")
    for name in [str(tmp_path / "run"), str(data), *names]:
        assert name in str(caught.value)


def test_teacher_does_not_mind_the_lr_size(data, tmp_path):
    datasets.write_dataset(tmp_path / "other", classes=CLASSES, lr_sizes=((6, 8),))
    runs.untrained(tmp_path / "other", tmp_path / "run", stage="teacher")
    assert evaluation.evaluate_run(str(tmp_path / "run"), str(data), "test")[0]["num_clips"] == 7


def test_unlabelled_clips_cannot_be_evaluated(data, tmp_path):
    runs.untrained(data, tmp_path / "run")
    info = info_lib.load(str(data))
    partly = dataclasses.replace(info, counts={**info.counts, "test": {"run": 3, "": 4}})
    with pytest.raises(errors.UserError, match="Split 'test' .* has 4 clips without a label"):
        config = run_config.RunConfig.load(str(tmp_path / "run"))
        fit.check_fits(str(tmp_path / "run"), config, str(data), partly, "test")


def test_nan_weights_are_reported(data, tmp_path):
    runs.untrained(data, tmp_path / "run")
    recognizer, _ = checkpoints.load_recognizer(str(tmp_path / "run"))
    recognizer.classifier.bias.assign([np.nan] * 3)
    batches = tf.data.Dataset.from_tensors(
        {"id": ["a"], "label": tf.constant([0], tf.int64), "lr": tf.zeros([1, 2, 1, 12, 16, 3], tf.uint8)}
    )
    with pytest.raises(errors.UserError, match="not finite"):
        evaluation.predict_split(evaluation.answer_of(recognizer), [batches], "lr", num_batches=1)


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A dataset of two LR sizes with optical flow, an RGB student, a flow student and a flow teacher."""
    root = tmp_path_factory.mktemp("two")
    datasets.write_dataset(
        root / "data",
        clips={"train": 3, "test": 5},
        classes=CLASSES,
        num_frames=2,
        lr_sizes=((12, 16), (6, 8)),
        flow=info_lib.FlowInfo("tvl1", 20.0),
    )
    runs.untrained(root / "data", root / "rgb", lr_size="6x8")
    flow = {"stream": "flow", "color_jitter": 0.0}
    runs.untrained(root / "data", root / "flow", lr_size="6x8", seed=1, **flow)
    runs.untrained(root / "data", root / "teacher", stage="teacher", crop_size="18x24", **flow)
    return root


def predictions_of(root, run, **options):
    results, predictions = evaluation.evaluate_run(str(root / run), str(root / "data"), "test", **options)
    return results, predictions


@pytest.fixture(scope="module")
def alone(two):
    """Results and predictions of each stream."""
    return [predictions_of(two, run) for run in ("rgb", "flow")]


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_two_streams_are_the_weighted_mean_of_each_alone(two, alone, weight):
    (rgb_results, rgb), (flow_results, flow) = alone
    results, fused = predictions_of(two, "rgb", flow_run_dir=str(two / "flow"), flow_weight=weight)
    assert np.abs(rgb.probabilities - flow.probabilities).max() > 1e-3
    for name in ("probabilities", "attention"):
        expected = (1 - weight) * getattr(rgb, name) + weight * getattr(flow, name)
        np.testing.assert_allclose(getattr(fused, name), expected, atol=1e-6)
    assert fused.ids == rgb.ids and (fused.labels == rgb.labels).all()
    assert results["prec@1"] == np.mean(fused.probabilities.argmax(1) == rgb.labels)
    assert results["flow_weight"] == weight and "run_dir" not in results
    for stream, own in (("rgb", rgb_results), ("flow", flow_results)):
        assert results["streams"][stream] == {
            "run_dir": str(two / stream),
            "stage": "student",
            "stream": stream,
            "checkpoint": "best",
            "epoch": 1,
            "prec@1": own["prec@1"],
        }


def mirrored(clips):
    """What a mirror shows, pixel by pixel."""
    clips = clips[..., ::-1, :].copy()
    if clips.shape[-1] == 2:
        clips[..., 0] = 255 - clips[..., 0]
    return clips


@pytest.mark.parametrize(
    ("run", "num_snippets", "chosen", "flips"),
    [
        ("rgb", 1, [1], True),
        ("flow", 1, [1], True),
        ("rgb", 2, [0, 2], False),
        ("teacher", 3, [0, 1, 2], True),
    ],
)
def test_score_is_the_mean_over_snippets_and_mirror_images(two, run, num_snippets, chosen, flips):
    recognizer, config = checkpoints.load_recognizer(str(two / run))
    info = info_lib.load(str(two / "data"))
    looks = []
    for snippet in chosen:
        (batch,) = dataset.evaluation_dataset(
            str(two / "data"), info, "test", batch_size=5, crop_size=config.crop_size, lr_size=config.lr_size,
            stream=config.stream, snippet=snippet, views=(config.view,),
        )  # fmt: skip
        clips = batch[config.view].numpy()
        looks += [clips, mirrored(clips)] if flips else [clips]
    outputs = [recognizer.activations(tf.constant(look)) for look in looks]
    expected = np.mean([tf.nn.softmax(each.logits).numpy() for each in outputs], axis=0)
    if len(outputs) > 1:
        assert np.abs(expected - tf.nn.softmax(outputs[0].logits).numpy()).max() > 1e-5

    results, predictions = predictions_of(two, run, num_snippets=num_snippets, flips=flips, batch_size=2)
    np.testing.assert_allclose(predictions.probabilities, expected, atol=1e-5)
    attention = np.mean([each.temporal_attention.numpy() for each in outputs], axis=0)
    np.testing.assert_allclose(predictions.attention, attention, atol=1e-5)
    assert (results["num_snippets"], results["flips"]) == (num_snippets, flips)


@pytest.mark.parametrize(
    ("num_snippets", "stored", "chosen"),
    [(1, 3, [1]), (1, 4, [2]), (2, 3, [0, 2]), (2, 5, [1, 3]), (3, 10, [1, 5, 8]), (4, 4, [0, 1, 2, 3])],
)
def test_snippets_are_spread_evenly(num_snippets, stored, chosen):
    assert evaluation.spread_snippets(num_snippets, stored) == chosen


def test_more_snippets_than_stored_are_refused(two):
    with pytest.raises(errors.UserError, match="--num_snippets=4 is not between 1 and 3"):
        predictions_of(two, "rgb", num_snippets=4)


def test_fused_command_names_both_streams(two):
    flags = [f"--run_dir={two / 'rgb'}", f"--data_dir={two / 'data'}", f"--flow_run_dir={two / 'flow'}"]
    done = evaluate(*flags, "--flow_weight=0.25", "--num_snippets=2", "--flips")
    assert done.returncode == 0, done.stderr
    results = json.loads((two / "rgb" / "eval-test-two-stream" / "metrics.json").read_text())
    assert (results["flow_weight"], results["num_snippets"], results["flips"]) == (0.25, 2, True)
    for stream in ("rgb", "flow"):
        assert f"prec@1 of the {stream} stream alone {100 * results['streams'][stream]['prec@1']:.2f} %" in done.stdout


def evaluate(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "stat_tf.evaluate", *arguments], capture_output=True, text=True, timeout=300
    )


def test_command_writes_and_prints(data, run):
    run_dir = run[0]
    done = evaluate(f"--run_dir={run_dir}", f"--data_dir={data}", "--batch_size=4")
    assert done.returncode == 0, done.stderr
    results = json.loads((run_dir / "eval-test" / "metrics.json").read_text())
    assert results["num_clips"] == 7 and results["split"] == "test"
    for name in CLASSES:
        assert name in done.stdout
    assert f"{100 * results['prec@1']:.2f}" in done.stdout
    assert (run_dir / "eval-test" / "confusion.png").read_bytes().startswith(b"\x89PNG")


def test_command_names_what_is_missing(data, tmp_path):
    done = evaluate(f"--run_dir={tmp_path}/none", f"--data_dir={data}")
    assert done.returncode == 1 and f"{tmp_path}/none" in done.stderr and "Traceback" not in done.stderr
    done = evaluate(f"--run_dir={tmp_path}/none", f"--data_dir={data}", "--flow_weight=0.5")
    assert done.returncode == 1 and "--flow_run_dir too" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "Give either --run_dir or --model"),
        (["--run_dir=run", "--model=export"], "Give either --run_dir or --model"),
        (["--model=export", "--output=out", "--checkpoint=last"], "--checkpoint is about runs"),
        (["--model=export"], "Give --output too"),
    ],
)
def test_run_and_export_are_told_apart(flags, message):
    done = evaluate(*flags, "--data_dir=data")
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
