"""The training step: equation 4, the teacher's part in it, traces, metrics, parts of a batch."""

import json
import pathlib
import runpy
import types

import numpy as np
import pytest
import tensorflow as tf

from stat_tf.inference import metrics
from stat_tf.models import recognizer as recognizer_lib
from stat_tf.training.transfer import TransferModel
from stat_tf.weighting import LossWeights, rolling_weights
from tests import runs

WEIGHTS = LossWeights(0.5, 0.3, 0.2, (0.1, 0.2, 0.3, 0.4), (0.6, 0.4))
CLASSES = 7
GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
ROWS = json.loads((GOLDEN / "losses.json").read_text())
# Of these, each stage of the teacher has whole cells for the native student's grid.
LR, HR = (8, 8), (64, 64)


def recognizer(size, seed, **changes):
    config = recognizer_lib.RecognizerConfig(
        backbone="resnet18",
        num_classes=CLASSES,
        num_segments=2,
        num_frames=1,
        frame_size=size,
        network_size=size,
        native=size == LR,
        width=0.125,
        **changes,
    )
    return recognizer_lib.build_recognizer(config, seed=seed)


def make_model(weights=WEIGHTS, *, kind=TransferModel, rate=0.01, **changes):
    model = kind(recognizer(LR, seed=1), recognizer(HR, seed=2), weights=weights, **changes)
    model.compile(optimizer=tf.keras.optimizers.SGD(rate, jit_compile=False))
    return model


def batches(*sizes, seed=0):
    generator = np.random.default_rng(seed)
    return [
        {
            "id": np.array([f"clip {n}" for n in range(size)]),
            "label": generator.integers(0, CLASSES, size),
            "hr": generator.integers(0, 256, (size, 2, 1, *HR, 3), np.uint8),
            "lr": generator.integers(0, 256, (size, 2, 1, *LR, 3), np.uint8),
        }
        for size in sizes
    ]


def fit(model, data, **changes):
    """One epoch of the batches as they are, through `model.fit`; returns its logs."""
    spec = {name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in data[0].items()}
    spec["id"] = tf.TensorSpec([None], tf.string)
    dataset = tf.data.Dataset.from_generator(lambda: iter(data), output_signature=spec)
    # As in training: at a dataset of unknown length Keras would begin one more step.
    history = model.fit(dataset, steps_per_epoch=len(data), verbose=0, **changes).history
    return {name: values[0] for name, values in history.items()}


def unit(values):
    values = np.float64(values).reshape(len(values), -1)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def pooled_map(stage, grid):
    """Equation 1, brought to a grid by averaging whole cells."""
    attention = np.abs(np.float64(stage)).sum(-1)[:, 0]
    cells = attention.reshape(len(attention), grid[0], attention.shape[1] // grid[0], grid[1], -1)
    return cells.mean((2, 4))


def numpy_terms(model, teacher, batch, power):
    """Equations 2 to 4 of one batch, written out in NumPy; `power` squares the distances."""
    student = model.student.activations(batch["lr"], training=True)
    teacher = teacher.activations(batch["hr"], training=False)
    logits = np.float64(student.logits)
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    terms = {"ce": -log_softmax[np.arange(len(logits)), batch["label"]].mean()}
    for i, (ours, theirs) in enumerate(zip(student.stages, teacher.stages), 1):
        ours = np.abs(np.float64(ours)).sum(-1)[:, 0]
        gap = np.linalg.norm(unit(ours) - unit(pooled_map(theirs, ours.shape[1:])), axis=1)
        terms[f"sat_{i}"] = (gap**power).mean()
    for name in ("hidden", "logits"):
        ours, theirs = getattr(student, f"tam_{name}"), getattr(teacher, f"tam_{name}")
        terms[f"tat_{name}"] = (np.linalg.norm(unit(ours) - unit(theirs), axis=1) ** power).mean()
    terms["sat"] = sum(w * terms[f"sat_{i}"] for i, w in enumerate(WEIGHTS.sat_stages, 1))
    terms["tat"] = sum(w * terms[f"tat_{name}"] for w, name in zip(WEIGHTS.tat_layers, ("hidden", "logits")))
    terms["loss"] = WEIGHTS.ce * terms["ce"] + WEIGHTS.sat * terms["sat"] + WEIGHTS.tat * terms["tat"]
    return terms


@pytest.fixture(scope="module")
def golden_inputs():
    return runpy.run_path(str(GOLDEN / "losses.py"))["inputs"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['seed']}-{row['epoch']}-{row['squared']}")
def test_terms_and_total_equal_the_papers_equations_in_float64(row, golden_inputs):
    """Rolling weights of each turn, and a third for each term (eq. 4)."""
    blocks, outputs, logits, labels = golden_inputs(row["seed"])
    segments = outputs["student"][1].shape[1]

    def activations(who):
        floats = [tf.constant(values, tf.float32) for values in (logits, *outputs[who])]
        stages = tuple(tf.constant(block, tf.float32) for block in blocks[who])
        return recognizer_lib.Activations(floats[0], None, stages, *floats[1:], None)

    student = types.SimpleNamespace(config=types.SimpleNamespace(num_segments=segments))
    teacher = types.SimpleNamespace(activations=object())  # any: this test hands them over itself
    model = TransferModel(student, teacher, weights=LossWeights(), squared=row["squared"])
    model.assign_weights(rolling_weights(row["epoch"]))
    of_student = activations("student")
    signals = model._signals({}, activations("teacher"), of_student)
    terms = model._loss_terms(of_student, signals, {"label": tf.constant(labels)})
    for name, golden in {"ce": "ce", "sat": "l_sat", "tat": "l_tat", "loss": "total"}.items():
        assert terms[name].dtype == tf.float32
        assert float(tf.reduce_mean(terms[name])) == pytest.approx(row[golden], abs=1e-5), name
    for i in range(4):
        assert float(tf.reduce_mean(terms[f"sat_{i + 1}"])) == pytest.approx(row["sat"][i], abs=1e-5)


def logged_precisions(logits, labels):
    """What the model logs as prec@1 and prec@5 of one batch of logits."""
    model = TransferModel(recognizer(LR, seed=1), weights=LossWeights(1, 0, 0))
    batch = {"label": tf.constant(labels, tf.int64)}
    model._update_metrics({}, tf.constant(logits, tf.float32), batch)
    precisions = {mean.name: float(mean.result()) for mean in model.metrics}
    return precisions["prec@1"], precisions["prec@5"]


def test_ties_count_as_in_the_evaluation():
    generator = np.random.default_rng(0)
    logits = generator.integers(0, 3, (200, 9)).astype(np.float32)
    labels = generator.integers(0, 9, 200)
    expected = [metrics.precision_at_k(logits, labels, k) for k in (1, 5)]
    assert logged_precisions(logits, labels) == pytest.approx(expected, abs=1e-6)
    # A collapsed network is right about one class of nine, not about all.
    labels = np.arange(9)
    assert logged_precisions(np.zeros((9, 9)), labels) == pytest.approx((1 / 9, 5 / 9))


def test_not_a_number_is_no_hit():
    own, other = np.zeros((2, 7)), np.zeros((2, 7))
    own[:, 1], other[:, 6] = np.nan, np.nan
    assert logged_precisions(own, [1, 1]) == logged_precisions(other, [0, 0]) == (0, 0)


@pytest.mark.parametrize("squared", [False, True])
def test_loss_is_equation_4_written_out_in_numpy(squared):
    student, teacher = recognizer(LR, seed=1), recognizer(HR, seed=2)
    model = TransferModel(student, teacher, weights=WEIGHTS, squared=squared)
    model.compile(optimizer=tf.keras.optimizers.SGD(0.01, jit_compile=False))
    [batch] = batches(3)
    expected = numpy_terms(model, teacher, batch, power=2 if squared else 1)
    logs = fit(model, [batch])
    for name, value in expected.items():
        assert logs[name] == pytest.approx(value, abs=1e-4), name


def first_step(batch, weights=WEIGHTS, **changes):
    """The logs and the student's weights after one step, batch normalisation frozen."""
    model = make_model(weights, **changes)
    runs.freeze_batch_norm(model)
    logs = fit(model, [batch])
    return logs, [variable.numpy() for variable in model.student.trainable_variables]


def test_unlabeled_clips_have_no_cross_entropy_and_no_part_in_precision():
    [batch] = batches(6)
    labeled = {name: values[:4] for name, values in batch.items()}
    batch["label"][4:] = -1
    logs, weights = first_step(batch, LossWeights(1, 0, 0))
    alone, weights_alone = first_step(labeled, LossWeights(1, 0, 0))
    assert logs["ce"] == pytest.approx(alone["ce"], rel=1e-5)
    assert logs["prec@1"] == alone["prec@1"] and logs["prec@5"] == alone["prec@5"]
    # The loss is a mean over all clips, so that the step is 4/6 as long.
    assert logs["loss"] == pytest.approx(alone["loss"] * 4 / 6, rel=1e-5)
    untrained = make_model()
    runs.freeze_batch_norm(untrained)
    start = [variable.numpy() for variable in untrained.student.trainable_variables]
    for before, after, after_alone in zip(start, weights, weights_alone, strict=True):
        np.testing.assert_allclose(after - before, (after_alone - before) * 4 / 6, rtol=1e-3, atol=1e-7)


def test_without_labels_nothing_of_them_is_logged():
    [batch] = batches(4)
    batch["label"][:] = -1
    logs, _ = first_step(batch, LossWeights(0, 0.5, 0.5), labeled=False)
    assert set(logs) == {"loss", "sat", "tat", *(f"sat_{i}" for i in range(1, 5)), "tat_hidden", "tat_logits"}
    assert logs["loss"] == pytest.approx(0.5 * logs["sat"] + 0.5 * logs["tat"], rel=1e-5)


def logits_of(model, batch):
    student = model.student.activations(batch["lr"], training=True).logits
    return tf.cast(student, tf.float32), model._teacher_activations(batch["hr"], training=False).logits


def test_soft_labels_are_added_by_their_weight():
    [batch] = batches(4)
    weights = LossWeights(0.5, 0.3, 0.2, soft_labels=0.7)
    model = make_model(weights, temperature=2.0)
    runs.freeze_batch_norm(model)
    student, teacher = (np.float64(tf.nn.softmax(logits / 2.0)) for logits in logits_of(model, batch))
    expected = 4.0 * (teacher * np.log(teacher / student)).sum(axis=1).mean()
    logs = fit(model, [batch])
    assert logs["soft_labels"] == pytest.approx(expected, rel=1e-4)
    total = 0.5 * logs["ce"] + 0.3 * logs["sat"] + 0.2 * logs["tat"] + 0.7 * logs["soft_labels"]
    assert logs["loss"] == pytest.approx(total, rel=1e-5)


def test_teacher_is_frozen_and_no_part_of_the_model():
    student, teacher = recognizer(LR, seed=1), recognizer(HR, seed=2)
    model = TransferModel(student, teacher, weights=WEIGHTS)
    model.compile(optimizer=tf.keras.optimizers.SGD(0.1, jit_compile=False))
    before = [variable.numpy() for variable in teacher.variables]
    student_before = [variable.numpy() for variable in student.trainable_variables]
    fit(model, batches(4, 4))
    for variable, value in zip(teacher.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.name)
    assert all(np.any(v.numpy() != old) for v, old in zip(student.trainable_variables, student_before, strict=True))
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in student.trainable_variables}
    assert not {id(v) for v in model.variables} & {id(v) for v in teacher.variables}


def test_checkpoint_of_the_whole_model_holds_no_teacher(tmp_path):
    model = make_model()
    fit(model, batches(2))
    with_teacher = tf.train.list_variables(tf.train.Checkpoint(model=model).write(str(tmp_path / "with")))
    alone = TransferModel(recognizer(LR, seed=1), weights=LossWeights(1, 0, 0))
    alone.compile(optimizer=tf.keras.optimizers.SGD(0.01, jit_compile=False))
    fit(alone, batches(2))
    without = tf.train.list_variables(tf.train.Checkpoint(model=alone).write(str(tmp_path / "without")))
    kernels = [sorted(shape for _, shape in names if len(shape) == 4) for names in (with_teacher, without)]
    assert kernels[0] == kernels[1]


class CountsTraces(TransferModel):
    traces = 0

    def train_step(self, batch):
        type(self).traces += 1
        return super().train_step(batch)


def test_new_weights_take_effect_without_a_new_trace():
    model = make_model(kind=CountsTraces, rate=0.0)
    [batch] = batches(3)
    fit(model, [batch])
    once = CountsTraces.traces
    for weights in (LossWeights(1, 0, 0), LossWeights(0, 2, 0), LossWeights(0, 0, 3, tat_layers=(0, 1))):
        model.assign_weights(weights)
        logs = fit(model, [batch])
        expected = weights.ce * logs["ce"] + weights.sat * logs["sat"] + weights.tat * logs["tat"]
        assert logs["loss"] == pytest.approx(expected, rel=1e-5)
    assert logs["tat"] == pytest.approx(logs["tat_logits"], rel=1e-6)
    assert CountsTraces.traces == once


def test_teacher_does_not_run_where_nothing_is_transferred():
    class Idle:
        def activations(self, clips, training):
            raise AssertionError("the teacher ran")

    model = TransferModel(recognizer(LR, seed=1), Idle(), weights=LossWeights(1, 0, 0))
    model.compile(optimizer=tf.keras.optimizers.SGD(0.01, jit_compile=False))
    [batch] = batches(2)
    del batch["hr"]
    assert set(fit(model, [batch])) == {"loss", "ce", "prec@1", "prec@5"}
    with pytest.raises(ValueError, match="teacher"):
        model.assign_weights(WEIGHTS)


def test_metrics_count_clips_and_not_batches():
    model = make_model(LossWeights(1, 0, 0), rate=0.0)
    runs.freeze_batch_norm(model)
    data = batches(4, 1)
    logs = fit(model, data, validation_data=None)
    logits = np.concatenate([model.student(batch["lr"]).numpy() for batch in data])
    labels = np.concatenate([batch["label"] for batch in data])
    rank = (logits > logits[np.arange(5), labels][:, None]).sum(1)
    assert logs["prec@1"] == pytest.approx(np.mean(rank < 1))
    assert logs["prec@5"] == pytest.approx(np.mean(rank < 5))
    ce = np.log(np.exp(logits).sum(1)) - logits[np.arange(5), labels]
    assert logs["ce"] == pytest.approx(ce.mean(), rel=1e-5)


@pytest.mark.parametrize("parts", [2, 3, 7])
def test_parts_of_a_batch_add_up_to_the_whole(parts):
    """Batches of 7 and 4 in parts of unequal sizes: the same losses, weights and count of what dropout drew."""
    logs, variables = [], []
    for steps in (1, parts):
        student, teacher = recognizer(LR, seed=1, dropout=0.5), recognizer(HR, seed=2)
        model = TransferModel(student, teacher, weights=WEIGHTS, accumulation_steps=steps)
        model.compile(optimizer=tf.keras.optimizers.SGD(0.1, jit_compile=False))
        runs.freeze_batch_norm(model)
        logs.append(fit(model, batches(7, 4)))
        variables.append(model.student.trainable_variables)
        assert model.student.dropout.step.numpy() == 2
    assert logs[0] == pytest.approx(logs[1], abs=1e-5)
    for one, other in zip(*variables, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6, err_msg=one.name)


def test_each_part_of_a_batch_is_normalised_by_itself_and_counted():
    """Two parts move the running statistics as two steps with those clips and no learning would."""
    [batch] = batches(4)
    moved = []
    for steps, data in ((2, [batch]), (1, [{name: v[i : i + 2] for name, v in batch.items()} for i in (0, 2)])):
        model = make_model(accumulation_steps=steps, rate=0.0)
        fit(model, data)
        moved.append([variable.numpy() for variable in model.student.non_trainable_variables])
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


class Recorded(TransferModel):
    """Keeps the loss scale after each step."""

    def train_step(self, batch):
        logs = super().train_step(batch)
        return logs | {"loss_scale": self.optimizer.loss_scale}


def test_loss_scale_cancels_out():
    """A scale of 2**15 in float32: the same update as without."""
    variables = []
    for wrap in (tf.keras.mixed_precision.LossScaleOptimizer, lambda optimizer: optimizer):
        model = make_model(rate=0.1)
        model.compile(optimizer=wrap(tf.keras.optimizers.SGD(0.1, global_clipnorm=1.0, jit_compile=False)))
        logs = fit(model, batches(3, 2))
        variables.append(model.student.trainable_variables)
    assert logs["loss"] < 10  # the scale shows in no metric
    for one, other in zip(*variables, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6, err_msg=one.name)


def test_an_overflowing_scale_skips_the_update_and_is_halved():
    model = make_model(kind=Recorded)
    optimizer = tf.keras.optimizers.SGD(0.1, jit_compile=False)
    model.compile(optimizer=tf.keras.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=2.0**127))
    before = [variable.numpy() for variable in model.student.trainable_variables]
    logs = fit(model, batches(3))
    assert logs["loss_scale"] == 2.0**126
    assert int(model.optimizer.iterations) == 1  # the schedule goes on
    for variable, value in zip(model.student.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
