"""The export: a SavedModel that takes the sensor's uint8 frames, their optical flow or both, and answers with names.

`EXPORT/VERSION/` holds the graphs of the streams' networks alone (no teacher, no optimizer, no Keras
metadata), two assets: `labels.txt` (a class a line) and `model.json` (see `model_card`), and warm-up
requests (see `warmup`). TF Serving takes the export's directory as `--model_base_path`.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from stat_tf import errors, files, versions
from stat_tf.inference import fit, metrics, model_card, warmup
from stat_tf.models import two_stream
from stat_tf.training import checkpoints, run_config

SIGNATURE = "serving_default"
LABELS_NAME = "labels.txt"
# The signature's arguments by stream.
INPUTS = {"rgb": "frames", "flow": "flow"}
OUTPUTS = ("probabilities", "top_classes", "top_probabilities", "segment_weights")


class ServingModule(tf.Module):
    """One or two streams' graphs behind a signature, with only the variables the graphs read.

    The Keras models are held by a closure, not as attributes: tracked, their layers' own traced functions and metadata
    would be saved too.

    Attributes:
      serve: Function of `frames` uint8 [B, K, T, h, w, 3], of `flow` uint8 [B, K, T, h, w, 2] (quantised as
        of `flow.quantize`) or of both, to a dict of `probabilities` float32 [B, classes], `top_classes`
        string and `top_probabilities` float32 [B, min(5, classes)], best first, and `segment_weights`
        float32 [B, K], the temporal attention. Of two streams, the weighted means.
    """

    def __init__(
        self,
        recognizers: Mapping[str, tf.keras.Model],
        card: model_card.ModelCard,
        labels_path: str,
        card_path: str,
    ):
        """Traces the signature.

        Args:
          recognizers: `Recognizer`s whose variables exist, by stream, in the card's order.
          card: What they are.
          labels_path: The file that becomes `assets/labels.txt`.
          card_path: The file that becomes `assets/model.json`.
        """
        super().__init__(name="recognizer")
        classes = tf.constant(card.classes)
        specs = {
            INPUTS[stream]: tf.TensorSpec([None, *card.clip_shape(stream)], tf.uint8, name=INPUTS[stream])
            for stream in recognizers
        }

        @tf.function
        def serve(**clips):
            answers = []
            for stream, recognizer in recognizers.items():
                # A loaded signature does not check shapes: other frames would be cut up and answered nonetheless.
                clip = tf.ensure_shape(clips[INPUTS[stream]], specs[INPUTS[stream]].shape)
                outputs = recognizer.activations(clip, training=False)
                answers.append((tf.nn.softmax(outputs.logits), outputs.temporal_attention))
            probabilities, attention = answers[0]
            if len(answers) > 1:
                # One clip of flow would do for a whole batch of frames.
                batches = [tf.shape(clip)[0] for clip in clips.values()]
                tf.debugging.assert_equal(*batches, "Give as many clips of flow as of frames.")
                probabilities, attention = (
                    two_stream.fuse(*pair, card.flow_weight) for pair in zip(*answers, strict=True)
                )
            top = tf.math.top_k(probabilities, k=min(metrics.TOP_K, len(card.classes)))
            values = (probabilities, tf.gather(classes, top.indices), top.values, attention)
            return dict(zip(OUTPUTS, values, strict=True))

        self.serve = serve.get_concrete_function(**specs)
        read = {variable.ref() for variable in self.serve.variables}
        self.weights = [
            variable
            for recognizer in recognizers.values()
            for variable in recognizer.variables
            if variable.ref() in read
        ]
        self.labels = tf.saved_model.Asset(labels_path)
        self.card = tf.saved_model.Asset(card_path)


def export_run(
    run_dir: str,
    export_dir: str,
    *,
    flow_run_dir: str = "",
    flow_weight: float = 0.5,
    checkpoint: str = "best",
    warmup_data_dir: str = "",
) -> str:
    """Exports a run's recognizer, or two streams', as the next version.

    Args:
      run_dir: The run directory; the RGB stream's where there are two.
      export_dir: The directory of versions.
      flow_run_dir: The flow stream's run directory; "" for one stream.
      flow_weight: The flow stream's share of the scores, 0 to 1.
      checkpoint: "best" or "last".
      warmup_data_dir: The dataset whose first test clips become the warm-up requests; "" for noise.

    Returns:
      The version's directory.

    Raises:
      UserError: A run or its checkpoint is missing or damaged, the two do not go together, the dataset does not fit
        them, or `export_dir` cannot be written.
    """
    run_dirs = (run_dir, flow_run_dir) if flow_run_dir else (run_dir,)
    configs = {directory: run_config.RunConfig.load(directory) for directory in run_dirs}
    if flow_run_dir:
        fit.check_streams(run_dir, configs[run_dir], flow_run_dir, configs[flow_run_dir], flow_weight)
    recognizers = {
        config.stream: checkpoints.load_recognizer(directory, checkpoint)[0] for directory, config in configs.items()
    }
    clips = warmup.dataset_clips(configs, warmup_data_dir) if warmup_data_dir else None
    return write(recognizers, model_card.of_runs(configs, checkpoint, flow_weight), export_dir, clips)


def write(
    recognizers: Mapping[str, tf.keras.Model],
    card: model_card.ModelCard,
    export_dir: str,
    warmup_clips: Mapping[str, np.ndarray] | None = None,
) -> str:
    """Writes the next version of an export, whole or not at all.

    An object store shows a version while it is being copied there; its graph, without which it is no SavedModel, comes
    last.

    Args:
      recognizers: `Recognizer`s whose variables exist, by stream, in the card's order.
      card: What they are.
      export_dir: The directory of versions; made if missing.
      warmup_clips: For each stream, uint8 [N, *card.clip_shape(stream)], to warm up with; None for noise.

    Returns:
      The version's directory, `export_dir/N`.

    Raises:
      UserError: `export_dir` cannot be written, or is a version.
    """
    versions.check_base(export_dir, "output")
    try:
        files.make_dirs(export_dir)
        # Not an integer, so TF Serving passes over it while it is being written. Beside a remote store, it is here.
        aside = tempfile.mkdtemp(prefix=".export-", dir=None if files.is_remote(export_dir) else export_dir)
    except OSError as error:
        raise errors.UserError(f"Cannot write an export to {export_dir}: {error.strerror}.") from error
    try:
        labels_path, card_path = os.path.join(aside, LABELS_NAME), os.path.join(aside, model_card.FILE_NAME)
        files.write_text(labels_path, "".join(f"{name}\n" for name in card.classes))
        files.write_text(card_path, card.to_json())
        module = ServingModule(recognizers, card, labels_path, card_path)
        saved = os.path.join(aside, "model")
        tf.saved_model.save(module, saved, signatures={SIGNATURE: module.serve})
        clips = warmup_clips or warmup.random_clips(card)
        warmup.write(saved, SIGNATURE, {INPUTS[stream]: each for stream, each in clips.items()})
        version = os.path.join(export_dir, str(versions.following(export_dir)))
        if files.is_remote(version):
            # Who looks too early finds no model, and not a part of one.
            files.upload_tree(saved, version, last=versions.GRAPH_NAME)
        else:
            os.rename(saved, version)
    except OSError as error:
        raise errors.UserError(f"Cannot write an export to {export_dir}: {error.strerror}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return version


class ServedModel:
    """An export, loaded: what prediction calls.

    Attributes:
      card: Its `model.json`.
    """

    def __init__(self, path: str):
        """Loads `EXPORT/VERSION`; for `EXPORT` itself its newest version, as TF Serving does.

        Raises:
          UserError: There is no such export, or it was not written by `stat_tf.export`.
        """
        path = version_dir(path)
        try:
            self._loaded = tf.saved_model.load(path)
        except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
            raise errors.UserError(
                f"{path} is a damaged SavedModel ({errors.brief(error)}): export it again."
            ) from error
        self._signature = self._loaded.signatures.get(SIGNATURE)
        arguments = self._signature.structured_input_signature[1] if self._signature else {}
        missing = set(OUTPUTS) - set(self._signature.structured_outputs if self._signature else ())
        if missing or not set(arguments) <= set(INPUTS.values()):
            raise errors.UserError(
                f"{path} has no signature {SIGNATURE} from {' or '.join(INPUTS.values())} to {', '.join(OUTPUTS)}: "
                "give a model that python -m stat_tf.export wrote."
            )
        self.card = model_card.read(os.path.join(path, "assets", model_card.FILE_NAME))

    def predict(self, clips: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The signature's answer.

        Args:
          clips: For each of the card's streams, uint8 [B, *card.clip_shape(stream)].

        Returns:
          As `ServingModule.serve`.
        """
        return self._signature(**{INPUTS[stream]: clip for stream, clip in clips.items()})


def version_dir(path: str) -> str:
    """The directory of a SavedModel: the path itself, or the newest version in it.

    Raises:
      UserError: It is neither.
    """
    if not files.is_dir(path):
        raise errors.UserError(
            f"There is no export {path}: give --model a directory that python -m stat_tf.export wrote."
        )
    if files.exists(os.path.join(path, versions.GRAPH_NAME)):
        return path
    newest = versions.newest(path)
    if not newest:
        raise errors.UserError(
            f"{path} is not a SavedModel: it has no {versions.GRAPH_NAME} and no numbered version with one."
        )
    return os.path.join(path, str(newest))
