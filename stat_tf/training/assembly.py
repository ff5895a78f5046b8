"""From a run's configuration to its parts: the compiled model, its initial weights, its data."""

import tensorflow as tf

from stat_tf import signals as signals_lib
from stat_tf.data import augment, dataset, degrade, shares
from stat_tf.data import info as info_lib
from stat_tf.data import signals as stored_signals
from stat_tf.models import pretrained
from stat_tf.models import recognizer as recognizer_lib
from stat_tf.training import checkpoints, resolve, schedules
from stat_tf.training.run_config import RunConfig
from stat_tf.training.transfer import TransferModel


def build(config: RunConfig, info: info_lib.DatasetInfo) -> TransferModel:
    """The compiled model with fresh weights; call it within the strategy's scope.

    Raises:
      UserError: The teacher's checkpoint is missing or damaged, or the dataset's signals are for another student.
    """
    student = recognizer_lib.build_recognizer(config.recognizer, seed=config.seed, recompute_grad=config.recompute_grad)
    teacher = checkpoints.load_recognizer(config.teacher_run)[0] if config.teacher_run else None
    model = TransferModel(
        student,
        teacher,
        stored_signals=config.from_signals,
        view=config.view,
        weights=resolve.weights_at(config, 0),
        squared=config.distance == "squared",
        temperature=config.temperature,
        labeled=config.labeled,
        accumulation_steps=config.accumulation_steps,
    )
    if config.from_signals and model.transfers:
        grids = signals_lib.stage_grids(student)
        shapes = signals_lib.shapes(grids, config.recognizer.num_segments, len(config.classes))
        stored_signals.check_grids(config.data_dir, info, shapes)
    optimizer = schedules.make_optimizer(
        config.optimizer,
        learning_rate(config, dataset.steps_per_epoch(info, config.train_splits, config.batch_size)),
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        clip_norm=config.clip_norm,
        variables=student.trainable_variables,
        # Without labels nothing holds the classifier where it is; stage stat is to find it as it was.
        undecayed=() if config.labeled or config.soft_label_weight else student.classifier.trainable_variables,
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
    views: tuple[str, ...],
    share: shares.Share | None = None,
    *,
    start_epoch: int = 0,
    start_batch: int = 0,
    epochs: int | None = None,
) -> tf.data.Dataset:
    """The run's training batches from a batch of an epoch on, until `epochs`, by default all, are done.

    With "hr" among the views it is for a teacher: of a run from signals, what the teacher said of that view.
    """
    if config.from_signals:
        return stored_signals.training_dataset(
            config.data_dir,
            info,
            config.train_splits,
            batch_size=config.batch_size,
            seed=config.seed,
            start_epoch=start_epoch,
            start_batch=start_batch,
            num_epochs=epochs or config.epochs,
            with_signals="hr" in views,
            labeled=config.labeled,
            share=share,
        )
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
        share=share,
    )


def evaluation_data(
    config: RunConfig, info: info_lib.DatasetInfo, share: shares.Share | None = None
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
