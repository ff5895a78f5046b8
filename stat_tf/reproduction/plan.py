"""The rows of a table, a seed each, to the trainings they need. What two rows share is one training."""

import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Iterable

from stat_tf import errors, files
from stat_tf.data import info as info_lib
from stat_tf.data import sizes
from stat_tf.reproduction import settings as settings_lib
from stat_tf.reproduction.tables import Row
from stat_tf.training.circumstances import CIRCUMSTANCES

# Values of --init_from that are no files.
_NO_FILES = ("auto", "none", "imagenet")


@dataclasses.dataclass(frozen=True)
class Run:
    """One training, told by what it computes: two that are equal are the same.

    Attributes:
      stage: Of `stat_tf.train`.
      settings: Its flags that decide what it computes, (name, value), sorted by name.
      data: Digest of the clips that it, and the evaluation after it, read, and of the file that it starts from.
      clips_per_epoch: Clips it sees in an epoch.
      teacher: The run of its teacher, or None.
      start: The run whose weights it starts from, or None.
      circumstances: Its other flags, likewise: where it happens and what it reports.
    """

    stage: str
    settings: tuple[tuple[str, str], ...]
    data: str
    clips_per_epoch: int
    teacher: "Run | None" = None
    start: "Run | None" = None
    circumstances: tuple[tuple[str, str], ...] = dataclasses.field(default=(), compare=False)

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
        text = json.dumps(self._identity(), sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return "-".join([*parts, f"seed{self._values['seed']}", digest])

    def _identity(self) -> dict[str, object]:
        """What makes it this training and no other, as JSON has it."""
        return {
            "stage": self.stage,
            "settings": self.settings,
            "data": self.data,
            "clips_per_epoch": self.clips_per_epoch,
            "teacher": self.teacher and self.teacher._identity(),
            "start": self.start and self.start._identity(),
        }

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
        """What the dataset lacks for a row, and how to build it, as a sentence; "" where nothing is missing.

        Raises:
          UserError: A flag file is missing or holds nonsense.
        """
        if row.unsupervised and not self.unlabeled.num_clips("unlabeled"):
            return (
                f"{self.unlabeled_dir} has no unlabelled clips: build it with --unlabeled_videos, or give "
                "--unlabeled_dir."
            )
        lr_size = row.lr_size
        if row.unsupervised:
            lr_size = self._settings("unsupervised", row, row.streams[0], seed=0)["lr_size"]
        read = {self.data_dir: self.info} | ({self.unlabeled_dir: self.unlabeled} if row.unsupervised else {})
        for directory, info in read.items():
            if lr_size and sizes.parse(lr_size, "lr_size") not in info.lr_sizes:
                return f"{directory} has no LR frames of {lr_size}: build it with --lr_size={lr_size} too."
            if "flow" in row.streams and not info.flow:
                return f"{directory} has no optical flow: build it with --streams=rgb,flow."
        return ""

    def runs(self, row: Row, seed: int) -> tuple[Run, ...]:
        """The trainings that end in a row, one a stream, with all that they need before them.

        Raises:
          UserError: A flag file is missing or holds nonsense, or the file of initial weights is missing.
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
            # It takes as many steps as stage stat, which may read more clips an epoch.
            steps = int(settings["epochs"]) * self._steps("stat", self._settings("stat", row, stream, seed))
            epochs = max(1, round(steps / self._steps("student", settings)))
            return self._make("student", settings_lib.shortened(settings, epochs), start=start)
        teacher = self._run(Row("teacher", "", "teacher"), stream, seed)
        if row.unsupervised:
            start, epochs = self._unsupervised(row, stream, seed, start, teacher, settings)
            settings = settings_lib.shortened(settings, epochs)
        return self._make("stat", settings, teacher=teacher, start=start)

    def _unsupervised(
        self, row: Row, stream: str, seed: int, start: Run, teacher: Run, stat: dict[str, str]
    ) -> tuple[Run, int]:
        """The unsupervised stage before a stage stat of settings `stat`, and how many epochs of that it leaves.

        Together they take as many steps as the other rows' stage, as nearly as whole epochs allow, at least one
        each. Unless `unsupervised.flags` says how many epochs, the stage has half of the steps.
        """
        settings = self._settings("unsupervised", row, stream, seed)
        epochs, labelled = int(stat["epochs"]), self._steps("stat", stat)
        unlabelled = self._steps("unsupervised", settings)
        if not settings_lib.has_file(self.config_dir, "unsupervised", stream):
            settings = settings_lib.shortened(settings, max(1, round(epochs * labelled / 2 / unlabelled)))
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
        source, splits = self._clips(stage, settings)
        shards = [*(source.shards.get(split, ()) for split in splits), self.info.shards["test"]]
        initial = settings.get("init_from", "none")
        flags = sorted(settings.items())
        return Run(
            stage=stage,
            settings=tuple(flag for flag in flags if flag[0] not in CIRCUMSTANCES),
            data=_digest(shards, "" if initial in _NO_FILES else _file_digest(initial)),
            clips_per_epoch=source.num_clips(*splits),
            teacher=teacher,
            start=start,
            circumstances=tuple(flag for flag in flags if flag[0] in CIRCUMSTANCES),
        )

    def _clips(self, stage: str, settings: dict[str, str]) -> tuple[info_lib.DatasetInfo, list[str]]:
        """The dataset and its splits that a stage is trained on."""
        source, splits = (self.unlabeled, "unlabeled") if stage == "unsupervised" else (self.info, "train")
        return source, sorted((settings.get("train_splits") or splits).split(","))

    def _steps(self, stage: str, settings: dict[str, str]) -> int:
        """Steps an epoch."""
        source, splits = self._clips(stage, settings)
        return math.ceil(source.num_clips(*splits) / settings_lib.number(settings, "batch_size"))


def _digest(splits: Iterable[Iterable[info_lib.Shard]], weights: str) -> str:
    checksums = "".join(shard.sha256 for shards in splits for shard in shards)
    return hashlib.sha256((checksums + weights).encode()).hexdigest()[:16]


@functools.cache
def _file_digest(path: str) -> str:
    try:
        return hashlib.sha256(files.read_bytes(path)).hexdigest()
    except OSError as error:
        raise errors.UserError(
            f"--init_from={path} cannot be read ({error.strerror}): python -m stat_tf.convert_weights makes such a "
            "file; --train_flag=--init_from=none does without."
        ) from error
