"""Learning rate and optimizer (section 4.2). Rates are functions of the step alone, so a resumed run needs no state."""

import math
from collections.abc import Sequence

import tensorflow as tf


class StepSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then the rate divided every so many epochs, counted from the first of all."""

    def __init__(
        self, rate: float, *, steps_per_epoch: int, warmup_epochs: float, decay_epochs: float, decay_factor: float
    ):
        """Fixes the schedule.

        Args:
          rate: Learning rate after warm-up.
          steps_per_epoch: Steps in an epoch.
          warmup_epochs: Step s of W warm-up steps has (s + 1) / W of the rate; 0 for no warm-up.
          decay_epochs: Epochs between two steps down.
          decay_factor: What each multiplies the rate by.
        """
        self._rate = rate
        self._warmup_steps = warmup_epochs * steps_per_epoch
        self._decay_steps = decay_epochs * steps_per_epoch
        self._decay_factor = decay_factor

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of a step (counted from 0), float32 scalar."""
        step = tf.cast(step, tf.float32)
        rate = self._rate * self._decay_factor ** tf.floor(step / self._decay_steps)
        return rate * _warmup(step, self._warmup_steps)


class CosineSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then half a cosine down to zero at the end of the last epoch."""

    def __init__(self, rate: float, *, steps_per_epoch: int, warmup_epochs: float, epochs: int):
        """Fixes the schedule; see `StepSchedule`. `epochs` counts warm-up too."""
        self._rate = rate
        self._warmup_steps = warmup_epochs * steps_per_epoch
        self._decay_steps = max(1.0, epochs * steps_per_epoch - self._warmup_steps)

    def __call__(self, step: tf.Tensor) -> tf.Tensor:
        """The rate of a step (counted from 0), float32 scalar."""
        step = tf.cast(step, tf.float32)
        done = tf.clip_by_value((step - self._warmup_steps) / self._decay_steps, 0.0, 1.0)
        return self._rate * 0.5 * (1.0 + tf.cos(math.pi * done)) * _warmup(step, self._warmup_steps)


def _warmup(step: tf.Tensor, warmup_steps: float) -> tf.Tensor:
    return tf.minimum(1.0, (step + 1.0) / max(1.0, warmup_steps))


def make_optimizer(
    name: str,
    rate: tf.keras.optimizers.schedules.LearningRateSchedule,
    *,
    momentum: float,
    weight_decay: float,
    clip_norm: float,
    variables: Sequence[tf.Variable],
    undecayed: Sequence[tf.Variable] = (),
) -> tf.keras.optimizers.Optimizer:
    """The optimizer, built on its variables so that a checkpoint restores at once.

    SGD's decay is Keras' own, not `tfa.optimizers.SGDW`: that is a legacy optimizer, whose decay
    does not follow the rate unless a second schedule is kept beside the first.

    Args:
      name: "sgd" or "adamw".
      rate: Learning rate by step.
      momentum: Of SGD; AdamW ignores it.
      weight_decay: Decoupled, times the rate. Vectors (biases, normalisation) are not decayed.
      clip_norm: Largest global norm of the gradient, over all replicas; 0 for no clipping.
      variables: What is trained.
      undecayed: Which of them are not decayed either.
    """
    # XLA is slower than graph mode for these models on CPU.
    common = {"weight_decay": weight_decay, "global_clipnorm": clip_norm or None, "jit_compile": False}
    if name == "sgd":
        optimizer = tf.keras.optimizers.SGD(rate, momentum=momentum, **common)
    else:
        optimizer = tf.keras.optimizers.AdamW(rate, **common)
    vectors = [variable for variable in variables if variable.shape.rank < 2]
    optimizer.exclude_from_weight_decay(var_list=[*vectors, *undecayed])
    optimizer.build(variables)
    return optimizer
