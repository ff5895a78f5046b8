"""`dataset.json`: what a dataset directory holds. Without it, a directory is not a dataset."""

import dataclasses
import json
import os

from stat_tf import errors, files

FILE_NAME = "dataset.json"
REJECTED_NAME = "rejected.jsonl"
SCHEMA_VERSION = 2
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

    @property
    def streams(self) -> tuple[str, ...]:
        """What is stored of each frame: "rgb", and "flow" where it was asked for."""
        return ("rgb", "flow") if self.flow else ("rgb",)

    def num_clips(self, *splits: str) -> int:
        """Clips in one split, or in several together."""
        return sum(shard.num_clips for split in splits for shard in self.shards.get(split, ()))

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
            elif version != SCHEMA_VERSION:
                raise errors.UserError(
                    f"{path} has schema version {version}, this program reads {SCHEMA_VERSION} and 1: "
                    "build the dataset again with python -m pipeline.build_dataset."
                )
            for name in ("hr_size", "classes", "warnings"):
                fields[name] = tuple(fields[name])
            fields["lr_sizes"] = tuple(tuple(size) for size in fields["lr_sizes"])
            fields["flow"] = FlowInfo(**fields["flow"]) if fields.get("flow") else None
            fields["shards"] = {
                split: tuple(Shard(**shard) for shard in shards) for split, shards in fields["shards"].items()
            }
            return cls(**fields)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise errors.UserError(
                f"{path} is not a dataset description ({error}): build the dataset again."
            ) from error


def load(data_dir: str) -> DatasetInfo:
    """Reads a dataset directory's description, wherever TensorFlow's file systems reach.

    Raises:
      UserError: The directory or its `dataset.json` is missing or unreadable.
    """
    path = os.path.join(data_dir, FILE_NAME)
    if not files.is_dir(data_dir):
        raise errors.UserError(f"There is no directory {data_dir}: give --data_dir a dataset that the build wrote.")
    try:
        text = files.read_text(path)
    except FileNotFoundError:
        raise errors.UserError(
            f"{data_dir} is not a dataset: it has no {FILE_NAME}, which the build writes last. "
            "Run python -m pipeline.build_dataset to its end."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UserError(f"{path} cannot be read ({errors.brief(error)}): check --data_dir.") from error
    return DatasetInfo.from_json(text, path)
