"""One run from its configuration to its last epoch: puts the parts together, resumes, and calls `model.fit`."""

import contextlib
import functools
import os
import shlex

import tensorflow as tf

from stat_tf import errors, files, processes
from stat_tf.data import dataset
from stat_tf.data import info as info_lib
from stat_tf.training import assembly, checkpoints, preemption, resolve, resumption, snapshot, strategies
from stat_tf.training import callbacks as callbacks_lib
from stat_tf.training.run_config import FILE_NAME, RunConfig
from stat_tf.training.transfer import TransferModel


def set_up_runtime(config: RunConfig) -> None:
    """Sets TensorFlow's process-wide switches; call it once, before anything else uses TensorFlow."""
    if config.deterministic:
        # No global seed: everything random here takes its own, and what forgot to is an error now.
        tf.config.experimental.enable_op_determinism()
    if config.precision != "float32":
        tf.keras.mixed_precision.set_global_policy(f"mixed_{config.precision}")


def train(config: RunConfig, info: info_lib.DatasetInfo, run_dir: str) -> checkpoints.Progress | None:
    """Trains to the last epoch, from wherever the run directory stands.

    Args:
      config: The run.
      info: The description of its dataset.
      run_dir: The run directory; made where it is new. Of several workers, only the chief's is used.

    Returns:
      The finished run's progress; None on a worker that is not the chief.

    Raises:
      UserError: The directory holds another run or cannot be written to, a checkpoint or shard is damaged,
        the loss or a variable is not finite any more, or another worker was lost.
      StoppedBySignal: The process was told to end; its state is kept.
    """
    strategy = strategies.make_strategy(config.strategy)
    with strategies.explain_lost_worker():
        strategies.check_same_everywhere(strategy, config.identity())
        if strategies.is_chief(strategy):
            _check_run_dir(config, run_dir)
        with strategy.scope():
            model = assembly.build(config, info)
        origin = assembly.set_initial_weights(model.student, config)
        with contextlib.ExitStack() as stack, dataset.explain_read_errors(config.data_dir, info):
            run = _Run(config, info, run_dir, model, stack)
            run.resume(origin)
            progress = run.train()
        # Who leaves while the chief still writes looks like one that was lost.
        strategies.wait_for_all(strategy)
    return progress


class _Run:
    """A model in training, and where it stands. Of several workers, the chief alone reads and writes the directory."""

    def __init__(
        self,
        config: RunConfig,
        info: info_lib.DatasetInfo,
        run_dir: str,
        model: TransferModel,
        stack: contextlib.ExitStack,
    ):
        self._config, self._info, self._run_dir, self._model = config, info, run_dir, model
        self._stack = stack  # of what is to be closed when the run ends
        self._strategy = model.distribute_strategy
        self._steps = dataset.steps_per_epoch(info, config.train_splits, config.batch_size)
        self._epochs_done = self._first_step = 0
        self._checkpoints = self._recorder = self._stop_request = None

    def resume(self, origin: str) -> None:
        """Restores what the run directory holds, on every worker."""
        if strategies.is_chief(self._strategy):
            self._read(origin)
        progress = self._recorder.progress if self._recorder else checkpoints.Progress()
        self._epochs_done = strategies.number_of_chief(self._strategy, progress.epochs_done)
        self._first_step = progress.step
        trained = snapshot.variables({"student": self._model.student, "optimizer": self._model.optimizer})
        strategies.copy_from_chief(self._strategy, tuple(trained.values()))

    def train(self) -> checkpoints.Progress | None:
        """Trains from there to the last epoch; the chief returns the progress."""
        if self._first_step:
            # Keras' epochs all have the same number of steps: what remains of this one is a `fit` of its own.
            self._fit(self._epochs_done + 1)
            self._epochs_done, self._first_step = self._epochs_done + 1, 0
        if self._epochs_done < self._config.epochs:
            self._fit(self._config.epochs)
        return self._recorder.progress if self._recorder else None

    def _read(self, origin: str) -> None:
        config, run_dir = self._config, self._run_dir
        if not files.exists(os.path.join(run_dir, FILE_NAME)):
            # Only now, lest a mistake found until here leaves a run directory that the mended command does not fit.
            config.save(run_dir)
        if not files.is_remote(run_dir):
            self._stack.enter_context(processes.locked(run_dir, "stat_tf.train"))
        self._checkpoints = self._stack.enter_context(
            checkpoints.RunCheckpoints(
                run_dir,
                self._model.student,
                self._model.optimizer,
                resumption.means(self._model),
                max_to_keep=config.max_to_keep,
            )
        )
        alone = not strategies.has_workers(self._strategy)
        progress = self._checkpoints.restore(amid_epochs=alone)
        if progress.epochs_done == config.epochs:
            print(f"{run_dir} is already trained to its last epoch; nothing is left to do.")
        elif progress.step:
            epoch = progress.epochs_done + 1
            print(f"Resuming {run_dir} after step {progress.step} of epoch {epoch} of {config.epochs}.")
        elif progress.epochs_done:
            print(f"Resuming {run_dir} after epoch {progress.epochs_done} of {config.epochs}.")
        elif origin:
            print(origin)
        self._recorder = callbacks_lib.RunRecorder(self._checkpoints, progress)
        if alone:
            # Of several workers none can save the others' sums amid an epoch, nor stop without stopping them.
            self._stop_request = self._stack.enter_context(preemption.stop_requests())

    def _fit(self, epochs: int) -> None:
        """Trains until so many epochs are done in all."""
        config, strategy = self._config, self._strategy
        evaluation = {}
        if config.eval_split:
            batches = functools.partial(assembly.evaluation_data, config, self._info)
            evaluation = {
                "validation_data": strategies.spread(strategy, batches, config.batch_size),
                "validation_steps": dataset.steps_per_epoch(self._info, (config.eval_split,), config.batch_size),
            }
        callbacks = self._callbacks()
        if self._first_step == self._steps:
            resumption.finish_epoch(self._model, self._epochs_done, callbacks=callbacks, **evaluation)
            return
        batches = functools.partial(
            assembly.training_data,
            config,
            self._info,
            ("hr", "lr") if self._model.transfers else (config.view,),
            start_epoch=self._epochs_done,
            start_batch=self._first_step,
            epochs=epochs,
        )
        self._model.fit(
            strategies.spread(strategy, batches, config.batch_size),
            initial_epoch=self._epochs_done,
            epochs=epochs,
            steps_per_epoch=self._steps - self._first_step,
            callbacks=callbacks,
            verbose=0,
            **evaluation,
        )

    def _callbacks(self) -> list[tf.keras.callbacks.Callback]:
        config = self._config
        weights_at = functools.partial(resolve.weights_at, config)
        callbacks = [callbacks_lib.WeightSchedule(weights_at), callbacks_lib.StopOnNonFinite(self._run_dir)]
        if self._recorder is None:
            return callbacks
        callbacks += [
            self._recorder,
            callbacks_lib.TensorBoardScalars(
                os.path.join(self._run_dir, "logs"),
                weights_at,
                batch_size=config.batch_size,
                num_clips=self._info.num_clips(*config.train_splits),
                log_steps=config.log_steps,
                first_step=self._first_step,
            ),
            callbacks_lib.ProgressBar(config.epochs, self._steps, self._first_step),
        ]
        if self._stop_request is not None:
            callbacks.append(
                resumption.StepRecorder(
                    self._checkpoints,
                    self._recorder,
                    self._stop_request,
                    run_dir=self._run_dir,
                    steps=self._steps,
                    save_steps=config.checkpoint_steps,
                    epochs=config.epochs,
                )
            )
        return callbacks


def summary(config: RunConfig, run_dir: str, progress: checkpoints.Progress) -> str:
    """What a finished run came to, where things are and what to do next; one line each."""
    last = progress.history[-1]
    lines = [f"Stage {config.stage} is finished: {progress.epochs_done} epochs, {last['step']} steps."]
    if config.eval_split:
        lines.append(
            f"prec@1 on split {config.eval_split}: best {progress.best_value:.2%} (epoch {progress.best_epoch}), "
            f"last {last['val_prec@1']:.2%}"
        )
    lines.append(f"Checkpoints, history.jsonl and TensorBoard logs: {run_dir}")
    flags = {"run_dir": run_dir, "data_dir": config.data_dir, "split": config.eval_split or "test"}
    evaluate = "python -m stat_tf.evaluate " + shlex.join(f"--{name}={value}" for name, value in flags.items())
    teacher = f"--signals={shlex.quote(config.data_dir)}" if config.from_signals else "--teacher_run=..."
    transfer = (
        f"python -m stat_tf.train --stage=stat {shlex.quote(f'--init_run={run_dir}')} {teacher} "
        "--run_dir=... (and this run's other flags)"
    )
    # The classifier has not followed what stage unsupervised has moved.
    following = {"student": [evaluate, transfer], "unsupervised": [transfer]}.get(config.stage, [evaluate])
    lines.append("Next: " + "\n  or: ".join(following))
    return "\n".join(lines)


def _check_run_dir(config: RunConfig, run_dir: str) -> None:
    """Checks that a run directory is new, or holds this very run and can be written to.

    Raises:
      UserError: It holds a run of other settings, or is read-only.
    """
    if files.exists(os.path.join(run_dir, FILE_NAME)):
        config.check_same_run(RunConfig.load(run_dir), run_dir)
        if not (files.is_remote(run_dir) or os.access(run_dir, os.W_OK)):
            raise errors.UserError(f"--run_dir={run_dir} cannot be written to: make it writable to resume its run.")
