"""`config.json`: everything that decides what a training run computes, kept in its run directory."""

import dataclasses
import json
import os
from typing import Any

from stat_tf import errors, files
from stat_tf.models.recognizer import RecognizerConfig
from stat_tf.training.circumstances import CIRCUMSTANCES

FILE_NAME = "config.json"
STAGES = ("teacher", "student", "unsupervised", "stat")
# Those that learn from a teacher.
TRANSFER_STAGES = ("unsupervised", "stat")

# The flag of the run that each comes from.
_SOURCES = {"teacher_source": "teacher_run", "init_source": "init_run"}


@dataclasses.dataclass(frozen=True)
class Source:
    """A checkpoint of another run, so that a resumed run can tell whether it is still the same.

    Attributes:
      epoch: After how many epochs it was written.
      sha256: Of its index file, which holds every tensor's checksum.
    """

    epoch: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """One training run, with every default resolved; plain JSON values throughout.

    Attributes:
      stage: "teacher" (HR frames, cross-entropy), "student" (LR frames, cross-entropy), "unsupervised"
        (LR frames, attention transfer alone, no label) or "stat" (cross-entropy and attention transfer).
      recognizer: The network that is trained.
      classes: Class names; a label is a position here.
      data_dir: The dataset directory; the directory of teacher signals, of a run that learns from these.
      data_fingerprint: Digest of the shard checksums of the labelled clips that the weights have seen: of split
        train, or, where the dataset has none, the teacher's.
      crop_size: (height, width) of the HR view, pixels.
      hr_size: (height, width) of the dataset's HR frames, from which its LR frames were made, pixels.
      lr_size: (height, width) of the LR frames, pixels.
      frame_stride: Frames of the video from one of a segment's frames to the next; the dataset's.
      lens_blur: As in `degrade.Degradation`; the dataset's.
      noise: As in `degrade.Degradation`; the dataset's.
      teacher_run: Run directory of the teacher; "" but in the stages that have one.
      init_run: Run directory whose best weights training starts from; "" for none.
      init_from: The initial weights where there is no `init_run`: "none", "imagenet" or a file that
        `stat_tf.convert_weights` wrote.
      epochs: Epochs in all, warm-up included.
      batch_size: Clips a step, over all devices together.
      optimizer: "sgd" or "adamw".
      learning_rate: The rate after warm-up; it belongs to `batch_size` clips, however many devices.
      momentum: Of SGD; AdamW has its own.
      weight_decay: Decoupled, times the rate; biases and normalisation are not decayed.
      clip_norm: Largest global norm of the gradient; 0 leaves clipping out.
      schedule: "step" or "cosine".
      warmup_epochs: Epochs over which the rate rises linearly.
      decay_epochs: Epochs between two steps of the "step" schedule.
      decay_factor: What each such step multiplies the rate by.
      weights: "fixed" or "rolling" (Table 1).
      overall_weights: Of cross-entropy, SAT and TAT (eq. 4).
      sat_weights: Of the four stages' distances.
      tat_weights: Of the TAM's hidden and output distances.
      rolling_period: Epochs a turn of the rolling weights.
      distance: "l2" (eq. 2 and 3 as printed) or "squared".
      scales: Sides of the augmentation's crops, as fractions of the frame.
      flip: Whether clips are mirrored at random.
      color_jitter: Strength of the random brightness, contrast and saturation.
      seed: Of the initial weights, the order of the clips, augmentation and dropout.
      deterministic: Whether TensorFlow is held to reproducible kernels.
      precision: Of activations: "float32", "bfloat16", or "float16" with loss scaling; variables and
        losses are float32.
      strategy: "auto", "one_device", "mirrored" or "multi_worker".
      eval_split: The split evaluated after each epoch, which also picks the best checkpoint; ""
        for none.
      log_steps: Steps between two points of the TensorBoard curves.
      teacher_source: Which of the teacher's checkpoints this run learns from; None in a stage without.
      init_source: Which of `init_run`'s checkpoints it began with; None for none.
      init_digest: SHA-256 of the file `init_from`; "" where that is none.
      stream: "rgb" or "flow": what the network reads of each frame.
      flow_method: The dataset's, of a flow run; else "".
      flow_bound: The dataset's, of a flow run; else 0.
      accumulation_steps: Parts in which each batch goes through the networks.
      checkpoint_steps: Steps between two checkpoints amid an epoch; 0 for none.
      max_to_keep: How many checkpoints of epochs, and how many amid the epoch, are kept.
      recompute_grad: Whether residual blocks are computed again for the gradient, to save memory.
      train_splits: The splits trained on: "train", "unlabeled", or both.
      unlabeled_fingerprint: Digest of the unlabelled shards' checksums, if they are trained on; else "".
      soft_label_weight: Of the soft-label loss beside equation 4.
      temperature: Of the soft labels.
      signals_fingerprint: Digest of the checksums of the shards of teacher signals that the run reads in place of HR
        frames and a teacher; "" where it reads none.
    """

    stage: str
    recognizer: RecognizerConfig
    classes: tuple[str, ...]
    data_dir: str
    data_fingerprint: str
    crop_size: tuple[int, int]
    hr_size: tuple[int, int]
    lr_size: tuple[int, int]
    frame_stride: int
    lens_blur: float
    noise: float
    teacher_run: str
    init_run: str
    init_from: str
    epochs: int
    batch_size: int
    optimizer: str
    learning_rate: float
    momentum: float
    weight_decay: float
    clip_norm: float
    schedule: str
    warmup_epochs: float
    decay_epochs: float
    decay_factor: float
    weights: str
    overall_weights: tuple[float, ...]
    sat_weights: tuple[float, ...]
    tat_weights: tuple[float, ...]
    rolling_period: int
    distance: str
    scales: tuple[float, ...]
    flip: bool
    color_jitter: float
    seed: int
    deterministic: bool
    precision: str
    strategy: str
    eval_split: str
    log_steps: int
    teacher_source: "Source | None" = None
    init_source: "Source | None" = None
    init_digest: str = ""
    stream: str = "rgb"
    flow_method: str = ""
    flow_bound: float = 0.0
    accumulation_steps: int = 1
    recompute_grad: bool = False
    train_splits: tuple[str, ...] = ("train",)
    unlabeled_fingerprint: str = ""
    soft_label_weight: float = 0.0
    temperature: float = 3.0
    checkpoint_steps: int = 100
    max_to_keep: int = 2
    signals_fingerprint: str = ""

    @property
    def from_signals(self) -> bool:
        """Whether `data_dir` holds teacher signals: no HR frame is read, and no teacher is run."""
        return bool(self.signals_fingerprint)

    @property
    def labeled(self) -> bool:
        """Whether training reads labels."""
        return self.stage != "unsupervised"

    @property
    def view(self) -> str:
        """The frames the network reads: "hr" for a teacher, else "lr"."""
        return "hr" if self.stage == "teacher" else "lr"

    def save(self, run_dir: str) -> None:
        """Writes `config.json`, whole or not at all, making the run directory first.

        Raises:
          UserError: The directory cannot be made or written to.
        """
        try:
            files.make_dirs(run_dir)
            files.write_text(os.path.join(run_dir, FILE_NAME), json.dumps(dataclasses.asdict(self), indent=2) + "\n")
        except OSError as error:
            raise errors.UserError(
                f"--run_dir={run_dir} cannot be written to ({error.strerror}): name a directory that can."
            ) from error

    @classmethod
    def load(cls, run_dir: str) -> "RunConfig":
        """Reads a run directory's `config.json`.

        Raises:
          UserError: The directory or the file is missing, or is not a configuration of this version.
        """
        path = os.path.join(run_dir, FILE_NAME)
        try:
            text = files.read_bytes(path)
        except (FileNotFoundError, NotADirectoryError):
            raise errors.UserError(
                f"{run_dir} is not a run directory: it has no {FILE_NAME}; "
                "give the --run_dir of a python -m stat_tf.train command."
            ) from None
        except OSError as error:
            raise errors.UserError(f"{path} cannot be read ({error.strerror}): mend it, or train again.") from error
        try:
            fields = _tuples(json.loads(text))
            sources = {name: Source(**fields[name]) for name in _SOURCES if fields.get(name)}
            return cls(**fields | sources | {"recognizer": RecognizerConfig.from_dict(fields["recognizer"])})
        except (ValueError, KeyError, TypeError, AttributeError, errors.UserError) as error:
            raise errors.UserError(
                f"{path} is not a run's configuration ({str(error).rstrip('.')}): "
                "it is damaged or of another version, train again."
            ) from error

    def identity(self) -> str:
        """What all of a run's workers must have in common, as text: everything but circumstances."""
        return json.dumps({name: value for name, value in _flat(self).items() if name not in CIRCUMSTANCES})

    def check_same_run(self, other: "RunConfig", run_dir: str) -> None:
        """Checks that resuming `run_dir` under this configuration continues what was begun there.

        Raises:
          UserError: `other`, the configuration found there, differs; names all differences.
        """
        mine, found = _flat(self), _flat(other)
        names = [name for name in mine if name not in (*CIRCUMSTANCES, *_SOURCES) and mine[name] != found[name]]
        said = []
        if names:
            then, now = (", ".join(f"{name}={_shown(run[name])}" for name in names) for run in (found, mine))
            said.append(f"holds a run with {then}, but this command has {now}")
        for name, flag in _SOURCES.items():
            now, then = getattr(self, name), getattr(other, name)
            if now != then:
                said.append(
                    f"was begun with other weights of --{flag}={mine[flag]} ({_shown_source(then)}) than it holds now "
                    f"({_shown_source(now)})"
                )
        if said:
            raise errors.UserError(
                f"{run_dir} {', and '.join(said)}: use the same settings and weights to resume it, or another "
                "--run_dir."
            )


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists only; frozen configurations hold tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _flat(config: RunConfig) -> dict[str, Any]:
    fields = dataclasses.asdict(config)
    return {**fields.pop("recognizer"), **fields}


def _shown(value: Any) -> str:
    return ",".join(str(item) for item in value) if isinstance(value, tuple) else str(value)


def _shown_source(source: Source | None) -> str:
    return f"epoch {source.epoch}, SHA-256 {source.sha256[:8]}" if source else "not recorded"
