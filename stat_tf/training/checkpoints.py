"""Checkpoints of a run: `RUN/checkpoints/{last,best}/epoch-NNNN/`, NNNN epochs having been completed.

Each is written aside and renamed into place (in an object store, told by the file that is written last),
so that one that is seen is whole whenever the process was killed. `best` holds the recognizer; `last` holds
the optimizer and `state.json` beside it. Neither holds a teacher. The newest few of `last` are
kept, so that one damaged on disk costs an epoch and not the run. Between epochs' ends there are partial
ones (`step_checkpoints`).
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping

import tensorflow as tf

from stat_tf import errors, files, stores
from stat_tf.models import recognizer as recognizer_lib
from stat_tf.training import checkpoint_files
from stat_tf.training.checkpoint_files import DAMAGE, Progress, checkpoint_dir
from stat_tf.training.run_config import RunConfig, Source
from stat_tf.training.step_checkpoints import StepCheckpoints

HISTORY_NAME = "history.jsonl"
_RECOGNIZER = "recognizer"
_OPTIMIZER = "optimizer"


class RunCheckpoints:
    """Writes and restores one run's checkpoints and its `history.jsonl`."""

    def __init__(
        self,
        run_dir: str,
        recognizer: tf.keras.Model,
        optimizer: tf.keras.optimizers.Optimizer,
        metrics: Mapping[str, tf.keras.metrics.Metric] | None = None,
        *,
        max_to_keep: int = 2,
    ):
        """Prepares the run directory; sweeps up what a killed process left half-written.

        Args:
          run_dir: The run directory.
          recognizer: The built network that is trained.
          optimizer: Its optimizer, built on the trainable variables.
          metrics: The running means of the epoch, by name, for partial checkpoints.
          max_to_keep: How many of `last`, and of the partial ones, are kept.

        Raises:
          UserError: The directories cannot be made.
        """
        self._run_dir = run_dir
        self._parts = {_RECOGNIZER: recognizer, _OPTIMIZER: optimizer}
        self._max_to_keep = max_to_keep
        self._steps = StepCheckpoints(run_dir, self._parts, metrics or {}, recognizer.distribute_strategy, max_to_keep)
        for which in ("last", "best", "partial"):
            checkpoint_files.prepare(checkpoint_dir(run_dir, which))

    def save(self, progress: Progress) -> None:
        """Records a finished epoch: the best checkpoint if it is, the last one, the history.

        `last` is the commit point: what precedes it is written again by a resumed run, what
        follows is made from it by `restore`.

        Raises:
          UserError: Something cannot be written.
        """
        self._steps.wait()
        epoch = progress.epochs_done
        if progress.best_epoch == epoch:
            best = {_RECOGNIZER: self._parts[_RECOGNIZER]}
            checkpoint_files.write(_epoch_dir(self._run_dir, "best", epoch), _writer(best))
        checkpoint_files.write(_epoch_dir(self._run_dir, "last", epoch), _writer(self._parts), progress)
        self._write_history(progress)
        self._prune()

    def save_step(self, progress: Progress) -> None:
        """Begins to save the state amid an epoch; returns when the variables are copied.

        Raises:
          UserError: The save begun before this one failed.
        """
        self._steps.save(progress)

    def wait(self) -> None:
        """Waits until what `save_step` began is on disk.

        Raises:
          UserError: It cannot be written.
        """
        self._steps.wait()

    def restore(self, *, amid_epochs: bool = True) -> Progress:
        """Loads the newest undamaged checkpoint, of `last` or partial, into everything that is trained.

        Args:
          amid_epochs: Whether a partial one will do.

        Returns:
          Where the run stands; an empty `Progress` where there is nothing to resume.

        Raises:
          UserError: The checkpoint is of another architecture.
        """
        last = [(epoch, 0) for epoch in _epochs(self._run_dir, "last")]
        amid = self._steps.positions() if amid_epochs else []
        for position in sorted(last + amid, reverse=True):
            epochs_done, step = position
            directory = self._steps.path(position) if step else _epoch_dir(self._run_dir, "last", epochs_done)
            try:
                progress = self._steps.restore(position) if step else self._restore_epoch(directory)
            except DAMAGE as error:
                checkpoint_files.set_aside(directory, error)
                continue
            self._write_history(progress)
            self._mend_best(progress)
            return progress
        return Progress()

    def _restore_epoch(self, directory: str) -> Progress:
        """Loads one of `last`; damage raises an error of `DAMAGE` before any variable is changed."""
        progress = checkpoint_files.read_progress(directory)
        for part in self._parts:
            _check_readable(directory, part)
        for part, trackable in self._parts.items():
            _read(trackable, directory, part)
        return progress

    def _mend_best(self, progress: Progress) -> None:
        """Writes the best checkpoint again where it is damaged or lost, and is that of the epoch restored.

        Raises:
          UserError: It was that of another epoch, which cannot be had again.
        """
        directory = _epoch_dir(self._run_dir, "best", progress.best_epoch)
        try:
            if progress.best_epoch:
                _check_readable(directory, _RECOGNIZER)
        except DAMAGE as error:
            stores.check(directory)
            if progress.best_epoch != progress.epochs_done or progress.step:
                raise errors.UserError(
                    f"The best checkpoint {directory} is damaged or gone ({errors.brief(error)}), and no other is of "
                    "its epoch: put it back, or train again in another --run_dir."
                ) from error
            checkpoint_files.write(directory, _writer({_RECOGNIZER: self._parts[_RECOGNIZER]}))

    def __enter__(self) -> "RunCheckpoints":
        return self

    def __exit__(self, exception_type: type | None, *_: object) -> None:
        """Ends the writing thread; what it could not write is an error, unless there is another."""
        self._steps.close(quietly=exception_type is not None)

    def _write_history(self, progress: Progress) -> None:
        path = os.path.join(self._run_dir, HISTORY_NAME)
        lines = "".join(json.dumps(entry) + "\n" for entry in progress.history)
        with checkpoint_files.explain_write_errors(path):
            files.write_text(path, lines)

    def _prune(self) -> None:
        epochs = _epochs(self._run_dir, "last")
        kept = epochs[-self._max_to_keep :]
        best = set()
        for epoch in kept:
            # An older `last` may yet be resumed from, and names its own best.
            with contextlib.suppress(*DAMAGE):
                best.add(checkpoint_files.read_progress(_epoch_dir(self._run_dir, "last", epoch)).best_epoch)
        for epoch in epochs[: -self._max_to_keep]:
            checkpoint_files.delete(_epoch_dir(self._run_dir, "last", epoch))
        for epoch in _epochs(self._run_dir, "best"):
            if epoch not in best:
                checkpoint_files.delete(_epoch_dir(self._run_dir, "best", epoch))
        self._steps.prune(epochs[-1])


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
    except DAMAGE as error:
        stores.check(directory)
        raise errors.UserError(
            f"The checkpoint {directory} is damaged ({errors.brief(error)}): run this training's command again, which "
            "writes it anew or says what else to do."
        ) from error
    _read(recognizer, directory, _RECOGNIZER)


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
        return Source(best, hashlib.sha256(files.read_bytes(index)).hexdigest())
    except OSError as error:
        raise errors.UserError(
            f"The best checkpoint of {run_dir} is damaged: {index} cannot be read ({error.strerror}); train it again."
        ) from error


# Of a checkpoint that does not fit, `_read` says all there is to say in a sentence; TensorFlow's own
# checkpoint.py adds a line for each value left over when it is garbage collected.
tf.get_logger().addFilter(lambda record: record.module != "checkpoint")


def _epoch_dir(run_dir: str, which: str, epoch: int) -> str:
    return os.path.join(checkpoint_dir(run_dir, which), f"epoch-{epoch:04d}")


def _epochs(run_dir: str, which: str) -> list[int]:
    """The epochs with a checkpoint, ascending."""
    # The index of its tensors is what TensorFlow writes last.
    last = f"{_RECOGNIZER}.index" if which == "best" else checkpoint_files.STATE_NAME
    return [epoch for (epoch,) in checkpoint_files.numbered(checkpoint_dir(run_dir, which), r"epoch-(\d+)", last)]


def _writer(parts: Mapping[str, tf.Module]) -> Callable[[str], None]:
    def write_parts(directory):
        for part, trackable in parts.items():
            tf.train.Checkpoint(**{part: trackable}).write(os.path.join(directory, part))

    return write_parts


def _check_readable(directory: str, part: str) -> None:
    """Reads every tensor, whose checksums TensorFlow verifies, before any variable is touched."""
    reader = tf.train.load_checkpoint(os.path.join(directory, part))
    for name in reader.get_variable_to_shape_map():
        reader.get_tensor(name)


def _read(trackable: tf.Module, directory: str, part: str) -> None:
    try:
        tf.train.Checkpoint(**{part: trackable}).read(os.path.join(directory, part)).assert_consumed()
    except (ValueError, AssertionError) as error:
        raise checkpoint_files.other_architecture(directory, error) from error
