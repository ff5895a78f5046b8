"""What happens around `model.fit`'s steps: weights, checks, records, curves and progress."""

import math
import os
import sys
import time
from collections.abc import Callable

import tensorflow as tf
import tqdm

from stat_tf import errors
from stat_tf.training import checkpoint_files
from stat_tf.training.checkpoints import Progress, RunCheckpoints, checkpoint_dir, newest_epoch
from stat_tf.training.transfer import TransferModel
from stat_tf.weighting import LossWeights


class WeightSchedule(tf.keras.callbacks.Callback):
    """Puts each epoch's loss weights in force (section 3.3.2)."""

    def __init__(self, weights_at: Callable[[int], LossWeights]):
        """`weights_at` gives an epoch's weights, epochs counted from 0."""
        super().__init__()
        self._weights_at = weights_at

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.model.assign_weights(self._weights_at(epoch))


class StopOnNonFinite(tf.keras.callbacks.Callback):
    """Ends a run whose loss or variables are no numbers any more, before they are checkpointed."""

    def __init__(self, run_dir: str):
        """`run_dir` is where the last good state is kept, if an epoch was finished before."""
        super().__init__()
        self._run_dir = run_dir
        self._epoch = 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        # The logged loss is the epoch's mean so far: NaN and inf stay in it.
        if not math.isfinite(float(logs["loss"])):
            self._stop("loss")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        # The epoch's last update shows in no training loss.
        for variable in (*self.model.student.variables, *self.model.optimizer.variables):
            if variable.dtype.is_floating and not tf.reduce_all(tf.math.is_finite(variable)):
                self._stop(f"variable {variable.name}")

    def _stop(self, what: str) -> None:
        step = _step(self.model)
        directory = checkpoint_dir(self._run_dir, "last")
        kept = f"the last good checkpoint is kept in {directory}"
        if not newest_epoch(self._run_dir, "last"):
            kept = f"{self._run_dir} has no checkpoint yet and can be deleted"
        raise errors.UserError(
            f"The {what} is not finite at step {step} (epoch {self._epoch + 1}): lower --learning_rate or "
            f"--clip_norm and use another --run_dir; {kept}."
        )


class RunRecorder(tf.keras.callbacks.Callback):
    """Checkpoints each epoch and adds its line to `history.jsonl`.

    The line holds no times, so that a resumed run's file equals that of one never stopped.
    """

    def __init__(self, checkpoints: RunCheckpoints, progress: Progress):
        """Continues from `progress`; the attribute `progress` follows the run."""
        super().__init__()
        self._checkpoints = checkpoints
        self.progress = progress

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        metrics = {"step": _step(self.model)}
        metrics |= {name: float(value) for name, value in logs.items()}
        self.progress = self.progress.after_epoch(metrics, metrics.get("val_prec@1"))
        self._checkpoints.save(self.progress)


class TensorBoardScalars(tf.keras.callbacks.Callback):
    """Curves under RUN/logs/train, every so many steps and at each epoch's end, and RUN/logs/eval.

    Losses and precisions are the epoch's means so far; the clips a second leave evaluation out.
    """

    def __init__(
        self,
        log_dir: str,
        weights_at: Callable[[int], LossWeights],
        *,
        batch_size: int,
        num_clips: int,
        log_steps: int,
        first_step: int = 0,
    ):
        """Prepares the writers.

        Args:
          log_dir: RUN/logs.
          weights_at: An epoch's loss weights.
          batch_size: Clips a step.
          num_clips: Clips an epoch; its last step has what remains.
          log_steps: Steps between two points.
          first_step: Steps of the first epoch that were done before, when it is the only one of this `fit`.
        """
        super().__init__()
        self._log_dir = log_dir
        with checkpoint_files.explain_write_errors(log_dir):
            self._train = tf.summary.create_file_writer(os.path.join(log_dir, "train"))
            self._eval = tf.summary.create_file_writer(os.path.join(log_dir, "eval"))
        self._weights_at = weights_at
        self._batch_size, self._num_clips, self._log_steps = batch_size, num_clips, log_steps
        self._epoch, self._first_step = 0, first_step
        self._started, self._clips_before = 0.0, 0

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self._epoch = epoch
        self._started, self._clips_before = time.perf_counter(), self._first_step * self._batch_size

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        step = self._first_step + batch + 1
        clips = min(step * self._batch_size, self._num_clips)
        if step % self._log_steps and clips < self._num_clips:
            return
        now = time.perf_counter()
        scalars = {
            **logs,
            **_weight_scalars(self._weights_at(self._epoch), self.model),
            "learning_rate": self.model.optimizer.learning_rate,
            "clips_per_second": (clips - self._clips_before) / (now - self._started),
        }
        if isinstance(self.model.optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
            scalars["loss_scale"] = self.model.optimizer.loss_scale
        self._started, self._clips_before = now, clips
        self._write(self._train, scalars)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        scalars = {name.removeprefix("val_"): value for name, value in logs.items() if name.startswith("val_")}
        self._write(self._eval, scalars)

    def on_train_end(self, logs: dict | None = None) -> None:
        with checkpoint_files.explain_write_errors(self._log_dir):
            self._train.close()
            self._eval.close()

    def _write(self, writer: tf.summary.SummaryWriter, scalars: dict[str, float]) -> None:
        with checkpoint_files.explain_write_errors(self._log_dir):
            with writer.as_default(step=_step(self.model)):
                for name, value in scalars.items():
                    tf.summary.scalar(name, value)
            writer.flush()


def _weight_scalars(weights: LossWeights, model: TransferModel) -> dict[str, float]:
    scalars = {"weights/ce": weights.ce}
    if model.transfers:
        scalars |= {"weights/sat": weights.sat, "weights/tat": weights.tat}
        scalars |= {"weights/soft_labels": weights.soft_labels} if weights.soft_labels else {}
        scalars |= {f"weights/sat_{i}": weight for i, weight in enumerate(weights.sat_stages, 1)}
        scalars |= {f"weights/tat_{name}": weight for name, weight in zip(("hidden", "logits"), weights.tat_layers)}
    return scalars


class ProgressBar(tf.keras.callbacks.Callback):
    """A bar an epoch on a terminal; in a log, a line an epoch.

    Not `tfa.callbacks.TQDMProgressBar`: it draws bars into log files too, and averages Keras'
    running means a second time.
    """

    def __init__(self, epochs: int, steps: int, first_step: int = 0):
        """`epochs` in all, of `steps` each; `first_step` of the only one of this `fit` were done before."""
        super().__init__()
        self._epochs, self._steps, self._first_step = epochs, steps, first_step
        self._bar = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        title = f"epoch {epoch + 1}/{self._epochs}"
        self._bar = tqdm.tqdm(total=self._steps, initial=self._first_step, desc=title, unit="step", disable=None)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if not self._bar.disable:
            shown = {name: f"{float(logs[name]):.3f}" for name in ("loss", "prec@1") if name in logs}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._bar.close()
        if self._bar.disable:
            values = ", ".join(f"{name} {value:.4f}" for name, value in logs.items() if name in _SHOWN)
            print(f"epoch {epoch + 1}/{self._epochs}: {values}", file=sys.stderr, flush=True)


_SHOWN = ("loss", "ce", "sat", "tat", "soft_labels", "prec@1", "val_ce", "val_prec@1", "val_prec@5")


def _step(model: TransferModel) -> int:
    """Updates so far. By `numpy()`: a mirrored variable cannot be cast to int."""
    return int(model.optimizer.iterations.numpy())
