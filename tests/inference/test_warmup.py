"""Warm-up requests as TensorFlow Serving reads them: a TFRecord of PredictionLog messages."""

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from stat_tf import errors
from stat_tf.data import dataset
from stat_tf.data import info as info_lib
from stat_tf.inference import serving, warmup
from stat_tf.training import run_config
from tests import datasets, runs


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A directory with a dataset and a run, and the version directory of an export that holds the dataset's clips."""
    root = tmp_path_factory.mktemp("warmup")
    datasets.write_dataset(root / "data", clips={"train": 2, "test": 3})
    runs.untrained(root / "data", root / "run")
    version_dir = serving.export_run(str(root / "run"), str(root / "export"), warmup_data_dir=str(root / "data"))
    return root, version_dir


def logs_of(version_dir):
    records = tf.data.TFRecordDataset(f"{version_dir}/assets.extra/tf_serving_warmup_requests")
    return [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in records]


def test_requests_suit_the_signature_and_hold_the_datasets_clips(exported):
    root, version_dir = exported
    signature = tf.saved_model.load(version_dir).signatures["serving_default"]
    spec = signature.structured_input_signature[1]["frames"]
    data = str(root / "data")
    (batch,) = dataset.evaluation_dataset(
        data, info_lib.load(data), "test", batch_size=3, crop_size=(24, 32), lr_size=(12, 16)
    )
    sizes = []
    for log in logs_of(version_dir):
        assert log.WhichOneof("log_type") == "predict_log"
        request = log.predict_log.request
        assert request.model_spec.signature_name == "serving_default"
        assert list(request.inputs) == ["frames"]
        frames = tf.make_ndarray(request.inputs["frames"])
        assert frames.dtype == spec.dtype and spec.shape.is_compatible_with(frames.shape)
        np.testing.assert_array_equal(frames, batch["lr"].numpy()[[n % 3 for n in range(len(frames))]])
        answer = signature(frames=tf.constant(frames))
        np.testing.assert_allclose(tf.reduce_sum(answer["probabilities"], 1), 1, atol=1e-5)
        sizes.append(len(frames))
    assert sizes == [1, 8]


def test_damaged_shard_of_the_dataset_is_named(exported, tmp_path):
    root, _ = exported
    datasets.write_dataset(tmp_path, clips={"train": 2, "test": 3})
    path = min(tmp_path.glob("test-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    config = run_config.RunConfig.load(str(root / "run"))
    with pytest.raises(errors.UserError, match=f"Shard .*{path.name} is damaged"):
        warmup.dataset_clips({str(root / "run"): config}, str(tmp_path))


def test_export_without_a_dataset_holds_the_same_noise_each_time_and_no_footage(exported, tmp_path):
    root, _ = exported
    versions = [serving.export_run(str(root / "run"), str(tmp_path)) for _ in range(2)]
    first, second = (
        [log.SerializeToString(deterministic=True) for log in logs_of(version_dir)] for version_dir in versions
    )
    assert first == second
    ((_, single), _) = warmup.read(versions[0])
    assert single["frames"].shape == (1, 2, 1, 12, 16, 3) and single["frames"].std() > 60


def test_missing_and_damaged_requests_are_named(exported, tmp_path):
    _, version_dir = exported
    with pytest.raises(errors.UserError, match="tf_serving_warmup_requests holds no warm-up requests"):
        warmup.read(str(tmp_path))
    path = tmp_path / warmup.PATH
    path.parent.mkdir()
    with open(f"{version_dir}/{warmup.PATH}", "rb") as file:
        path.write_bytes(file.read()[:-10])
    with pytest.raises(errors.UserError, match="holds no warm-up requests"):
        warmup.read(str(tmp_path))
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff\xff")
    with pytest.raises(errors.UserError, match="no PredictionLog"):
        warmup.read(str(tmp_path))
    path.write_bytes(b"")
    with pytest.raises(errors.UserError, match="is empty"):
        warmup.read(str(tmp_path))


def test_dataset_of_other_clips_is_refused(exported, tmp_path):
    datasets.write_dataset(tmp_path / "data", num_frames=2)
    with pytest.raises(errors.UserError, match="T=1 frames a segment"):
        serving.export_run(str(exported[0] / "run"), str(tmp_path / "export"), warmup_data_dir=str(tmp_path / "data"))
    assert not (tmp_path / "export").exists()
