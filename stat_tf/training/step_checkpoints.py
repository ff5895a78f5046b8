"""Checkpoints amid an epoch: `RUN/checkpoints/partial/epoch-NNNN-step-MMMMMM/`, MMMMMM steps into epoch NNNN.

They are for resuming only, and hold what `last` holds and the epoch's metrics so far. The step that saves one
waits only until the variables are copied; a thread writes the copy.
"""

import concurrent.futures
import contextlib
import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from stat_tf import errors
from stat_tf.training import checkpoint_files, snapshot
from stat_tf.training.checkpoint_files import Progress

_NAME = "training"
_METRICS = "metrics"


class StepCheckpoints:
    """Writes and reads one run's partial checkpoints."""

    def __init__(
        self,
        run_dir: str,
        parts: Mapping[str, tf.Module],
        metrics: Mapping[str, tf.keras.metrics.Metric],
        strategy: tf.distribute.Strategy,
        max_to_keep: int,
    ):
        """Prepares the writer.

        Args:
          run_dir: The run directory.
          parts: What is trained and its optimizer, by name.
          metrics: The running means of the epoch, by name.
          strategy: The one that all of them were made under.
          max_to_keep: How many are kept, the newest.
        """
        self._directory = checkpoint_files.checkpoint_dir(run_dir, "partial")
        self._parts = {**parts, **{f"{_METRICS}/{name}": metric for name, metric in metrics.items()}}
        self._strategy = strategy
        self._max_to_keep = max_to_keep
        self._executor = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._pending: concurrent.futures.Future | None = None

    def save(self, progress: Progress) -> None:
        """Begins to save the state that the variables have now, when the save before it is done.

        Raises:
          UserError: The one before it could not be written.
        """
        self.wait()
        self._pending = self._executor.submit(self._write, snapshot.take(self._parts, self._strategy), progress)

    def wait(self) -> None:
        """Waits for the save that was begun, if any.

        Raises:
          UserError: It could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self, *, quietly: bool = False) -> None:
        """Waits as `wait` does and ends the thread; `quietly`, without its error."""
        self._executor.shutdown()
        with contextlib.suppress(errors.UserError) if quietly else contextlib.nullcontext():
            self.wait()

    def positions(self) -> list[tuple[int, int]]:
        """Of all partial checkpoints: epochs done, and steps of the next one; ascending."""
        found = checkpoint_files.numbered(self._directory, r"epoch-(\d+)-step-(\d+)")
        return [(epoch - 1, step) for epoch, step in found]

    def path(self, position: tuple[int, int]) -> str:
        """The directory of the partial checkpoint at one of `positions`."""
        epochs_done, step = position
        return os.path.join(self._directory, f"epoch-{epochs_done + 1:04d}-step-{step:06d}")

    def restore(self, position: tuple[int, int]) -> Progress:
        """Loads one; damage raises an error of `checkpoint_files.DAMAGE` before any variable is changed.

        Raises:
          UserError: It is of another architecture; no variable was changed.
        """
        directory = self.path(position)
        progress = checkpoint_files.read_progress(directory)
        arrays = snapshot.read(os.path.join(directory, _NAME))
        try:
            snapshot.put_back(self._parts, self._strategy, arrays)
        except ValueError as error:
            raise checkpoint_files.other_architecture(directory, error) from error
        return progress

    def prune(self, epochs_done: int) -> None:
        """Deletes those of finished epochs."""
        for epoch, step in checkpoint_files.numbered(self._directory, r"epoch-(\d+)-step-(\d+)(?:\.damaged)?", None):
            if epoch <= epochs_done:
                path = self.path((epoch - 1, step))
                checkpoint_files.delete(path)
                checkpoint_files.delete(f"{path}.damaged")

    def _write(self, arrays: dict[str, np.ndarray], progress: Progress) -> None:
        trained = (array for key, array in arrays.items() if not key.startswith(f"{_METRICS}/"))
        if not all(np.isfinite(array).all() for array in trained):
            return  # the next step's loss will end the run, which shall not resume from here
        directory = self.path((progress.epochs_done, progress.step))
        checkpoint_files.write(directory, lambda aside: snapshot.write(arrays, os.path.join(aside, _NAME)), progress)
        for position in self.positions()[: -self._max_to_keep]:
            checkpoint_files.delete(self.path(position))
