"""The rows of a table, a seed each, to the trainings they need. What two rows share is one training."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable

from stat_tf.data import info as info_lib
from stat_tf.data import sizes
from stat_tf.reproduction import settings as settings_lib
from stat_tf.reproduction.tables import Row


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, told by what it computes: two that are equal are the same.

    Attributes:
      stage: Of `stat_tf.train`.
      settings: Its flags, (name, value), sorted by name.
      data: Digest of the clips that it, and the evaluation after it, read.
      clips_per_epoch: Clips it sees in an epoch.
      teacher: The run of its teacher, or None.
      start: The run whose weights it starts from, or None.
    """

    stage: str
    settings: tuple[tuple[str, str], ...]
    data: str
    clips_per_epoch: int
    teacher: "Run | None" = None
    start: "Run | None" = None

    @functools.cached_property
    def _values(self) -> dict[str, str]:
        return dict(self.settings)

    @property
    def epochs(self) -> int:
        """Epochs in all."""
        return int(self._values["epochs"])

    @property
    def eval_split(self) -> str:
        """The split that picks its best checkpoint; "" for the last one."""
        return self._values["eval_split"]

    @functools.cached_property
    def name(self) -> str:
        """The name of its directory, the same for the same training: what it is, its seed, a digest of all of it."""
        parts = ["student_longer" if self.stage == "student" and self.start else self.stage]
        if self.stage == "stat":
            shares = zip(("ce", "sat", "tat"), self._values["overall_weights"].split(","), strict=True)
            parts += [name for name, share in shares if share != "0"]
            parts += ["rolling"] if self._values["weights"] == "rolling" else []
        if self._values.get("stream", "rgb") != "rgb":
            parts.append(self._values["stream"])
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return "-".join([*parts, f"seed{self._values['seed']}", digest])

    def chain(self) -> tuple["Run", ...]:
        """The runs that its weights went through, itself last; teachers to which it only listened are not in it."""
        return (*(self.start.chain() if self.start else ()), self)


def in_order(runs: Iterable[Run]) -> list[Run]:
    """Runs and all that they need, each once and after what it needs."""
    found: dict[Run, None] = {}
    for run in runs:
        found.update(dict.fromkeys(in_order(needed for needed in (run.teacher, run.start) if needed)))
        found[run] = None
    return list(found)


@dataclasses.dataclass(frozen=True)
class Planner:
    """What is the same for all rows.

    Attributes:
      info: The dataset's description.
      unlabeled: The description of the dataset whose split "unlabeled" stage "unsupervised" reads.
      data_dir: The first one's directory, for the messages.
      unlabeled_dir: The second one's.
      config_dir: The directory of the flag files.
      train_flags: More flags for every training.
      scale: Factor on the length of every training.
    """

    info: info_lib.DatasetInfo
    unlabeled: info_lib.DatasetInfo
    data_dir: str
    unlabeled_dir: str
    config_dir: str
    train_flags: tuple[str, ...] = ()
    scale: float = 1.0

    def missing(self, row: Row) -> str:
        """What the dataset lacks for a row, and how to build it, as a sentence; "" where nothing is missing."""
        if row.unsupervised and not self.unlabeled.num_clips("unlabeled"):
            return (
                f"{self.unlabeled_dir} has no unlabelled clips: build it with --unlabeled_videos, or give "
                "--unlabeled_dir."
            )
        if row.lr_size and sizes.parse(row.lr_size, "lr_size") not in self.info.lr_sizes:
            return f"{self.data_dir} has no LR frames of {row.lr_size}: build it with --lr_size={row.lr_size} too."
        if "flow" in row.streams and not self.info.flow:
            return f"{self.data_dir} has no optical flow: build it with --streams=rgb,flow."
        return ""

    def runs(self, row: Row, seed: int) -> tuple[Run, ...]:
        """The trainings that end in a row, one a stream, with all that they need before them.

        Raises:
          UserError: A flag file is missing or holds nonsense.
        """
        return tuple(self._run(row, stream, seed) for stream in row.streams)

    def _run(self, row: Row, stream: str, seed: int) -> Run:
        if row.stage == "teacher":
            return self._make("teacher", self._settings("teacher", row, stream, seed))
        if row.stage == "student":
            return self._make("student", self._settings("student", row, stream, seed))
        first = Row(row.start, "", row.start, lr_size=row.lr_size)
        start = self._run(first, stream, seed)
        settings = self._settings(row.stage, row, stream, seed)
        if row.stage == "student_longer":
            return self._make("student", settings, start=start)
        teacher = self._run(Row("teacher", "", "teacher"), stream, seed)
        if row.unsupervised:
            start, epochs = self._unsupervised(row, stream, seed, start, teacher, int(settings["epochs"]))
            settings["epochs"] = str(epochs)
        return self._make("stat", settings, teacher=teacher, start=start)

    def _unsupervised(self, row: Row, stream: str, seed: int, start: Run, teacher: Run, epochs: int) -> tuple[Run, int]:
        """The unsupervised stage before `epochs` of stage stat, and how many of these it leaves.

        Together they take as many steps as the other rows' stage, as nearly as whole epochs allow, at least one
        each. Unless `unsupervised.flags` says how many epochs, the stage has half of the steps.
        """
        settings = self._settings("unsupervised", row, stream, seed)
        labelled = self._steps(self.info.num_clips("train"), settings)
        unlabelled = self._steps(self.unlabeled.num_clips("unlabeled"), settings)
        if not settings_lib.has_file(self.config_dir, "unsupervised", stream):
            settings["epochs"] = str(max(1, round(epochs * labelled / 2 / unlabelled)))
        taken = int(settings["epochs"]) * unlabelled / labelled
        run = self._make("unsupervised", settings, teacher=teacher, start=start)
        return run, max(1, round(epochs - taken))

    def _settings(self, stage: str, row: Row, stream: str, seed: int) -> dict[str, str]:
        settings = settings_lib.read(self.config_dir, stage, stream, self.train_flags)
        if stage == row.stage:
            settings |= row.flags
        if stage != "teacher":
            default = settings.get("lr_size") or sizes.text(self.info.lr_sizes[0])
            settings["lr_size"] = row.lr_size or default
        return settings_lib.scaled(settings, self.scale) | {"seed": str(seed)}

    def _make(self, stage: str, settings: dict[str, str], teacher: Run | None = None, start: Run | None = None) -> Run:
        source, splits = self.info, ["train"]
        if stage == "unsupervised":
            source, splits = self.unlabeled, ["unlabeled"]
        if settings.get("train_splits"):
            splits = sorted(settings["train_splits"].split(","))
        return Run(
            stage=stage,
            settings=tuple(sorted(settings.items())),
            data=_digest(*(source.shards.get(split, ()) for split in splits), self.info.shards["test"]),
            clips_per_epoch=source.num_clips(*splits),
            teacher=teacher,
            start=start,
        )

    def _steps(self, clips: int, settings: dict[str, str]) -> int:
        return math.ceil(clips / settings_lib.number(settings, "batch_size"))


def _digest(*splits: Iterable[info_lib.Shard]) -> str:
    checksums = "".join(shard.sha256 for shards in splits for shard in shards)
    return hashlib.sha256(checksums.encode()).hexdigest()[:16]
