"""Checkpoints of a run: `RUN/checkpoints/{last,best}/epoch-NNNN/`, NNNN epochs having been completed.

Each is written aside and renamed into place, so that one that has its final name is whole whenever
the process was killed. `best` holds the recognizer; `last` holds the optimizer and `state.json`
beside it. Neither holds a teacher. The two newest of `last` are kept, so that one damaged on disk
costs an epoch and not the run.
"""

import dataclasses
import hashlib
import json
import os
import re
import shutil
import warnings
from typing import Any

import tensorflow as tf

from stat_tf import errors, files
from stat_tf.models import recognizer as recognizer_lib
from stat_tf.training.run_config import RunConfig, Source

HISTORY_NAME = "history.jsonl"
_KEPT = 2
_STATE_NAME = "state.json"
_RECOGNIZER = "recognizer"
_OPTIMIZER = "optimizer"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
      history: One dict of metrics an epoch, in order; its "epoch" counts from 1.
      best_epoch: The epoch, counted from 1, whose checkpoint is the best; 0 before the first.
      best_value: Its prec@1 on the evaluation split; None where there is no such split.
    """

    history: tuple[dict[str, Any], ...] = ()
    best_epoch: int = 0
    best_value: float | None = None

    @property
    def epochs_done(self) -> int:
        """Complete epochs."""
        return len(self.history)

    def after_epoch(self, metrics: dict[str, Any], value: float | None) -> "Progress":
        """The progress after one more epoch.

        Args:
          metrics: What `history.jsonl` records of it.
          value: Its prec@1 on the evaluation split. Without one, the newest epoch is the best.
        """
        better = value is None or self.best_value is None or value > self.best_value
        epoch = self.epochs_done + 1
        return Progress(
            history=(*self.history, {"epoch": epoch, **metrics}),
            best_epoch=epoch if better else self.best_epoch,
            best_value=value if better else self.best_value,
        )


class RunCheckpoints:
    """Writes and restores one run's checkpoints and its `history.jsonl`."""

    def __init__(self, run_dir: str, recognizer: tf.keras.Model, optimizer: tf.keras.optimizers.Optimizer):
        """Prepares the run directory; sweeps up what a killed process left half-written.

        Args:
          run_dir: The run directory.
          recognizer: The built network that is trained.
          optimizer: Its optimizer, built on the trainable variables.
        """
        self._run_dir = run_dir
        self._parts = {_RECOGNIZER: recognizer, _OPTIMIZER: optimizer}
        for which in ("last", "best"):
            directory = checkpoint_dir(run_dir, which)
            os.makedirs(directory, exist_ok=True)
            for name in os.listdir(directory):
                if name.endswith(".tmp"):
                    shutil.rmtree(os.path.join(directory, name))

    def save(self, progress: Progress) -> None:
        """Records a finished epoch: the best checkpoint if it is, the last one, the history.

        `last` is the commit point: what precedes it is written again by a resumed run, what
        follows is made from it by `restore`.
        """
        epoch = progress.epochs_done
        if progress.best_epoch == epoch:
            _write({_RECOGNIZER: self._parts[_RECOGNIZER]}, _epoch_dir(self._run_dir, "best", epoch))
        _write(self._parts, _epoch_dir(self._run_dir, "last", epoch), progress)
        self._write_history(progress)
        self._prune()

    def restore(self) -> Progress:
        """Loads the newest undamaged checkpoint of `last` into the recognizer and the optimizer.

        Returns:
          Where the run stands; an empty `Progress` where there is nothing to resume.

        Raises:
          UserError: The checkpoint is of another architecture.
        """
        for epoch in reversed(_epochs(self._run_dir, "last")):
            directory = _epoch_dir(self._run_dir, "last", epoch)
            try:
                progress = _read_progress(directory)
                for part in self._parts:
                    _check_readable(directory, part)
            except _DAMAGE as error:
                warnings.warn(f"Set the damaged checkpoint {directory} aside: {errors.brief(error)}.", stacklevel=2)
                _set_aside(directory)
                continue
            for part, trackable in self._parts.items():
                _read(trackable, directory, part)
            self._write_history(progress)
            return progress
        return Progress()

    def _write_history(self, progress: Progress) -> None:
        lines = "".join(json.dumps(entry) + "\n" for entry in progress.history)
        files.write_text(os.path.join(self._run_dir, HISTORY_NAME), lines)

    def _prune(self) -> None:
        epochs = _epochs(self._run_dir, "last")
        kept = epochs[-_KEPT:]
        # An older `last` may yet be resumed from, and names its own best.
        best = {_read_progress(_epoch_dir(self._run_dir, "last", epoch)).best_epoch for epoch in kept}
        for epoch in epochs[:-_KEPT]:
            shutil.rmtree(_epoch_dir(self._run_dir, "last", epoch))
        for epoch in _epochs(self._run_dir, "best"):
            if epoch not in best:
                shutil.rmtree(_epoch_dir(self._run_dir, "best", epoch))


def load_recognizer(run_dir: str, which: str = "best") -> tuple[recognizer_lib.Recognizer, RunConfig]:
    """Builds the network that a run trained, with its weights.

    Args:
      run_dir: The run directory.
      which: "best" or "last".

    Returns:
      The recognizer, its variables restored, and the run's configuration.

    Raises:
      UserError: The run directory or the checkpoint is missing, damaged or of another architecture.
    """
    config = RunConfig.load(run_dir)
    recognizer = recognizer_lib.build_recognizer(config.recognizer)
    restore_recognizer(recognizer, run_dir, which)
    return recognizer, config


def restore_recognizer(recognizer: tf.keras.Model, run_dir: str, which: str = "best") -> None:
    """Loads a run's weights into a built recognizer of the same architecture.

    Raises:
      UserError: The checkpoint is missing, damaged or of another architecture.
    """
    epochs = _epochs(run_dir, which)
    if not epochs:
        raise errors.UserError(
            f"{run_dir} has no {which!r} checkpoint yet: its training must finish an epoch first; run it again."
        )
    directory = _epoch_dir(run_dir, which, epochs[-1])
    try:
        _check_readable(directory, _RECOGNIZER)
    except _DAMAGE as error:
        raise errors.UserError(
            f"The checkpoint {directory} is damaged ({errors.brief(error)}): delete it and train again."
        ) from error
    _read(recognizer, directory, _RECOGNIZER)


def checkpoint_dir(run_dir: str, which: str) -> str:
    """Where a run keeps its "last" or "best" checkpoints."""
    return os.path.join(run_dir, "checkpoints", which)


def newest_epoch(run_dir: str, which: str) -> int:
    """The epoch, counted from 1, of the checkpoint that `restore_recognizer` reads; 0 where there is none."""
    return max(_epochs(run_dir, which), default=0)


def source_of(run_dir: str, epochs: int) -> Source:
    """The best checkpoint of a finished run, for another run to begin with or to learn from.

    Args:
      run_dir: The run directory.
      epochs: Epochs its configuration asks for.

    Raises:
      UserError: The run is not finished, or its best checkpoint is missing.
    """
    done, best = newest_epoch(run_dir, "last"), newest_epoch(run_dir, "best")
    if done < epochs:
        raise errors.UserError(
            f"{run_dir} is not finished: {done} of its {epochs} epochs are done; run its training to the end first."
        )
    index = os.path.join(_epoch_dir(run_dir, "best", best), f"{_RECOGNIZER}.index")
    try:
        with open(index, "rb") as file:
            return Source(best, hashlib.sha256(file.read()).hexdigest())
    except OSError as error:
        raise errors.UserError(
            f"The best checkpoint of {run_dir} is damaged: {index} cannot be read ({error.strerror}); train it again."
        ) from error


# Of a checkpoint that does not fit, `_read` says all there is to say in a sentence; TensorFlow's own
# checkpoint.py adds a line for each value left over when it is garbage collected.
tf.get_logger().addFilter(lambda record: record.module != "checkpoint")

# What reading a truncated, overwritten or half-deleted checkpoint raises.
_DAMAGE = (tf.errors.OpError, OSError, ValueError, LookupError, TypeError, RuntimeError)


def _epoch_dir(run_dir: str, which: str, epoch: int) -> str:
    return os.path.join(checkpoint_dir(run_dir, which), f"epoch-{epoch:04d}")


def _epochs(run_dir: str, which: str) -> list[int]:
    """The epochs with a checkpoint, ascending."""
    directory = checkpoint_dir(run_dir, which)
    names = os.listdir(directory) if os.path.isdir(directory) else []
    return sorted(int(match[1]) for match in (re.fullmatch(r"epoch-(\d+)", name) for name in names) if match)


def _write(parts: dict[str, tf.Module], directory: str, progress: Progress | None = None) -> None:
    aside = f"{directory}.tmp"
    os.makedirs(aside)
    for part, trackable in parts.items():
        tf.train.Checkpoint(**{part: trackable}).write(os.path.join(aside, part))
    if progress is not None:
        files.write_text(os.path.join(aside, _STATE_NAME), json.dumps(dataclasses.asdict(progress)) + "\n")
    if os.path.isdir(directory):  # a best one, whose process was killed before its `last` was in place
        shutil.rmtree(directory)
    os.rename(aside, directory)


def _set_aside(directory: str) -> None:
    damaged = f"{directory}.damaged"
    shutil.rmtree(damaged, ignore_errors=True)
    os.rename(directory, damaged)


def _read_progress(directory: str) -> Progress:
    with open(os.path.join(directory, _STATE_NAME), encoding="utf-8") as file:
        fields = json.load(file)
    return Progress(**{**fields, "history": tuple(fields["history"])})


def _check_readable(directory: str, part: str) -> None:
    """Reads every tensor, whose checksums TensorFlow verifies, before any variable is touched."""
    reader = tf.train.load_checkpoint(os.path.join(directory, part))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _read(trackable: tf.Module, directory: str, part: str) -> None:
    try:
        tf.train.Checkpoint(**{part: trackable}).read(os.path.join(directory, part)).assert_consumed()
    except (ValueError, AssertionError) as error:
        raise errors.UserError(
            f"The checkpoint {directory} is of another architecture than asked for ({errors.brief(error)}): "
            "use the settings it was trained with, or another run directory."
        ) from error
