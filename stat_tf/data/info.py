"""`dataset.json`: what a dataset directory holds. Without it, a directory is not a dataset."""

import dataclasses
import hashlib
import json
import os

from stat_tf import errors, files

FILE_NAME = "dataset.json"
REJECTED_NAME = "rejected.jsonl"
SCHEMA_VERSION = 3
SPLITS = ("train", "test", "unlabeled")


@dataclasses.dataclass(frozen=True)
class Shard:
    """One TFRecord file: its name within the directory, its records, bytes and SHA-256."""

    name: str
    num_clips: int
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class FlowInfo:
    """How the stored optical flow was made; see `stat_tf.data.flow`.

    Attributes:
      method: The estimator, one of `flow.METHODS`.
      bound: The largest motion stored, in pixels of the HR frame.
    """

    method: str
    bound: float


@dataclasses.dataclass(frozen=True)
class SignalsInfo:
    """What a directory of teacher signals holds of each training clip; `pipeline.teacher_signals` writes them.

    Attributes:
      num_views: V, views of a clip.
      shapes: What is stored of one view beside its LR frames, float16: shapes by `signals.NAMES`.
      crop_size: (height, width) of the HR view that the teacher read, pixels.
      scales: As in `augment.Augmentation`.
      flip: As in `augment.Augmentation`.
      color_jitter: As in `augment.Augmentation`.
      seed: With a clip's id and a view's number, it decided the view.
      student: The settings of the student on whose grids the attention maps are, by the flags' names.
      teacher: The teacher's backbone, and epoch and checksum of its checkpoint.
      data_fingerprint: Digest of the shard checksums of the labelled clips, as `RunConfig.data_fingerprint`.
      unlabeled_fingerprint: The same of the unlabelled clips; "" where there are none.
    """

    num_views: int
    shapes: dict[str, tuple[int, ...]]
    crop_size: tuple[int, int]
    scales: tuple[float, ...]
    flip: bool
    color_jitter: float
    seed: int
    student: dict[str, str]
    teacher: dict[str, str | int]
    data_fingerprint: str
    unlabeled_fingerprint: str

    @classmethod
    def from_fields(cls, fields: dict) -> "SignalsInfo":
        """The inverse of `dataclasses.asdict`, also after JSON, which turns tuples into lists."""
        fields = fields | {name: tuple(fields[name]) for name in ("crop_size", "scales")}
        return cls(**fields | {"shapes": {name: tuple(shape) for name, shape in fields["shapes"].items()}})


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """The contents of `dataset.json`.

    Attributes:
      classes: Class names; a label index is a position here.
      num_segments: K, segments a clip.
      num_snippets: S, snippets a segment.
      num_frames: T, frames a snippet.
      frame_stride: Frames of the video from one of a snippet's frames to the next; 1: consecutive.
      hr_size: (height, width) of the stored HR frames, pixels.
      lr_sizes: (height, width) of the stored LR frames, pixels; the first is the default.
      lens_blur: The stored LR frames' blur; see `degrade.Degradation`.
      noise: The stored LR frames' noise; see `degrade.Degradation`.
      shards: Shards by split name.
      counts: Clips by split name, then by class name ("" for unlabelled).
      num_rejected: Clips left out; `rejected.jsonl` says which and why.
      source_fingerprint: Digest of the source videos' ids, labels, splits, contents, and lengths to cut them to.
      warnings: What the build found odd, one sentence each.
      flow: How the stored optical flow was made; None where there is none.
      signals: Of a directory of teacher signals, what it holds beside or in place of the above: records of split test
        have LR frames of one snippet a segment, those of the other splits a teacher's signals and LR frames of V
        views, and none has HR frames. None for a dataset proper.
    """

    classes: tuple[str, ...]
    num_segments: int
    num_snippets: int
    num_frames: int
    frame_stride: int
    hr_size: tuple[int, int]
    lr_sizes: tuple[tuple[int, int], ...]
    lens_blur: float
    noise: float
    shards: dict[str, tuple[Shard, ...]]
    counts: dict[str, dict[str, int]]
    num_rejected: int
    source_fingerprint: str
    warnings: tuple[str, ...] = ()
    flow: FlowInfo | None = None
    signals: SignalsInfo | None = None

    @property
    def streams(self) -> tuple[str, ...]:
        """What is stored of each frame: "rgb", and "flow" where it was asked for."""
        return ("rgb", "flow") if self.flow else ("rgb",)

    def num_clips(self, *splits: str) -> int:
        """Clips in one split, or in several together."""
        return sum(shard.num_clips for split in splits for shard in self.shards.get(split, ()))

    def fingerprint(self, *splits: str) -> str:
        """A digest of all shards' checksums of one split, or of several together."""
        checksums = "".join(shard.sha256 for split in splits for shard in self.shards[split])
        return hashlib.sha256(checksums.encode()).hexdigest()

    def to_json(self) -> str:
        """The text of `dataset.json`: stable, indented, with the schema version."""
        fields = {"schema_version": SCHEMA_VERSION, **dataclasses.asdict(self)}
        return json.dumps(fields, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str) -> "DatasetInfo":
        """Reads the text of `dataset.json`; `path` is for the messages.

        Raises:
          UserError: It is not JSON, of another schema version, or lacks a field.
        """
        try:
            fields = json.loads(text)
            version = fields.pop("schema_version")
            if version == 1:  # one LR size, no flow
                fields["lr_sizes"] = [fields.pop("lr_size")]
            elif version not in (2, SCHEMA_VERSION):  # 2 had no teacher signals
                raise errors.UserError(
                    f"{path} has schema version {version}, this program reads 1 to {SCHEMA_VERSION}: "
                    "build the dataset again with python -m pipeline.build_dataset."
                )
            for name in ("hr_size", "classes", "warnings"):
                fields[name] = tuple(fields[name])
            fields["lr_sizes"] = tuple(tuple(size) for size in fields["lr_sizes"])
            fields["flow"] = FlowInfo(**fields["flow"]) if fields.get("flow") else None
            fields["signals"] = SignalsInfo.from_fields(fields["signals"]) if fields.get("signals") else None
            fields["shards"] = {
                split: tuple(Shard(**shard) for shard in shards) for split, shards in fields["shards"].items()
            }
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise errors.UserError(
                f"{path} is not a dataset description ({error}): build the dataset again."
            ) from error


def load(data_dir: str, *, or_signals: bool = False) -> DatasetInfo:
    """Reads a dataset directory's description, wherever TensorFlow's file systems reach.

    Args:
      data_dir: The directory.
      or_signals: Whether a directory of teacher signals will do.

    Raises:
      UserError: The directory or its `dataset.json` is missing or unreadable, or it holds teacher signals.
    """
    info = _read(data_dir, "data_dir")
    if info.signals and not or_signals:
        raise errors.UserError(
            f"{data_dir} holds teacher signals, with LR frames only, and this needs a dataset with HR frames: give "
            "--data_dir one that python -m pipeline.build_dataset wrote; signals are for python -m stat_tf.train "
            "--signals."
        )
    return info


def load_signals(signals_dir: str) -> DatasetInfo:
    """Reads the description of a directory of teacher signals.

    Raises:
      UserError: As of `load`, or it is a dataset without signals.
    """
    info = _read(signals_dir, "signals")
    if not info.signals:
        raise errors.UserError(
            f"{signals_dir} is a dataset without teacher signals: give --signals a directory that "
            "python -m pipeline.teacher_signals wrote, or this one as --data_dir."
        )
    return info


def _read(directory: str, flag: str) -> DatasetInfo:
    path = os.path.join(directory, FILE_NAME)
    kind, job = _KINDS[flag]
    if not files.is_dir(directory):
        raise errors.UserError(f"There is no directory {directory}: give --{flag} {kind} that {job} wrote.")
    try:
        text = files.read_text(path)
    except FileNotFoundError:
        raise errors.UserError(
            f"{directory} is not {kind}: it has no {FILE_NAME}, which is written last. Run {job} to its end."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UserError(f"{path} cannot be read ({errors.brief(error)}): check --{flag}.") from error
    return DatasetInfo.from_json(text, path)


# By the flag that names the directory: what it is, and what writes it.
_KINDS = {
    "data_dir": ("a dataset", "python -m pipeline.build_dataset"),
    "signals": ("a directory of teacher signals", "python -m pipeline.teacher_signals"),
}
