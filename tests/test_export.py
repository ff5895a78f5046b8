"""Exports as other programs meet them: fresh processes, plain TensorFlow, no stat_tf."""

import json
import os
import shutil
import stat
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from pipeline import export_checks
from stat_tf import errors
from stat_tf.data import dataset
from stat_tf.data import info as info_lib
from stat_tf.inference import evaluation, export_evaluation, serving
from stat_tf.training import checkpoints
from tests import datasets, runs

CLASSES = ("climb", "jump", "run", "sit", "swim", "walk")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run directory, its recognizer, and the export that the command made of it."""
    root = tmp_path_factory.mktemp("export")
    datasets.write_dataset(root / "data", classes=CLASSES, hr_size=(48, 64))
    runs.untrained(root / "data", root / "run", crop_size="36x48")
    recognizer, _ = checkpoints.load_recognizer(str(root / "run"))
    done = subprocess.run(
        [sys.executable, "-m", "stat_tf.export", f"--run_dir={root / 'run'}", f"--output={root / 'export'}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == f"Written: {root / 'export' / '1'}"
    return root / "run", recognizer, root / "export"


def clips(count):
    return np.random.default_rng(3).integers(0, 256, (count, 2, 1, 12, 16, 3), np.uint8)


PLAIN_TENSORFLOW = """
import sys
sys.modules["stat_tf"] = None  # makes importing it an error, be it installed or not
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
answer = loaded.signatures["serving_default"](frames=tf.constant(np.load(sys.argv[2])))
np.savez(sys.argv[3], **{name: value.numpy().astype("U") if value.dtype == tf.string else value.numpy()
                         for name, value in answer.items()})
"""


@pytest.mark.parametrize("count", [1, 3])
def test_plain_tensorflow_without_stat_tf_gives_the_recognizers_answer(run, tmp_path, count):
    np.save(tmp_path / "clips.npy", clips(count))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run(
        [sys.executable, "-I", "-c", PLAIN_TENSORFLOW, run[2] / "1", tmp_path / "clips.npy", tmp_path / "answer.npz"],
        cwd=tmp_path,
        env=environment,
        check=True,
        timeout=300,
    )
    answer = np.load(tmp_path / "answer.npz")
    expected = run[1].activations(tf.constant(clips(count)))
    probabilities = tf.nn.softmax(expected.logits).numpy()
    np.testing.assert_allclose(answer["probabilities"], probabilities, atol=1e-5)
    np.testing.assert_allclose(answer["segment_weights"], expected.temporal_attention.numpy(), atol=1e-5)
    best = np.argsort(-probabilities, axis=1)[:, :5]
    assert answer["top_classes"].tolist() == [[CLASSES[index] for index in row] for row in best]
    np.testing.assert_allclose(answer["top_probabilities"], np.take_along_axis(probabilities, best, 1), atol=1e-5)


def test_export_holds_the_network_and_nothing_else(run):
    stored = dict(tf.train.list_variables(str(run[2] / "1" / "variables" / "variables")))
    stored.pop("_CHECKPOINTABLE_OBJECT_GRAPH")
    # All but the count of dropout's draws, which serving does not read.
    expected = sorted(tuple(v.shape) for v in run[1].variables if v.dtype == tf.float32)
    assert sorted(map(tuple, stored.values())) == expected


def test_assets_describe_the_model(run):
    assets = run[2] / "1" / "assets"
    assert (assets / "labels.txt").read_text().splitlines() == list(CLASSES)
    card = json.loads((assets / "model.json").read_text())
    assert (card["num_segments"], card["num_frames"], card["frame_size"]) == (2, 1, [12, 16])
    assert (card["hr_size"], card["lens_blur"], card["noise"]) == ([48, 64], 0.0, 0.0)
    assert (card["view"], card["flow_weight"], card["flow_method"]) == ("lr", 0.0, "")
    network = {"stage": "student", "backbone": "resnet18", "run_dir": str(run[0]), "checkpoint": "best", "epoch": 1}
    assert card["networks"] == {"rgb": network}


def test_next_version_is_one_more_than_the_highest_and_nothing_else_is_left(run, tmp_path):
    for name in ("2", "10", "notes"):
        (tmp_path / name).mkdir()
    assert serving.export_run(str(run[0]), str(tmp_path)) == str(tmp_path / "11")
    assert sorted(os.listdir(tmp_path)) == ["10", "11", "2", "notes"]
    # A server may run as another user.
    assert stat.S_IMODE((tmp_path / "11").stat().st_mode) & 0o055 == 0o055


def test_export_that_fails_leaves_nothing(run, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("disk full")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(RuntimeError):
        serving.export_run(str(run[0]), str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_fewer_than_five_classes_are_all_listed(tmp_path):
    datasets.write_dataset(tmp_path / "data")
    runs.untrained(tmp_path / "data", tmp_path / "run")
    model = serving.ServedModel(serving.export_run(str(tmp_path / "run"), str(tmp_path / "export")))
    answer = model.predict({"rgb": tf.constant(clips(2))})
    assert answer["top_classes"].shape == (2, 2)
    assert {name.decode() for name in answer["top_classes"].numpy()[0]} == {"jump", "run"}


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """A dataset with optical flow, an RGB run, a flow run, and the export of both that the command made."""
    root = tmp_path_factory.mktemp("streams")
    flow = info_lib.FlowInfo("tvl1", 20.0)
    datasets.write_dataset(root / "data", clips={"train": 2, "test": 3}, num_frames=2, flow=flow)
    runs.untrained(root / "data", root / "rgb")
    runs.untrained(root / "data", root / "flow", stream="flow", color_jitter=0.0, seed=1)
    command = [sys.executable, "-m", "stat_tf.export", f"--run_dir={root / 'rgb'}", f"--output={root / 'both'}"]
    done = subprocess.run(
        [*command, f"--flow_run_dir={root / 'flow'}", "--flow_weight=0.3"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return root


def test_two_streams_answer_as_their_fused_evaluation(streams):
    data = str(streams / "data")
    _, expected = evaluation.evaluate_run(
        str(streams / "rgb"), data, "test", flow_run_dir=str(streams / "flow"), flow_weight=0.3
    )
    clips = {}
    for stream in ("rgb", "flow"):
        (batch,) = dataset.evaluation_dataset(
            data, info_lib.load(data), "test", batch_size=3, crop_size=(24, 32), lr_size=(12, 16), stream=stream
        )
        clips[stream] = batch["lr"]
    loaded = tf.saved_model.load(str(streams / "both" / "1"))
    answer = loaded.signatures["serving_default"](frames=clips["rgb"], flow=clips["flow"])
    np.testing.assert_allclose(answer["probabilities"], expected.probabilities, atol=1e-5)
    np.testing.assert_allclose(answer["segment_weights"], expected.attention, atol=1e-5)
    best = expected.probabilities.argmax(1)
    assert [names[0].decode() for names in answer["top_classes"].numpy()] == [("jump", "run")[i] for i in best]

    card = serving.ServedModel(str(streams / "both")).card
    assert (card.flow_weight, card.flow_method, card.flow_bound) == (0.3, "tvl1", 20.0)
    assert [(name, network.run_dir) for name, network in card.networks.items()] == [
        ("rgb", str(streams / "rgb")),
        ("flow", str(streams / "flow")),
    ]


def test_two_streams_are_evaluated_and_checked_as_one_model(streams):
    data, run_dirs = str(streams / "data"), [str(streams / "rgb"), str(streams / "flow")]
    both = {"flow_run_dir": run_dirs[1], "flow_weight": 0.3}
    _, expected = evaluation.evaluate_run(run_dirs[0], data, "test", flips=True, **both)
    _, found = export_evaluation.evaluate_export(str(streams / "both"), data, "test", flips=True)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, atol=1e-5)
    report = export_checks.check(str(streams / "both"), run_dirs, max_latency_ms=0.0, latency_requests=1)
    assert report["verdict"] == "pass", report["problems"]
    report = export_checks.check(str(streams / "both"), run_dirs[:1], max_latency_ms=0.0, latency_requests=1)
    assert "is of the streams rgb, flow" in report["problems"][0]


def test_flow_run_alone_takes_flow(streams, tmp_path):
    model = serving.ServedModel(serving.export_run(str(streams / "flow"), str(tmp_path)))
    fields = np.random.default_rng(0).integers(0, 256, (3, 2, 2, 12, 16, 2), np.uint8)
    recognizer, _ = checkpoints.load_recognizer(str(streams / "flow"))
    expected = tf.nn.softmax(recognizer(tf.constant(fields)))
    np.testing.assert_allclose(model.predict({"flow": tf.constant(fields)})["probabilities"], expected, atol=1e-5)
    assert model.card.flow_weight == 1.0 and list(model.card.networks) == ["flow"]


def test_streams_of_unequal_batches_or_shapes_are_refused(streams):
    signature = tf.saved_model.load(str(streams / "both" / "1")).signatures["serving_default"]
    frames, flow = (tf.zeros([2, 2, 2, 12, 16, channels], tf.uint8) for channels in (3, 2))
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many clips of flow as of frames"):
        signature(frames=frames, flow=flow[:1])
    with pytest.raises(tf.errors.InvalidArgumentError, match="12,16,2"):
        signature(frames=frames, flow=frames)


def test_runs_of_the_wrong_stream_are_refused(streams, tmp_path):
    with pytest.raises(errors.UserError, match="--flow_run_dir=.*rgb is a run of stream rgb"):
        serving.export_run(str(streams / "rgb"), str(tmp_path / "export"), flow_run_dir=str(streams / "rgb"))
    assert not (tmp_path / "export").exists()


def test_signature_refuses_another_frame_size(run):
    signature = tf.saved_model.load(str(run[2] / "1")).signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="12,16,3"):
        signature(frames=tf.zeros([1, 2, 1, 24, 32, 3], tf.uint8))


def test_directory_of_versions_stands_for_its_newest(run):
    assert serving.ServedModel(str(run[2])).card == serving.ServedModel(str(run[2] / "1")).card


def test_missing_foreign_and_damaged_exports_are_named(run, tmp_path):
    with pytest.raises(errors.UserError, match="There is no export"):
        serving.ServedModel(str(tmp_path / "none"))
    with pytest.raises(errors.UserError, match="not a SavedModel"):
        serving.ServedModel(str(tmp_path))

    module = tf.Module()
    module.serve = tf.function(lambda x: {"y": x}, input_signature=[tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path / "foreign"), signatures={"serving_default": module.serve})
    with pytest.raises(errors.UserError, match="has no signature serving_default"):
        serving.ServedModel(str(tmp_path / "foreign"))
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))
    with pytest.raises(errors.UserError, match="has no signature serving_default"):
        serving.ServedModel(str(tmp_path / "empty"))

    damaged = shutil.copytree(run[2] / "1", tmp_path / "damaged")
    with open(os.path.join(damaged, "saved_model.pb"), "r+b") as file:
        file.truncate(1000)
    with pytest.raises(errors.UserError, match="damaged SavedModel"):
        serving.ServedModel(str(damaged))
    cut = shutil.copytree(run[2] / "1", tmp_path / "cut")
    with open(os.path.join(cut, "variables", "variables.data-00000-of-00001"), "r+b") as file:
        file.truncate(1000)
    with pytest.raises(errors.UserError, match="damaged SavedModel"):
        serving.ServedModel(str(cut))


def test_run_without_a_checkpoint_is_named(tmp_path):
    datasets.write_dataset(tmp_path / "data")
    runs.make_config(tmp_path / "data").save(str(tmp_path / "run"))
    with pytest.raises(errors.UserError, match="run has no 'best' checkpoint"):
        serving.export_run(str(tmp_path / "run"), str(tmp_path / "export"))
    assert not (tmp_path / "export").exists()
