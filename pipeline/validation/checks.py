"""What a validation looks for, how bad it is, and what it finds. Needs neither TensorFlow nor Beam."""

import dataclasses
from collections.abc import Sequence

from stat_tf import errors

ERROR = "error"
WARNING = "warning"
# Anomalies of one check that are listed, and clips listed of one; both are counted beyond that.
MOST_ANOMALIES = 50
MOST_CLIPS = 100

# By name: how bad it is unless told otherwise, and what it means. Listed in this order.
CHECKS = {
    "shard": (ERROR, "a file is missing, damaged, or another than dataset.json describes"),
    "schema": (ERROR, "a record lacks a key, or holds what the dataset's description rules out"),
    "undecodable": (ERROR, "a stored image cannot be decoded"),
    "image_size": (ERROR, "a stored image has another size than dataset.json states"),
    "counts": (ERROR, "the clips of a class or a file are not as many as dataset.json states"),
    "duplicate_id": (ERROR, "an id stands for several clips"),
    "leaked_content": (ERROR, "the same frames are stored in test and in another split"),
    "leaked_near_duplicate": (ERROR, "nearly the same frames are in test and in another split"),
    "leaked_group": (ERROR, "a group has clips in train and in test"),
    "duplicate_content": (WARNING, "the same frames are stored twice, not counting leaks into test"),
    "near_duplicate": (WARNING, "nearly the same frames are stored twice, not counting leaks into test"),
    "not_compared": (WARNING, "clips look like so many others that not all near-duplicates of them are found"),
    "missing_class": (WARNING, "a class has no clips in train or in test"),
    "class_imbalance": (WARNING, "a class of train has many times the clips of another"),
    "blank": (WARNING, "no frame of a clip has any contrast"),
    "frozen": (WARNING, "all frames of a clip are the same picture"),
    "brightness_drift": (WARNING, "train and test differ in brightness"),
    "contrast_drift": (WARNING, "train and test differ in contrast"),
}


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """From where on a clip or a dataset is odd.

    Attributes:
      min_contrast: Grey levels; a clip is blank whose every frame has a smaller standard deviation.
      min_motion: Grey levels; a clip is frozen in which no LR pixel's area changes by as much from a frame to the next.
      max_imbalance: The largest class of train in units of its smallest.
      max_drift: The difference of the means of train and test, in standard deviations of a clip.
    """

    min_contrast: float = 4.0
    min_motion: float = 2.0
    max_imbalance: float = 10.0
    max_drift: float = 0.5


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a clip's record stands: its shard, and the byte there at which it starts."""

    shard: str
    offset: int


@dataclasses.dataclass(frozen=True)
class Anomaly:
    """Something that is wrong with a dataset.

    Attributes:
      check: Which of `CHECKS` found it.
      severity: `ERROR` or `WARNING`.
      split: The split; several joined by ", "; "" for the whole dataset.
      message: What is wrong, in a sentence.
      clips: Ids of the clips it is about, `MOST_CLIPS` at most.
      num_clips: How many clips it is about.
      places: Where the first of them are stored.
    """

    check: str
    severity: str
    split: str
    message: str
    clips: tuple[str, ...] = ()
    num_clips: int = 0
    places: tuple[Place, ...] = ()

    def to_dict(self) -> dict:
        """What `report.json` says of it."""
        return {
            "check": self.check,
            "severity": self.severity,
            "split": self.split,
            "message": self.message,
            "clips": list(self.clips),
            "num_clips": self.num_clips,
        }


@dataclasses.dataclass(frozen=True)
class Policy:
    """Which checks are made, and how bad their findings are.

    Attributes:
      severities: By the names of the checks that are made.
    """

    severities: dict[str, str]

    @classmethod
    def of(cls, fail_on: Sequence[str] = (), warn_on: Sequence[str] = (), ignore: Sequence[str] = ()) -> "Policy":
        """The defaults of `CHECKS`, changed as told.

        Args:
          fail_on: Checks whose findings are errors.
          warn_on: Checks whose findings are warnings.
          ignore: Checks whose findings are left out.

        Raises:
          UserError: There is no such check, or one is named for two of these.
        """
        severities = {name: severity for name, (severity, _) in CHECKS.items()}
        changes = [("fail_on", ERROR, fail_on), ("warn_on", WARNING, warn_on), ("ignore", None, ignore)]
        seen = {}
        for flag, severity, names in changes:
            for name in names:
                if name not in CHECKS:
                    raise errors.UserError(f"--{flag}={name}: there is no such check, only {', '.join(CHECKS)}.")
                if seen.setdefault(name, flag) != flag:
                    raise errors.UserError(f"The check {name} is given by --{seen[name]} and by --{flag}: choose one.")
                severities[name] = severity
        return cls({name: severity for name, severity in severities.items() if severity})


def verdict(anomalies: Sequence[Anomaly]) -> str:
    """What the anomalies come to: "fail" if one of them is an error, else "pass"."""
    return "fail" if any(anomaly.severity == ERROR for anomaly in anomalies) else "pass"
