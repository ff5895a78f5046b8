"""Going on amid an epoch: what is saved between its steps, and the epoch's remainder."""

import tensorflow as tf

from stat_tf import errors
from stat_tf.training import snapshot
from stat_tf.training.callbacks import RunRecorder
from stat_tf.training.checkpoints import RunCheckpoints
from stat_tf.training.preemption import StopRequest
from stat_tf.training.transfer import TransferModel


class StepRecorder(tf.keras.callbacks.Callback):
    """Saves the state every so many steps, and ends the run when it is told to stop.

    To stand behind `RunRecorder` in the list of callbacks.
    """

    def __init__(
        self,
        checkpoints: RunCheckpoints,
        recorder: RunRecorder,
        request: StopRequest,
        *,
        run_dir: str,
        steps: int,
        save_steps: int,
        epochs: int,
    ):
        """Continues from `recorder.progress`.

        Args:
          checkpoints: Where the state goes.
          recorder: Knows which epochs are done.
          request: Says when to stop.
          run_dir: The run directory, to name it.
          steps: Steps an epoch.
          save_steps: Steps between two checkpoints; 0 for none.
          epochs: Epochs in all.
        """
        super().__init__()
        self._checkpoints, self._recorder, self._request = checkpoints, recorder, request
        self._run_dir, self._steps, self._save_steps, self._epochs = run_dir, steps, save_steps, epochs
        self._step = self._saved_step = recorder.progress.step
        self._running_means = None

    def on_train_begin(self, logs: dict | None = None) -> None:
        if self._step:
            self._running_means = snapshot.take(means(self.model), self.model.distribute_strategy)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self._running_means is not None:  # Keras has just reset them
            snapshot.put_back(means(self.model), self.model.distribute_strategy, self._running_means)
            self._running_means = None

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._step += 1
        if self._step == self._steps:
            return  # evaluation or the epoch's end follows
        if self._request.signal_number or (self._save_steps and self._step % self._save_steps == 0):
            self._save()
        self._stop_if_asked()

    def on_test_begin(self, logs: dict | None = None) -> None:
        # Evaluation may take long, and is about to reset the epoch's means.
        self._save()
        self._stop_if_asked()

    def on_test_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._stop_if_asked()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._step = self._saved_step = 0
        if epoch + 1 < self._epochs:
            self._stop_if_asked()

    def _save(self) -> None:
        if self._step != self._saved_step:
            self._checkpoints.save_step(self._recorder.progress.at_step(self._step))
            self._saved_step = self._step

    def _stop_if_asked(self) -> None:
        if self._request.signal_number is None:
            return
        self._checkpoints.wait()
        done = self._recorder.progress.epochs_done
        position = f"step {self._step} of epoch {done + 1}" if self._step else f"epoch {done}"
        raise errors.StoppedBySignal(
            self._request.signal_number,
            f"the state after {position} of {self._epochs} is kept in {self._run_dir}; the same command goes on there.",
        )


def means(model: TransferModel) -> dict[str, tf.keras.metrics.Metric]:
    """The running means of an epoch, by name."""
    return {metric.name: metric for metric in model.metrics}


def finish_epoch(
    model: TransferModel,
    epoch: int,
    validation_data: tf.data.Dataset | tf.distribute.DistributedDataset,
    validation_steps: int,
    callbacks: list[tf.keras.callbacks.Callback],
) -> None:
    """What `model.fit` does after an epoch's last step: for a run that was stopped in its evaluation.

    Args:
      model: The model, whose means are those of the epoch.
      epoch: The epoch, counted from 0.
      validation_data: As for `fit`.
      validation_steps: As for `fit`.
      callbacks: As for `fit`.
    """
    callback_list = tf.keras.callbacks.CallbackList(callbacks, model=model)
    callback_list.on_train_begin()
    callback_list.on_epoch_begin(epoch)
    logs = {name: mean.result().numpy() for name, mean in means(model).items()}
    evaluated = model.evaluate(
        validation_data, steps=validation_steps, verbose=0, return_dict=True, callbacks=callback_list
    )
    callback_list.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in evaluated.items()})
    callback_list.on_train_end()
