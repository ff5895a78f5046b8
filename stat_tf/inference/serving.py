"""The export: a SavedModel that takes the sensor's uint8 frames and answers with names.

`EXPORT/VERSION/` holds the graph of the student alone (no teacher, no optimizer, no Keras metadata)
and two assets: `labels.txt` (a class a line) and `model.json` (what made the model, and the camera it
was trained for). TF Serving takes the export's directory as `--model_base_path`.
"""

import dataclasses
import json
import os
import shutil
import tempfile

import tensorflow as tf

from stat_tf import errors, files
from stat_tf.inference import metrics
from stat_tf.training import checkpoints

SIGNATURE = "serving_default"
LABELS_NAME = "labels.txt"
CARD_NAME = "model.json"
OUTPUTS = ("probabilities", "top_classes", "top_probabilities", "segment_weights")


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """The contents of `assets/model.json`.

    Attributes:
      stage: The training stage: teacher, student or stat.
      view: The frames it takes: "hr" (teacher) or "lr".
      backbone: The recognizer's backbone.
      classes: Class names by index.
      num_segments: K, segments a clip.
      num_frames: T, frames a segment.
      frame_stride: Frames of the video from one of a segment's frames to the next; 1: consecutive.
      frame_size: (height, width) of the frames it takes, pixels.
      hr_size: (height, width) of the HR frames that the LR frames were made from, pixels.
      lens_blur: The imitated camera's blur; see `degrade.Degradation`.
      noise: The imitated camera's noise; see `degrade.Degradation`.
      run_dir: The training run.
      checkpoint: "best" or "last".
      epoch: The epoch, counted from 1, after which the checkpoint was written.
    """

    stage: str
    view: str
    backbone: str
    classes: tuple[str, ...]
    num_segments: int
    num_frames: int
    frame_stride: int
    frame_size: tuple[int, int]
    hr_size: tuple[int, int]
    lens_blur: float
    noise: float
    run_dir: str
    checkpoint: str
    epoch: int


class ServingModule(tf.Module):
    """A recognizer's graph behind a signature, with only the variables the graph reads.

    The Keras model is held by a closure, not as an attribute: tracked, its layers' own traced functions and metadata
    would be saved too.

    Attributes:
      serve: `tf.function` of `frames` uint8 [B, K, T, h, w, 3] to a dict of `probabilities`
        float32 [B, classes], `top_classes` string and `top_probabilities` float32 [B, min(5, classes)],
        best first, and `segment_weights` float32 [B, K], the temporal attention.
    """

    def __init__(self, recognizer: tf.keras.Model, card: ModelCard, labels_path: str, card_path: str):
        """Traces the signature.

        Args:
          recognizer: A `Recognizer` whose variables exist.
          card: What it is.
          labels_path: The file that becomes `assets/labels.txt`.
          card_path: The file that becomes `assets/model.json`.
        """
        super().__init__(name="recognizer")
        classes = tf.constant(card.classes)
        spec = tf.TensorSpec([None, card.num_segments, card.num_frames, *card.frame_size, 3], tf.uint8, name="frames")

        @tf.function(input_signature=[spec])
        def serve(frames):
            # A loaded signature does not check shapes: other frames would be cut up and answered nonetheless.
            frames = tf.ensure_shape(frames, spec.shape)
            outputs = recognizer.activations(frames, training=False)
            probabilities = tf.nn.softmax(outputs.logits)
            top = tf.math.top_k(probabilities, k=min(metrics.TOP_K, len(card.classes)))
            values = (probabilities, tf.gather(classes, top.indices), top.values, outputs.temporal_attention)
            return dict(zip(OUTPUTS, values, strict=True))

        self.serve = serve
        read = {variable.ref() for variable in serve.get_concrete_function().variables}
        self.weights = [variable for variable in recognizer.variables if variable.ref() in read]
        self.labels = tf.saved_model.Asset(labels_path)
        self.card = tf.saved_model.Asset(card_path)


def export_run(run_dir: str, export_dir: str, *, checkpoint: str = "best") -> str:
    """Exports a run's recognizer as the next version.

    Args:
      run_dir: The run directory.
      export_dir: The directory of versions.
      checkpoint: "best" or "last".

    Returns:
      The version's directory.

    Raises:
      UserError: The run or its checkpoint is missing or damaged, or `export_dir` cannot be written.
    """
    recognizer, config = checkpoints.load_recognizer(run_dir, checkpoint)
    card = ModelCard(
        stage=config.stage,
        view=config.view,
        backbone=config.recognizer.backbone,
        classes=config.classes,
        num_segments=config.recognizer.num_segments,
        num_frames=config.recognizer.num_frames,
        frame_stride=config.frame_stride,
        frame_size=config.recognizer.frame_size,
        hr_size=config.hr_size,
        lens_blur=config.lens_blur,
        noise=config.noise,
        run_dir=run_dir,
        checkpoint=checkpoint,
        epoch=checkpoints.newest_epoch(run_dir, checkpoint),
    )
    return write(recognizer, card, export_dir)


def _next_version(export_dir: str) -> int:
    return max((int(name) for name in os.listdir(export_dir) if name.isdigit()), default=0) + 1


def write(recognizer: tf.keras.Model, card: ModelCard, export_dir: str) -> str:
    """Writes the next version of an export, whole or not at all.

    Args:
      recognizer: A `Recognizer` whose variables exist.
      card: What it is.
      export_dir: The directory of versions; made if missing.

    Returns:
      The version's directory, `export_dir/N`.

    Raises:
      UserError: `export_dir` cannot be written.
    """
    try:
        os.makedirs(export_dir, exist_ok=True)
        # Not an integer, so TF Serving passes over it while it is being written.
        aside = tempfile.mkdtemp(prefix=".export-", dir=export_dir)
    except OSError as error:
        raise errors.UserError(f"Cannot write an export to {export_dir}: {error.strerror}.") from error
    try:
        labels_path, card_path = os.path.join(aside, LABELS_NAME), os.path.join(aside, CARD_NAME)
        files.write_text(labels_path, "".join(f"{name}\n" for name in card.classes))
        files.write_text(card_path, json.dumps(dataclasses.asdict(card), indent=2) + "\n")
        module = ServingModule(recognizer, card, labels_path, card_path)
        saved = os.path.join(aside, "model")
        tf.saved_model.save(module, saved, signatures={SIGNATURE: module.serve})
        version_dir = os.path.join(export_dir, str(_next_version(export_dir)))
        os.rename(saved, version_dir)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return version_dir


class ServedModel:
    """An export, loaded: what prediction calls.

    Attributes:
      card: Its `model.json`.
      clip_shape: (K, T, h, w, 3), from the signature.
    """

    def __init__(self, path: str):
        """Loads `EXPORT/VERSION`; for `EXPORT` itself its newest version, as TF Serving does.

        Raises:
          UserError: There is no such export, or it was not written by `stat_tf.export`.
        """
        path = _version_dir(path)
        try:
            self._loaded = tf.saved_model.load(path)
        except (OSError, ValueError, IndexError, tf.errors.OpError) as error:
            raise errors.UserError(
                f"{path} is a damaged SavedModel ({errors.brief(error)}): export it again."
            ) from error
        self._signature = self._loaded.signatures.get(SIGNATURE)
        arguments = self._signature.structured_input_signature[1] if self._signature else {}
        missing = set(OUTPUTS) - set(self._signature.structured_outputs if self._signature else ())
        if missing or set(arguments) != {"frames"} or arguments["frames"].shape.rank != 6:
            raise errors.UserError(
                f"{path} has no signature {SIGNATURE} from frames [B,K,T,h,w,3] to {', '.join(OUTPUTS)}: "
                "give a model that python -m stat_tf.export wrote."
            )
        self.clip_shape = tuple(arguments["frames"].shape[1:])
        self.card = _read_card(os.path.join(path, "assets", CARD_NAME))

    def predict(self, clips: tf.Tensor) -> dict[str, tf.Tensor]:
        """The signature's answer.

        Args:
          clips: uint8 [B, K, T, h, w, 3].

        Returns:
          As `ServingModule.serve`.
        """
        return self._signature(frames=clips)


def _version_dir(path: str) -> str:
    if not os.path.isdir(path):
        raise errors.UserError(
            f"There is no export {path}: give --model a directory that python -m stat_tf.export wrote."
        )
    if os.path.exists(os.path.join(path, "saved_model.pb")):
        return path
    versions = [int(name) for name in os.listdir(path) if name.isdigit()]
    if not versions:
        raise errors.UserError(f"{path} is not a SavedModel: it has no saved_model.pb and no numbered version.")
    return _version_dir(os.path.join(path, str(max(versions))))


def _read_card(path: str) -> ModelCard:
    try:
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
        for name in ("classes", "frame_size", "hr_size"):
            fields[name] = tuple(fields[name])
        return ModelCard(**fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise errors.UserError(
            f"{path} does not describe the export ({errors.brief(error)}): export it again."
        ) from error
