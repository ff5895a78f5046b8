import json
import pathlib
import runpy

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import attention

GOLDEN = pathlib.Path(__file__).parent / "golden"
ROWS = json.loads((GOLDEN / "losses.json").read_text())


@pytest.fixture(scope="module")
def golden_inputs():
    return runpy.run_path(str(GOLDEN / "losses.py"))["inputs"]


def gradient_and_value(function, values):
    with tf.GradientTape() as tape:
        tape.watch(values)
        distances = function(values)
    return tape.gradient(distances, values).numpy(), distances.numpy()


def numpy_distance(student, teacher):
    student, teacher = (v.reshape(len(v), -1).astype(np.float64) for v in (student, teacher))
    student, teacher = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (student, teacher))
    return np.linalg.norm(student - teacher, axis=1)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['seed']}-{row['epoch']}-{row['squared']}")
def test_sat_and_tat_equal_the_papers_equations_in_float64(row, golden_inputs):
    blocks, fc, _, _ = golden_inputs(row["seed"])
    stages = {who: [tf.constant(block, tf.float32) for block in blocks[who]] for who in blocks}
    outputs = {who: [tf.constant(output, tf.float32) for output in fc[who]] for who in fc}
    sat = attention.sat_distances(stages["student"], stages["teacher"], row["squared"])
    tat = attention.tat_distances(outputs["student"], outputs["teacher"], row["squared"])
    np.testing.assert_allclose(tf.reduce_mean(sat, axis=1), row["sat"], atol=1e-5)
    np.testing.assert_allclose(tf.reduce_mean(tat, axis=1), row["tat"], atol=1e-5)


def test_map_is_the_sum_of_magnitudes_over_channels():
    activation = np.random.default_rng(0).standard_normal((2, 3, 4, 5, 6)).astype(np.float32)
    np.testing.assert_allclose(attention.spatial_attention_map(activation), np.abs(activation).sum(-1), rtol=1e-6)


def test_bfloat16_activations_are_summed_in_float32():
    activation = tf.ones([1, 2, 2, 1000], tf.bfloat16) * 0.5
    result = attention.spatial_attention_map(activation)
    assert result.dtype == tf.float32
    np.testing.assert_array_equal(result, np.full((1, 2, 2), 500.0))
    assert attention.attention_distance(activation, activation).dtype == tf.float32


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 1e-9, 1e-20, 0.0, 1e6])
@pytest.mark.parametrize("teacher", ["equal", "zero", "other"])
def test_gradients_are_finite(teacher, scale, squared):
    student = scale * tf.constant([[1.0, 2.0, 0.0, 3.0], [0.0, 0.0, 0.0, 1.0]])
    target = {"equal": student, "zero": tf.zeros_like(student), "other": tf.constant([[0.0, 1, 2, 3], [1, 1, 1, 1]])}
    gradient, value = gradient_and_value(
        lambda vectors: attention.attention_distance(vectors, target[teacher], squared), student
    )
    assert np.all(np.isfinite(gradient)) and np.all(np.isfinite(value))
    if teacher == "equal":
        np.testing.assert_array_equal(value, 0)
        np.testing.assert_array_equal(gradient, 0)


def test_gradient_is_finite_under_xla_where_vectors_agree():
    """XLA multiplies the untaken branch's infinite slope by zero, which TensorFlow's own kernel avoids."""
    student = tf.constant([[1.0, 2.0]])

    @tf.function(jit_compile=True)
    def gradient(values):
        with tf.GradientTape() as tape:
            tape.watch(values)
            distance = attention.attention_distance(values, student)
        return tape.gradient(distance, values)

    np.testing.assert_array_equal(gradient(student), [[0.0, 0.0]])


def test_zero_vector_is_as_far_as_a_unit_vector_is_long():
    student, teacher = tf.zeros([1, 3]), tf.constant([[3.0, 0.0, 4.0]])
    np.testing.assert_allclose(attention.attention_distance(student, teacher), [1.0], atol=1e-6)
    np.testing.assert_allclose(attention.attention_distance(student, student), [0.0])


@pytest.mark.parametrize("squared", [False, True])
def test_gradient_equals_finite_differences(squared):
    rng = np.random.default_rng(1)
    student, teacher = rng.standard_normal((2, 1, 6))
    direction = rng.standard_normal((1, 6))
    gradient, _ = gradient_and_value(
        lambda v: attention.attention_distance(v, tf.constant(teacher, tf.float32), squared),
        tf.constant(student, tf.float32),
    )
    power = 2 if squared else 1
    ends = [numpy_distance(student + side * 1e-5 * direction, teacher) ** power for side in (1, -1)]
    np.testing.assert_allclose(np.sum(gradient * direction), (ends[0] - ends[1])[0] / 2e-5, rtol=1e-3)


def test_distance_ignores_scale():
    student, teacher = np.random.default_rng(2).random((2, 3, 4, 4)).astype(np.float32)
    near = attention.attention_distance(student, teacher)
    np.testing.assert_allclose(attention.attention_distance(1000 * student, teacher / 1000), near, rtol=1e-5)


def test_divisible_grid_is_average_pooled():
    teacher = np.random.default_rng(3).random((2, 4, 6, 8)).astype(np.float32)
    expected = np.zeros((2, 2, 3, 4), np.float32)
    for t, y, x in np.ndindex(2, 3, 4):
        expected[:, t, y, x] = teacher[:, 2 * t : 2 * t + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((1, 2, 3))
    np.testing.assert_allclose(attention.match_grid(tf.constant(teacher), (2, 3, 4)), expected, rtol=1e-6)


def test_grid_of_another_ratio_is_interpolated():
    """Half-pixel bilinear weights, worked out by hand: 2 cells to 3 along one axis."""
    teacher = tf.constant([0.0, 6.0], shape=[1, 1, 1, 2])
    np.testing.assert_allclose(attention.match_grid(teacher, (1, 1, 3))[0, 0, 0], [0, 3, 6], atol=1e-5)


@pytest.mark.parametrize("grid", [(1, 2, 2), (2, 5, 7), (3, 2, 3), (5, 3, 4)])
def test_interpolation_keeps_a_constant_map(grid):
    np.testing.assert_allclose(
        attention.match_grid(tf.fill([2, 5, 3, 4], 7.0), grid), np.full((2, *grid), 7.0), rtol=1e-5
    )


def test_time_is_brought_to_the_students_length():
    teacher = tf.reshape(tf.range(6.0), [1, 6, 1, 1])
    np.testing.assert_allclose(attention.match_grid(teacher, (2, 1, 1)).numpy().ravel(), [1, 4])
    assert np.all(np.diff(attention.match_grid(teacher, (4, 1, 1)).numpy().ravel()) > 0)


def test_stages_of_other_grids_are_matched_before_the_distance():
    rng = np.random.default_rng(4)
    student, teacher = rng.random((3, 1, 2, 2, 5)), rng.random((3, 2, 4, 4, 9))
    result = attention.sat_distances([tf.constant(student)], [tf.constant(teacher)])
    pooled = teacher.sum(-1).mean(1).reshape(3, 2, 2, 2, 2).mean((2, 4))
    np.testing.assert_allclose(result[0], numpy_distance(student.sum(-1), pooled), atol=1e-5)


def test_works_in_a_graph_of_unknown_batch_size():
    spec = tf.TensorSpec([None, 1, 4, 4, 2])
    function = tf.function(lambda s, t: attention.sat_distances([s], [t]), input_signature=[spec, spec])
    assert function(tf.random.normal([5, 1, 4, 4, 2]), tf.random.normal([5, 1, 4, 4, 2])).shape == (1, 5)


def test_unequal_numbers_of_stages_are_refused():
    with pytest.raises(ValueError):
        attention.sat_distances([tf.ones([1, 2, 2, 1])], [])
