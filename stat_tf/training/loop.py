"""One run from its configuration to its last epoch: builds the parts, resumes, and calls `model.fit`."""

import functools
import os
import shlex

import tensorflow as tf

from stat_tf import errors
from stat_tf.data import augment, dataset, degrade
from stat_tf.data import info as info_lib
from stat_tf.models import pretrained
from stat_tf.models import recognizer as recognizer_lib
from stat_tf.training import callbacks as callbacks_lib
from stat_tf.training import checkpoints, preemption, resolve, resumption, schedules
from stat_tf.training.run_config import FILE_NAME, RunConfig
from stat_tf.training.transfer import TransferModel, fill_replicas


def set_up_runtime(config: RunConfig) -> None:
    """Sets TensorFlow's process-wide switches; call it once, before anything else uses TensorFlow."""
    if config.deterministic:
        # No global seed: everything random here takes its own, and what forgot to is an error now.
        tf.config.experimental.enable_op_determinism()
    if config.precision != "float32":
        tf.keras.mixed_precision.set_global_policy(f"mixed_{config.precision}")


def train(config: RunConfig, info: info_lib.DatasetInfo, run_dir: str) -> checkpoints.Progress:
    """Trains to the last epoch, from wherever the run directory stands.

    Args:
      config: The run.
      info: The description of its dataset.
      run_dir: The run directory; made where it is new.

    Returns:
      The finished run's progress.

    Raises:
      UserError: The directory holds another run or cannot be written to, a checkpoint or shard is damaged, or
        the loss or a variable is not finite any more.
      StoppedBySignal: The process was told to end; its state is kept.
    """
    _check_run_dir(config, run_dir)
    strategy = make_strategy(config.strategy)
    with strategy.scope():
        model = build(config, info)
    origin = set_initial_weights(model.student, config)
    if not os.path.exists(os.path.join(run_dir, FILE_NAME)):
        # Only now, lest a mistake found until here leaves a run directory that the mended command does not fit.
        config.save(run_dir)
    saved = checkpoints.RunCheckpoints(
        run_dir, model.student, model.optimizer, resumption.means(model), max_to_keep=config.max_to_keep
    )
    progress = saved.restore()
    if progress.epochs_done == config.epochs:
        print(f"{run_dir} is already trained to its last epoch; nothing is left to do.")
        return progress
    if progress.step:
        print(f"Resuming {run_dir} after step {progress.step} of epoch {progress.epochs_done + 1} of {config.epochs}.")
    elif progress.epochs_done:
        print(f"Resuming {run_dir} after epoch {progress.epochs_done} of {config.epochs}.")
    elif origin:
        print(origin)
    recorder = callbacks_lib.RunRecorder(saved, progress)
    with saved, preemption.stop_requests() as request, dataset.explain_read_errors(config.data_dir, info):
        fit = functools.partial(_fit, config, info, run_dir, model, saved, recorder, request)
        if progress.step:
            # Keras' epochs all have the same number of steps: what remains of this one is a `fit` of its own.
            fit(progress.epochs_done + 1)
        if recorder.progress.epochs_done < config.epochs:
            fit(config.epochs)
    return recorder.progress


def _fit(
    config: RunConfig,
    info: info_lib.DatasetInfo,
    run_dir: str,
    model: TransferModel,
    saved: checkpoints.RunCheckpoints,
    recorder: callbacks_lib.RunRecorder,
    request: preemption.StopRequest,
    epochs: int,
) -> None:
    """Trains from where `recorder` stands until so many epochs are done in all."""
    progress, steps = recorder.progress, dataset.steps_per_epoch(info, config.train_splits, config.batch_size)
    strategy = model.distribute_strategy
    evaluation_batches = _spread(evaluation_data(config, info), strategy) if config.eval_split else None
    callbacks = [
        *_callbacks(config, info, run_dir, recorder),
        resumption.StepRecorder(
            saved,
            recorder,
            request,
            run_dir=run_dir,
            steps=steps,
            save_steps=config.checkpoint_steps,
            epochs=config.epochs,
        ),
    ]
    if progress.step == steps:
        resumption.finish_epoch(model, progress.epochs_done, evaluation_batches, callbacks)
        return
    batches = training_data(
        config,
        info,
        views=_views(config, model),
        start_epoch=progress.epochs_done,
        start_batch=progress.step,
        epochs=epochs,
    )
    model.fit(
        _spread(batches, strategy),
        initial_epoch=progress.epochs_done,
        epochs=epochs,
        steps_per_epoch=steps - progress.step,
        validation_data=evaluation_batches,
        callbacks=callbacks,
        verbose=0,
    )


def make_strategy(name: str) -> tf.distribute.Strategy:
    """The strategy for "auto" (mirrored where there are several GPUs), "one_device" or "mirrored"."""
    if name == "mirrored" or (name == "auto" and len(tf.config.list_logical_devices("GPU")) > 1):
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


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
        temperature=config.temperature,
        confidence_weighting=config.confidence_weighting,
        label_smoothing=config.label_smoothing,
        labeled=config.labeled,
        accumulation_steps=config.accumulation_steps,
    )
    optimizer = schedules.make_optimizer(
        config.optimizer,
        learning_rate(config, dataset.steps_per_epoch(info, config.train_splits, config.batch_size)),
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
    start_batch: int = 0,
    epochs: int | None = None,
) -> tf.data.Dataset:
    """The run's training batches from a batch of an epoch on, until `epochs`, by default all, are done."""
    return dataset.training_dataset(
        config.data_dir,
        info,
        config.train_splits,
        batch_size=config.batch_size,
        augmentation=augment.Augmentation(config.crop_size, config.scales, config.flip, config.color_jitter),
        degradation=degrade.Degradation(config.lr_size, config.lens_blur, config.noise),
        seed=config.seed,
        start_epoch=start_epoch,
        start_batch=start_batch,
        num_epochs=epochs or config.epochs,
        stream=config.stream,
        views=views,
        labeled=config.labeled,
        mixup=config.mixup,
    )


def evaluation_data(config: RunConfig, info: info_lib.DatasetInfo) -> tf.data.Dataset:
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
    if config.stage in ("student", "unsupervised"):
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


def _spread(batches: tf.data.Dataset, strategy: tf.distribute.Strategy) -> tf.data.Dataset:
    """Batches that Keras can split evenly over the replicas."""
    replicas = strategy.num_replicas_in_sync
    return batches.map(lambda batch: fill_replicas(batch, replicas)) if replicas > 1 else batches


def _views(config: RunConfig, model: TransferModel) -> tuple[str, ...]:
    return ("hr", "lr") if model.transfers else (config.view,)


def _callbacks(
    config: RunConfig, info: info_lib.DatasetInfo, run_dir: str, recorder: callbacks_lib.RunRecorder
) -> list[tf.keras.callbacks.Callback]:
    weights_at = functools.partial(resolve.weights_at, config)
    return [
        callbacks_lib.WeightSchedule(weights_at),
        callbacks_lib.StopOnNonFinite(run_dir),
        recorder,
        callbacks_lib.TensorBoardScalars(
            os.path.join(run_dir, "logs"),
            weights_at,
            batch_size=config.batch_size,
            num_clips=info.num_clips(*config.train_splits),
            log_steps=config.log_steps,
            first_step=recorder.progress.step,
        ),
        callbacks_lib.ProgressBar(
            config.epochs, dataset.steps_per_epoch(info, config.train_splits, config.batch_size), recorder.progress.step
        ),
    ]
