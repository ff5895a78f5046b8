"""One run from its configuration to its last epoch: builds the parts, resumes, and calls `model.fit`."""

import functools
import os
import shlex

import tensorflow as tf

from stat_tf import errors
from stat_tf.data import augment, dataset, degrade, shares
from stat_tf.data import info as info_lib
from stat_tf.models import pretrained
from stat_tf.models import recognizer as recognizer_lib
from stat_tf.training import callbacks as callbacks_lib
from stat_tf.training import checkpoints, resolve, schedules, strategies
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
    """
    _check_run_dir(config, run_dir)
    strategy = strategies.make_strategy(config.strategy)
    with strategies.explain_lost_worker():
        strategies.check_same_everywhere(strategy, config.identity())
        return _train(config, info, run_dir, strategy)


def _train(
    config: RunConfig, info: info_lib.DatasetInfo, run_dir: str, strategy: tf.distribute.Strategy
) -> checkpoints.Progress | None:
    with strategy.scope():
        model = build(config, info)
    origin = set_initial_weights(model.student, config)
    recorder = _recorder(config, run_dir, model, origin) if strategies.is_chief(strategy) else None
    epochs_done = strategies.number_of_chief(strategy, recorder.progress.epochs_done if recorder else 0)
    strategies.copy_from_chief(strategy, (*model.student.variables, *model.optimizer.variables))
    if epochs_done == config.epochs:
        if recorder:
            print(f"{run_dir} is already trained to its last epoch; nothing is left to do.")
        return recorder and recorder.progress
    batches = functools.partial(training_data, config, info, views=_views(config, model), start_epoch=epochs_done)
    evaluation = {}
    if config.eval_split:
        evaluation = {
            "validation_data": strategies.spread(
                strategy, lambda share: evaluation_data(config, info, share=share), config.batch_size
            ),
            "validation_steps": dataset.steps_per_epoch(info, config.eval_split, config.batch_size),
        }
    with dataset.explain_read_errors(config.data_dir, info):
        model.fit(
            strategies.spread(strategy, lambda share: batches(share=share), config.batch_size),
            initial_epoch=epochs_done,
            epochs=config.epochs,
            steps_per_epoch=dataset.steps_per_epoch(info, "train", config.batch_size),
            callbacks=_callbacks(config, info, run_dir, recorder),
            verbose=0,
            **evaluation,
        )
    # Who leaves while the chief still writes looks like one that was lost.
    strategies.wait_for_all(strategy)
    return recorder and recorder.progress


def _recorder(config: RunConfig, run_dir: str, model: TransferModel, origin: str) -> callbacks_lib.RunRecorder:
    """Restores where the run directory stands, and goes on from there."""
    if not os.path.exists(os.path.join(run_dir, FILE_NAME)):
        # Only now, lest a mistake found until here leaves a run directory that the mended command does not fit.
        config.save(run_dir)
    saved = checkpoints.RunCheckpoints(run_dir, model.student, model.optimizer)
    progress = saved.restore()
    if 0 < progress.epochs_done < config.epochs:
        print(f"Resuming {run_dir} after epoch {progress.epochs_done} of {config.epochs}.")
    elif origin and not progress.epochs_done:
        print(origin)
    return callbacks_lib.RunRecorder(saved, progress)


def build(config: RunConfig, info: info_lib.DatasetInfo) -> TransferModel:
    """The compiled model with fresh weights; call it within the strategy's scope."""
    student = recognizer_lib.build_recognizer(config.recognizer, seed=config.seed, recompute_grad=config.recompute_grad)
    teacher = checkpoints.load_recognizer(config.teacher_run)[0] if config.teacher_run else None
    model = TransferModel(
        student,
        teacher,
        view=config.view,
        weights=resolve.weights_at(config, 0),
        squared=config.distance == "squared",
        accumulation_steps=config.accumulation_steps,
    )
    optimizer = schedules.make_optimizer(
        config.optimizer,
        learning_rate(config, dataset.steps_per_epoch(info, "train", config.batch_size)),
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        variables=student.trainable_variables,
    )
    if config.precision == "float16":
        # Small gradients would be zero in float16: the loss is multiplied, the gradients divided again.
        optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer)
    model.compile(optimizer=optimizer)
    return model


def set_initial_weights(student: recognizer_lib.Recognizer, config: RunConfig) -> str:
    """Gives a fresh network what --init_run or --init_from holds.

    Returns:
      A sentence on where the weights come from and which stay fresh; "" where all do.

    Raises:
      UserError: The weights are missing, damaged or of another network.
    """
    if config.init_run:
        checkpoints.restore_recognizer(student, config.init_run)
        return f"Starting from the best weights of {config.init_run}."
    if config.init_from == "none":
        return ""
    fresh = pretrained.load(student, config.init_from)
    return f"Starting from the weights {config.init_from}; initialised afresh: {'; '.join(fresh)}."


def learning_rate(config: RunConfig, steps_per_epoch: int) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """The run's learning rate by step."""
    common = {"steps_per_epoch": steps_per_epoch, "warmup_epochs": config.warmup_epochs}
    if config.schedule == "cosine":
        return schedules.CosineSchedule(config.learning_rate, epochs=config.epochs, **common)
    return schedules.StepSchedule(
        config.learning_rate, decay_epochs=config.decay_epochs, decay_factor=config.decay_factor, **common
    )


def training_data(
    config: RunConfig,
    info: info_lib.DatasetInfo,
    *,
    views: tuple[str, ...],
    start_epoch: int = 0,
    share: shares.Share | None = None,
) -> tf.data.Dataset:
    """The run's training batches from an epoch to the last, one after another."""
    return dataset.training_dataset(
        config.data_dir,
        info,
        batch_size=config.batch_size,
        augmentation=augment.Augmentation(config.crop_size, config.scales, config.flip, config.color_jitter),
        degradation=degrade.Degradation(config.lr_size, config.lens_blur, config.noise),
        seed=config.seed,
        start_epoch=start_epoch,
        num_epochs=config.epochs,
        stream=config.stream,
        views=views,
        share=share,
    )


def evaluation_data(
    config: RunConfig, info: info_lib.DatasetInfo, *, share: shares.Share | None = None
) -> tf.data.Dataset:
    """The evaluation split's batches, in the student's view."""
    return dataset.evaluation_dataset(
        config.data_dir,
        info,
        config.eval_split,
        batch_size=config.batch_size,
        crop_size=config.crop_size,
        lr_size=config.lr_size,
        stream=config.stream,
        views=(config.view,),
        share=share,
    )


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
    lines.append("Next: python -m stat_tf.evaluate " + shlex.join(f"--{name}={value}" for name, value in flags.items()))
    if config.stage == "student":
        lines.append(
            f"  or: python -m stat_tf.train --stage=stat {shlex.quote(f'--init_run={run_dir}')} --teacher_run=... "
            "--run_dir=... (and this run's other flags)"
        )
    return "\n".join(lines)


def _check_run_dir(config: RunConfig, run_dir: str) -> None:
    """Checks that a run directory is new, or holds this very run and can be written to.

    Raises:
      UserError: It holds a run of other settings, or is read-only.
    """
    if os.path.exists(os.path.join(run_dir, FILE_NAME)):
        config.check_same_run(RunConfig.load(run_dir), run_dir)
        if not os.access(run_dir, os.W_OK):
            raise errors.UserError(f"--run_dir={run_dir} cannot be written to: make it writable to resume its run.")


def _views(config: RunConfig, model: TransferModel) -> tuple[str, ...]:
    return ("hr", "lr") if model.transfers else (config.view,)


def _callbacks(
    config: RunConfig, info: info_lib.DatasetInfo, run_dir: str, recorder: callbacks_lib.RunRecorder | None
) -> list[tf.keras.callbacks.Callback]:
    weights_at = functools.partial(resolve.weights_at, config)
    everywhere = [callbacks_lib.WeightSchedule(weights_at), callbacks_lib.StopOnNonFinite(run_dir)]
    if recorder is None:
        return everywhere
    return [
        *everywhere,
        recorder,
        callbacks_lib.TensorBoardScalars(
            os.path.join(run_dir, "logs"),
            weights_at,
            batch_size=config.batch_size,
            num_clips=info.num_clips("train"),
            log_steps=config.log_steps,
        ),
        callbacks_lib.ProgressBar(config.epochs, dataset.steps_per_epoch(info, "train", config.batch_size)),
    ]
