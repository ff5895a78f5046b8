"""Training a recognizer from labels and, in stages `stat` and `unsupervised`, from a frozen teacher (eq. 4)."""

import tensorflow as tf

from stat_tf import attention, distillation
from stat_tf import signals as signals_lib
from stat_tf.data.record import UNLABELED
from stat_tf.models import global_batch, layers
from stat_tf.models.recognizer import Activations, Recognizer
from stat_tf.weighting import LossWeights

_NUM_STAGES = 4
_TAT_LAYERS = ("hidden", "logits")
SAT_METRICS = tuple(f"sat_{i}" for i in range(1, _NUM_STAGES + 1))
TAT_METRICS = tuple(f"tat_{name}" for name in _TAT_LAYERS)
_LABEL_METRICS = ("ce", "prec@1", "prec@5")
EVAL_METRICS = ("loss", *_LABEL_METRICS)


class TransferModel(tf.keras.Model):
    """A student with its losses, for `model.fit`.

    The teacher runs in inference mode, outside the gradient tape, and is no part of this model: its
    variables are neither among `trainable_variables` nor in a checkpoint or export.

    Every loss is a float32 value a clip, and the gradient is of their sum over all replicas divided
    by the clips on all replicas. Batch normalisation is over all replicas, and dropout goes by a clip's
    position in the batch. A step therefore depends neither on how clips were spread nor on whether the
    last batch is full; only where trained batch normalisation meets `accumulation_steps`, each part on
    each replica is normalised by itself. Metrics count clips likewise. A clip without a label has no
    cross-entropy, and no part in the means of what needs a label.

    Batches are dicts of `label` (int64 [B]), the student's view (uint8 [B, K, T, h, w, C]), with a
    teacher `hr` (uint8 [B, K, T, H, W, C]) or its stored signals (float16 [B, ...] by `signals.NAMES`) and,
    on several replicas, what `data.shares` adds: `position` (int64 [B]), in the global batch, and `weight`
    (float32 [B]), all 1, or all 0 for a filler.
    """

    def __init__(
        self,
        student: Recognizer,
        teacher: Recognizer | None = None,
        *,
        stored_signals: bool = False,
        view: str = "lr",
        weights: LossWeights,
        squared: bool = False,
        temperature: float = 3.0,
        labeled: bool = True,
        accumulation_steps: int = 1,
    ):
        """Joins student and teacher.

        Args:
          student: The network to train.
          teacher: Its teacher. Not run at all where no term that needs it has a weight.
          stored_signals: Whether batches hold a teacher's signals, in place of a teacher.
          view: The student's frames: "hr" or "lr".
          weights: Those of the first epoch.
          squared: Whether distances are squared (the text of section 3.2) or not (eq. 2 and 3).
          temperature: Of the soft labels.
          labeled: Whether clips have labels; without, the metrics that need them are left out.
          accumulation_steps: Parts in which a replica's share of a batch goes through the networks,
            one after another; their gradients are added up for one update.

        Raises:
          ValueError: A term that needs a teacher has a weight and there is none.
        """
        super().__init__(name="transfer")
        self.student = student
        self._view = view
        self._squared = squared
        self._temperature = temperature
        self._accumulation_steps = accumulation_steps
        # A bound method is no trackable attribute: Keras and checkpoints do not look behind it.
        self._teacher_activations = teacher.activations if teacher is not None and weights.transfers else None
        self._stored_signals = stored_signals and weights.transfers
        # In variables, so that a change of weights does not trace the step again.
        self._term_weights = tf.Variable(
            _flat(weights), trainable=False, name="loss_weights", aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA
        )
        self.assign_weights(weights)
        names = EVAL_METRICS if labeled else ("loss",)
        if self.transfers:
            names = (*names, "sat", "tat", *SAT_METRICS, *TAT_METRICS)
            names += ("soft_labels",) if weights.soft_labels > 0 else ()
        self._means = {name: tf.keras.metrics.Mean(name=name) for name in names}

    @property
    def transfers(self) -> bool:
        """Whether a teacher takes part in training."""
        return self._teacher_activations is not None or self._stored_signals

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """Means over clips: the total loss, its unweighted terms, prec@1 and prec@5."""
        return list(self._means.values())

    def assign_weights(self, weights: LossWeights) -> None:
        """Puts other loss weights in force, without tracing the step again.

        Raises:
          ValueError: A term that needs a teacher has a weight and there is none.
        """
        if weights.transfers and not self.transfers:
            raise ValueError("SAT, TAT and soft labels need a teacher from the first epoch on.")
        self._term_weights.assign(_flat(weights))

    def call(self, clips: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The student's logits, float32 [B, classes]."""
        return self.student(clips, training=training)

    def train_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """One update of the student; returns the means so far in this epoch."""
        replica = tf.distribute.get_replica_context()
        clips = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.reduce_sum(_weight(batch)))
        if self._accumulation_steps > 1:
            gradients = self._accumulated_gradients(batch, clips)
        else:
            alone = replica.num_replicas_in_sync == 1
            with global_batch.entered(None if alone else _part(batch, clips, whole=True, last=True)):
                gradients = self._gradients(batch, clips)
        if isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
            gradients = self.optimizer.get_unscaled_gradients(gradients)
        # The optimizer sums gradients over replicas.
        self.optimizer.apply_gradients(zip(gradients, self.student.trainable_variables, strict=True))
        return {name: mean.result() for name, mean in self._means.items()}

    def _gradients(self, batch: dict[str, tf.Tensor], clips: tf.Tensor) -> list[tf.Tensor]:
        """The gradients of some clips' share of the loss over `clips` clips, and their count in the metrics.

        Under float16 the gradients bear the optimizer's loss scale.
        """
        run_teacher = self._teacher_activations
        teacher = run_teacher(batch["hr"], training=False) if run_teacher is not None else None
        with tf.GradientTape() as tape:
            student = self.student.activations(batch[self._view], training=True)
            terms = self._loss_terms(student, self._signals(batch, teacher, student), batch)
            loss = tf.reduce_sum(_weight(batch) * terms["loss"]) / clips
            if isinstance(self.optimizer, tf.keras.mixed_precision.LossScaleOptimizer):
                loss = self.optimizer.get_scaled_loss(loss)
        self._update_metrics(terms, student.logits, batch)
        return tape.gradient(loss, self.student.trainable_variables)

    def _accumulated_gradients(self, batch: dict[str, tf.Tensor], clips: tf.Tensor) -> list[tf.Tensor]:
        """`_gradients` of a batch, part by part, so that only one part's activations are in memory at a time."""
        size = tf.size(batch["label"])
        batch = {"position": tf.range(tf.cast(size, tf.int64))} | batch
        part = tf.math.floordiv(size + self._accumulation_steps - 1, self._accumulation_steps)

        def add_part(start, *sums):
            end = start + part
            clips_of_part = {name: values[start:end] for name, values in batch.items()}
            with global_batch.entered(_part(clips_of_part, clips, whole=False, last=end >= size)):
                gradients = self._gradients(clips_of_part, clips)
            return end, *(total + gradient for total, gradient in zip(sums, gradients, strict=True))

        zeros = [tf.zeros_like(variable) for variable in self.student.trainable_variables]
        _, *sums = tf.while_loop(lambda start, *_: start < size, add_part, [0, *zeros], parallel_iterations=1)
        if tf.distribute.get_replica_context().num_replicas_in_sync > 1:
            # Outside of the loop, in which replicas cannot meet.
            layers.average_moving_statistics(self.student, _weight(batch)[0])
        return sums

    def test_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Cross-entropy and precision of the student alone; `loss` is the cross-entropy."""
        logits = self.student(batch[self._view], training=False)
        cross_entropy = _cross_entropy(batch["label"], logits)
        self._update_metrics({"loss": cross_entropy, "ce": cross_entropy}, logits, batch)
        return {name: self._means[name].result() for name in EVAL_METRICS}

    def _signals(
        self, batch: dict[str, tf.Tensor], teacher: Activations | None, student: Activations
    ) -> signals_lib.Signals | None:
        if teacher is not None:
            return signals_lib.of_activations(teacher, [attention.grid_of(stage) for stage in student.stages])
        return signals_lib.of_batch(batch) if self._stored_signals else None

    def _loss_terms(
        self, student: Activations, teacher: signals_lib.Signals | None, batch: dict[str, tf.Tensor]
    ) -> dict[str, tf.Tensor]:
        """Equation 4 and its terms, each float32 [B]; the terms without the overall weights."""
        ce_weight, sat_weight, tat_weight, soft_weight, *layer_weights = tf.unstack(self._term_weights)
        cross_entropy = _cross_entropy(batch["label"], student.logits)
        if teacher is None:
            return {"ce": cross_entropy, "loss": ce_weight * cross_entropy}
        sat = attention.map_distances(student.stages, teacher.maps, self._squared)
        # Mean over a clip's segments.
        sat = tf.reduce_mean(tf.reshape(sat, [_NUM_STAGES, -1, self.student.config.num_segments]), axis=2)
        tat = attention.tat_distances(
            (student.tam_hidden, student.tam_logits), (teacher.tam_hidden, teacher.tam_logits), self._squared
        )
        terms = {
            "ce": cross_entropy,
            "sat": tf.tensordot(tf.stack(layer_weights[:_NUM_STAGES]), sat, 1),
            "tat": tf.tensordot(tf.stack(layer_weights[_NUM_STAGES:]), tat, 1),
            **dict(zip(SAT_METRICS, tf.unstack(sat), strict=True)),
            **dict(zip(TAT_METRICS, tf.unstack(tat), strict=True)),
        }
        transfer = sat_weight * terms["sat"] + tat_weight * terms["tat"]
        if "soft_labels" in self._means:
            terms["soft_labels"] = distillation.soft_label_loss(student.logits, teacher.logits, self._temperature)
            transfer += soft_weight * terms["soft_labels"]
        terms["loss"] = ce_weight * cross_entropy + transfer
        return terms

    def _update_metrics(self, terms: dict[str, tf.Tensor], logits: tf.Tensor, batch: dict[str, tf.Tensor]) -> None:
        values = {
            **terms,
            "prec@1": _hits(batch["label"], logits, 1),
            "prec@5": _hits(batch["label"], logits, 5),
        }
        weight, labeled_weight = _weight(batch), _weight(batch) * _labeled(batch["label"])
        for name, mean in self._means.items():
            if name in values:
                mean.update_state(values[name], sample_weight=labeled_weight if name in _LABEL_METRICS else weight)


def _part(batch: dict[str, tf.Tensor], clips: tf.Tensor, *, whole: bool, last: tf.Tensor | bool) -> global_batch.Part:
    return global_batch.Part(batch["position"], tf.cast(clips, tf.int64), _weight(batch)[0], whole, last)


def _weight(batch: dict[str, tf.Tensor]) -> tf.Tensor:
    return batch["weight"] if "weight" in batch else tf.ones_like(batch["label"], tf.float32)


def _labeled(labels: tf.Tensor) -> tf.Tensor:
    """float32 [B]: 1 for a clip with a label, 0 for one without."""
    return tf.cast(labels != UNLABELED, tf.float32)


def _cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """float32 [B]; 0 for a clip without a label."""
    known = tf.maximum(labels, 0)
    logits = tf.cast(logits, tf.float32)
    return _labeled(labels) * tf.nn.sparse_softmax_cross_entropy_with_logits(known, logits)


def _hits(labels: tf.Tensor, logits: tf.Tensor, k: int) -> tf.Tensor:
    """Whether each label is among the k largest logits, 0 or 1, float32 [B]; a row with NaN is no hit.

    Of equal logits the lower class is the larger, as in `stat_tf.inference.metrics`. `tf.math.in_top_k` counts
    ties as hits, so that a network that has collapsed would be right about every clip.
    """
    labels = tf.cast(tf.maximum(labels, 0), tf.int32)[:, tf.newaxis]
    own = tf.gather(logits, labels, batch_dims=1)
    lower = tf.range(tf.shape(logits)[1]) < labels
    ahead = (logits > own) | ((logits == own) & lower)
    in_top = tf.math.count_nonzero(ahead, axis=1) < k
    return tf.cast(in_top & ~tf.reduce_any(tf.math.is_nan(logits), axis=1), tf.float32)


def _flat(weights: LossWeights) -> list[float]:
    return [weights.ce, weights.sat, weights.tat, weights.soft_labels, *weights.sat_stages, *weights.tat_layers]
