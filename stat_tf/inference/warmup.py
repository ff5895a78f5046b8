"""Warm-up requests of an export, which TF Serving replays before it lets a version answer.

`EXPORT/VERSION/assets.extra/tf_serving_warmup_requests` is a TFRecord file of `PredictionLog`s. Without it,
the first clients of a new version wait while TensorFlow prepares its kernels for their batch size.
"""

import os
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from stat_tf import errors
from stat_tf.data import dataset
from stat_tf.data import info as info_lib
from stat_tf.inference import evaluation, fit, model_card
from stat_tf.training import run_config

# Where TF Serving looks.
PATH = os.path.join("assets.extra", "tf_serving_warmup_requests")
# A camera's single clip, and a batch of clips.
BATCH_SIZES = (1, 8)
NUM_CLIPS = max(BATCH_SIZES)


def random_clips(card: model_card.ModelCard) -> dict[str, np.ndarray]:
    """Clips of noise, the same each time: what to warm up with where no footage may go into an export.

    Returns:
      For each of the card's streams, uint8 [NUM_CLIPS, *card.clip_shape(stream)].
    """
    generator = np.random.default_rng(0)
    return {
        stream: generator.integers(0, 256, (NUM_CLIPS, *card.clip_shape(stream)), np.uint8) for stream in card.networks
    }


def dataset_clips(configs: Mapping[str, run_config.RunConfig], data_dir: str) -> dict[str, np.ndarray]:
    """The first clips of a dataset's test split, or, where it has none, of its training split.

    Args:
      configs: The runs' configurations by run directory.
      data_dir: The dataset.

    Returns:
      As `random_clips`; fewer clips where the split has fewer.

    Raises:
      UserError: The dataset is missing, damaged or of other clips than the runs take.
    """
    info = info_lib.load(data_dir)
    split = "test" if info.num_clips("test") else "train"
    clips = {}
    for run_dir, config in configs.items():
        fit.check_fits(run_dir, config, data_dir, info, split)
        batches = evaluation.run_batches(config, data_dir, info, split, NUM_CLIPS)
        with dataset.explain_read_errors(data_dir, info):
            clips[config.stream] = next(iter(batches))[config.view].numpy()
    return clips


def write(directory: str, signature: str, clips: Mapping[str, np.ndarray]) -> None:
    """Writes a request for each of `BATCH_SIZES`, with the first clips; where they are too few, over and over.

    Args:
      directory: The SavedModel's.
      signature: The one that the requests call.
      clips: uint8 [N, ...] by the signature's argument, N at least 1.
    """
    path = os.path.join(directory, PATH)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tf.io.TFRecordWriter(path) as writer:
        for size in BATCH_SIZES:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = signature
            for name, values in clips.items():
                batch = np.take(values, range(size), axis=0, mode="wrap")
                request.inputs[name].CopyFrom(tf.make_tensor_proto(batch))
            log = prediction_log_pb2.PredictionLog(predict_log=prediction_log_pb2.PredictLog(request=request))
            writer.write(log.SerializeToString(deterministic=True))


def read(directory: str) -> Sequence[tuple[str, dict[str, np.ndarray]]]:
    """The requests of a SavedModel.

    Returns:
      Of each, the signature that it calls and the arrays by argument.

    Raises:
      UserError: There are none, or the file is damaged.
    """
    path = os.path.join(directory, PATH)
    try:
        found = [_parse(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    except (tf.errors.OpError, TypeError, ValueError) as error:
        raise errors.UserError(
            f"{path} holds no warm-up requests ({errors.brief(error)}): export the model again."
        ) from error
    if not found:
        raise errors.UserError(f"{path} is empty: export the model again.")
    return found


def _parse(record: bytes) -> tuple[str, dict[str, np.ndarray]]:
    log = prediction_log_pb2.PredictionLog()
    try:
        log.ParseFromString(record)
    except Exception as error:  # protobuf's own kind, and protobuf is no dependency of this project's own
        raise ValueError("a record is no PredictionLog") from error
    request = log.predict_log.request
    return request.model_spec.signature_name, {name: tf.make_ndarray(each) for name, each in request.inputs.items()}
