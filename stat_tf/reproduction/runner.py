"""Trains and evaluates what is not yet: each run in `OUTPUT/runs/NAME`, with its log and its hours beside it."""

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence

from stat_tf import comparison, errors, files, processes
from stat_tf.reproduction.plan import Run
from stat_tf.training import checkpoints
from stat_tf.training.run_config import RunConfig

RECORD_NAME = "reproduce.json"
LOG_NAME = "reproduce.log"
SCORES_NAME = "separation.json"
# Seconds between two writings of a run's hours, which is what a killed command loses of them.
_RECORD_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Record:
    """What is kept of a run beside what `stat_tf.train` keeps: `reproduce.json`.

    Attributes:
      seconds: Wall-clock time of its training commands, those that were stopped included.
      finished: Whether it was trained to its last epoch.
    """

    seconds: float = 0.0
    finished: bool = False

    @classmethod
    def load(cls, run_dir: str) -> "Record":
        """Reads a run's record; a run that was not begun has an empty one.

        Raises:
          UserError: It is damaged.
        """
        path = os.path.join(run_dir, RECORD_NAME)
        try:
            with open(path, encoding="utf-8") as file:
                return cls(**json.load(file))
        except FileNotFoundError:
            return cls()
        except (OSError, ValueError, TypeError) as error:
            raise errors.UserError(
                f"{path} cannot be read ({errors.brief(error)}): delete it; the run's hours are lost, not the run."
            ) from error

    def save(self, run_dir: str) -> None:
        """Writes it, whole or not at all."""
        files.write_text(os.path.join(run_dir, RECORD_NAME), json.dumps(dataclasses.asdict(self)) + "\n")


@dataclasses.dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
      output: The directory of all tables and runs.
      data_dir: The dataset.
      unlabeled_dir: The dataset of unlabelled clips, "" for the same.
    """

    output: str
    data_dir: str
    unlabeled_dir: str = ""

    def run_dir(self, run: Run) -> str:
        """The directory of a run."""
        return os.path.join(self.output, "runs", run.name)

    def evaluation_dir(self, runs: Sequence[Run]) -> str:
        """Where the evaluation of a run, or of an RGB and a flow run together, lies."""
        name = "eval-test" if len(runs) == 1 else f"eval-test-with-{runs[1].name}"
        return os.path.join(self.run_dir(runs[0]), name)

    def training(self, run: Run) -> list[str]:
        """The command that trains a run, after `python -m`."""
        unlabeled = self.unlabeled_dir if run.stage == "unsupervised" else ""
        flags = {"stage": run.stage, "data_dir": unlabeled or self.data_dir, "run_dir": self.run_dir(run)}
        if run.teacher:
            flags["teacher_run"] = self.run_dir(run.teacher)
        if run.start:
            flags["init_run"] = self.run_dir(run.start)
        return [
            "stat_tf.train",
            *(f"--{name}={value}" for name, value in (*flags.items(), *run.settings, *run.circumstances)),
        ]

    def evaluation(self, runs: Sequence[Run]) -> list[str]:
        """The command that evaluates a run, or two streams together, on the test split, after `python -m`."""
        flags = [f"--run_dir={self.run_dir(runs[0])}"]
        flags += [f"--flow_run_dir={self.run_dir(run)}" for run in runs[1:]]
        return ["stat_tf.evaluate", *flags, f"--data_dir={self.data_dir}", f"--output={self.evaluation_dir(runs)}"]

    def is_trained(self, run: Run) -> bool:
        """Whether a run has reached its last epoch."""
        return Record.load(self.run_dir(run)).finished

    def is_evaluated(self, runs: Sequence[Run]) -> bool:
        """Whether there is an evaluation, which is written whole or not at all."""
        return comparison.exists(self.evaluation_dir(runs))


def check_sources(run: Run, places: Places) -> None:
    """Checks that a finished run learned from the teacher, and began with the weights, that are there now.

    A run that is not there, or not finished, says nothing.

    Raises:
      UserError: It did not: these have been trained again since.
    """
    needed = [(run.teacher, "teacher_source"), (run.start, "init_source")]
    needed = [(other, name) for other, name in needed if other and places.is_trained(other)]
    if not (needed and places.is_trained(run)):
        return
    run_dir = places.run_dir(run)
    config = RunConfig.load(run_dir)
    for other, name in needed:
        if getattr(config, name) != checkpoints.source_of(places.run_dir(other), other.epochs):
            raise errors.UserError(
                f"{run_dir} was trained with other weights of {places.run_dir(other)} than it holds now: delete "
                f"{run_dir}, and run the command again."
            )


def train(run: Run, places: Places, commands: processes.Commands) -> None:
    """Trains a run from where it stands to its last epoch, a line an epoch on the way.

    Raises:
      Stopped: A signal came.
      UserError: The training failed.
    """
    run_dir = places.run_dir(run)
    try:
        os.makedirs(run_dir, exist_ok=True)
    except OSError as error:
        raise errors.UserError(f"{run_dir} cannot be made ({error.strerror}): see to --output.") from error
    watch = _Watch(run_dir, run.epochs, Record.load(run_dir))
    try:
        commands.run(places.training(run), os.path.join(run_dir, LOG_NAME), watch)
        if len(history(run_dir)) < run.epochs:
            raise errors.UserError(
                f"The training of {run_dir} ended before its last epoch: give the same command again."
            )
        watch.save(finished=True)
    except BaseException:
        watch.save()
        raise


def evaluate(runs: Sequence[Run], places: Places, commands: processes.Commands) -> None:
    """Evaluates a run, or an RGB and a flow run together.

    Raises:
      Stopped: A signal came.
      UserError: The evaluation failed.
    """
    log_path = os.path.join(places.run_dir(runs[0]), LOG_NAME)
    commands.run(places.evaluation(runs), log_path, lambda seconds: None)


class _Watch:
    """Follows a training: keeps its hours, and says when an epoch is over."""

    def __init__(self, run_dir: str, epochs: int, before: Record):
        self._run_dir, self._epochs, self._before = run_dir, epochs, before
        self._said = len(history(run_dir))
        self._seconds = self._saved = 0.0

    def __call__(self, seconds: float) -> None:
        self._seconds = seconds
        if seconds > self._saved + _RECORD_SECONDS:
            self.save()
        done = len(history(self._run_dir))
        if done > self._said:
            print(f"      epoch {done} of {self._epochs} ({seconds:.0f} s)", flush=True)
            self._said = done

    def save(self, finished: bool = False) -> None:
        """Adds the time so far to what was before."""
        Record(self._before.seconds + self._seconds, finished).save(self._run_dir)
        self._saved = self._seconds


def save_scores(runs: Sequence[Run], places: Places, found: Mapping[str, float]) -> None:
    """Keeps the scores of a row's representations beside its evaluation, whole or not at all."""
    files.write_text(os.path.join(places.evaluation_dir(runs), SCORES_NAME), json.dumps(found) + "\n")


def scores(runs: Sequence[Run], places: Places) -> dict[str, float]:
    """What `save_scores` kept; empty where it did not.

    Raises:
      UserError: It is damaged.
    """
    path = os.path.join(places.evaluation_dir(runs), SCORES_NAME)
    try:
        with open(path, encoding="utf-8") as file:
            return {name: float(value) for name, value in json.load(file).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise errors.UserError(f"{path} cannot be read ({errors.brief(error)}): delete it.") from error


def history(run_dir: str) -> list[dict[str, float]]:
    """What `stat_tf.train` noted of a run's epochs so far, one dict each."""
    try:
        with open(os.path.join(run_dir, "history.jsonl"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []
