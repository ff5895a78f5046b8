import dataclasses
import json
import random

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import attention, errors
from stat_tf.models import recognizer

K = 2
CONFIG = recognizer.RecognizerConfig("resnet18", 5, K, 1, (12, 16), (12, 16), native=True, width=0.0625)
# The deepest takes some seconds to build.
EVERY_BACKBONE = [
    pytest.param(name, marks=pytest.mark.slow if name == "r2plus1d_34" else ()) for name in recognizer.BACKBONES
]


def variant(**changes):
    return dataclasses.replace(CONFIG, **changes)


def clips(config, batch=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (batch, *config.clip_shape), dtype=np.uint8)


def normalized(frames):
    return ((frames / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).astype(np.float32)


def kinetics_normalized(frames):
    return ((frames / 255 - [0.43216, 0.394666, 0.37645]) / [0.22803, 0.22145, 0.216989]).astype(np.float32)


def normalized_flow(quantized):
    return ((quantized / 255 - 0.5) / 0.226).astype(np.float32)


def same_weights(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


# The configuration.


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"backbone": "resnet19"}, "resnet18, .*, r2plus1d_34, got 'resnet19'"),
        ({"num_segments": 0}, "num_segments is a whole number from 1, got 0"),
        ({"num_classes": 2.0}, "num_classes"),
        ({"num_frames": True}, "num_frames"),
        ({"frame_size": (12,)}, "frame_size"),
        ({"network_size": (0, 16)}, "network_size"),
        ({"network_size": (24, 32)}, r"native.*\(24, 32\).*equal to frame_size \(12, 16\)"),
        ({"backbone": "efficientnet_lite0", "width": 0.5}, "width is for ResNets only"),
        ({"width": 0.001}, "without channels"),
        ({"width": float("inf")}, "without channels"),
        ({"width": "wide"}, "width is a number"),
        ({"native": 1}, "native is true or false"),
        ({"dropout": 1.0}, "less than 1"),
        ({"temporal_fusion": "max"}, "average, gray_stack, stack"),
        ({"temporal_fusion": "gray_stack"}, "num_frames is 1"),
        ({"temporal_fusion": "gray_stack", "num_frames": 3, "stream": "flow"}, "is for the stream rgb; flow has stack"),
        ({"backbone": "r2plus1d_18", "temporal_fusion": "stack"}, "r2plus1d_18 .* is average, got stack"),
        ({"stream": "depth"}, "stream is one of rgb, flow, got 'depth'"),
    ],
)
def test_bad_configuration_is_refused(changes, match):
    with pytest.raises(errors.UserError, match=match) as caught:
        variant(**changes)
    assert "\n" not in str(caught.value)


def test_configuration_survives_json():
    text = json.dumps(dataclasses.asdict(CONFIG))
    assert recognizer.RecognizerConfig.from_dict(json.loads(text)) == CONFIG


def test_json_with_unknown_or_missing_fields_is_refused():
    fields = dataclasses.asdict(CONFIG)
    with pytest.raises(errors.UserError, match="no field depth"):
        recognizer.RecognizerConfig.from_dict({**fields, "depth": 18})
    del fields["num_classes"], fields["backbone"]
    with pytest.raises(errors.UserError, match="lacks backbone, num_classes"):
        recognizer.RecognizerConfig.from_dict(fields)


# What it computes.


def test_temporal_attention_equals_a_numpy_restatement():
    model = recognizer.build_recognizer(CONFIG)
    # The initial attention is too even to tell a right sum from a wrong one.
    model.temporal_attention.output_layer.kernel.assign(tf.random.stateless_normal([64, K], seed=[1, 2]))
    x = clips(CONFIG)
    result = model.activations(x)
    hidden_weights, hidden_bias, output_weights, output_bias = model.temporal_attention.get_weights()
    classifier_weights, classifier_bias = model.classifier.get_weights()

    _, features = model.backbone(normalized(x.reshape(-1, 12, 16, 3)))
    features = features.numpy().reshape(3, K, -1)
    hidden = np.maximum(features.reshape(3, -1) @ hidden_weights + hidden_bias, 0)
    logits = hidden @ output_weights + output_bias
    attention = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    clip_features = sum(attention[:, k : k + 1] * features[:, k] for k in range(K))

    assert attention.max() > 0.6
    np.testing.assert_allclose(result.features, features, atol=1e-4)
    np.testing.assert_allclose(result.tam_hidden, hidden, atol=1e-4)
    np.testing.assert_allclose(result.tam_logits, logits, atol=1e-4)
    np.testing.assert_allclose(result.temporal_attention, attention, atol=1e-5)
    np.testing.assert_allclose(result.logits, clip_features @ classifier_weights + classifier_bias, atol=1e-4)
    np.testing.assert_array_equal(model(x), result.logits)


def test_initial_attention_is_nearly_even():
    config = variant(num_segments=8, width=1.0)
    attention = recognizer.build_recognizer(config).activations(clips(config)).temporal_attention
    np.testing.assert_allclose(attention, np.full((3, 8), 1 / 8), atol=0.03)


def test_stages_and_shapes_of_a_clip_of_several_frames():
    config = variant(num_frames=3)
    result = recognizer.build_recognizer(config).activations(clips(config))
    shapes = [(6, 3, 12, 16, 4), (6, 3, 6, 8, 8), (6, 3, 3, 4, 16), (6, 3, 2, 2, 32)]
    assert [tuple(stage.shape) for stage in result.stages] == shapes
    assert result.features.shape == (3, K, 32) and result.logits.shape == (3, 5)


def test_average_fusion_is_the_mean_of_the_frames_features():
    config = variant(num_frames=3)
    several = recognizer.build_recognizer(config, seed=1)
    single = recognizer.build_recognizer(CONFIG, seed=1)
    assert same_weights(several, single)
    x = clips(config)
    by_frame = [single.activations(x[:, :, t : t + 1]).features for t in range(3)]
    np.testing.assert_allclose(several.activations(x).features, np.mean(by_frame, axis=0), atol=1e-5)


def test_gray_stack_puts_the_frames_lumas_into_the_channels():
    config = variant(num_frames=3, temporal_fusion="gray_stack")
    model = recognizer.build_recognizer(config)
    x = clips(config)
    result = model.activations(x)
    luma = x @ np.array([0.2989, 0.587, 0.114])  # [B, K, T, h, w]
    stages, features = model.backbone(normalized(np.moveaxis(luma, 2, -1).reshape(-1, 12, 16, 3)))
    np.testing.assert_allclose(result.features, features.numpy().reshape(3, K, -1), atol=1e-4)
    np.testing.assert_allclose(result.stages[0], stages[0][:, tf.newaxis], atol=1e-3)


def test_flow_is_normalized_as_in_tsn():
    config = variant(stream="flow")
    model = recognizer.build_recognizer(config)
    x = clips(config)
    assert x.shape[-1] == 2
    _, features = model.backbone(normalized_flow(x.reshape(-1, 12, 16, 2)))
    np.testing.assert_allclose(model.activations(x).features, features.numpy().reshape(3, K, -1), atol=1e-4)


@pytest.mark.parametrize(("stream", "normalize"), [("rgb", normalized), ("flow", normalized_flow)])
def test_stack_puts_the_frames_channels_side_by_side(stream, normalize):
    config = variant(num_frames=4, temporal_fusion="stack", stream=stream)
    model = recognizer.build_recognizer(config)
    x = clips(config)
    result = model.activations(x)
    frames = normalize(x).reshape(-1, 4, *x.shape[3:])
    stages, features = model.backbone(np.concatenate([frames[:, t] for t in range(4)], axis=-1))
    np.testing.assert_allclose(result.features, features.numpy().reshape(3, K, -1), atol=1e-4)
    np.testing.assert_allclose(result.stages[0], stages[0][:, tf.newaxis], atol=1e-3)


@pytest.mark.parametrize(("stream", "normalize"), [("rgb", kinetics_normalized), ("flow", normalized_flow)])
def test_a_3d_backbone_reads_whole_segments(stream, normalize):
    config = variant(backbone="r2plus1d_18", num_frames=3, stream=stream)
    model = recognizer.build_recognizer(config)
    x = clips(config)
    result = model.activations(x)
    stages, features = model.backbone(normalize(x).reshape(-1, *x.shape[2:]))
    shapes = [(6, 3, 12, 16, 4), (6, 2, 6, 8, 8), (6, 1, 3, 4, 16), (6, 1, 2, 2, 32)]
    assert [tuple(stage.shape) for stage in result.stages] == shapes
    np.testing.assert_allclose(result.features, features.numpy().reshape(3, K, -1), atol=1e-4)
    for actual, expected in zip(result.stages, stages, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-3)


def test_3d_frames_are_resized_like_others():
    config = variant(backbone="r2plus1d_18", num_frames=2, native=False, network_size=(24, 32))
    model = recognizer.build_recognizer(config)
    x = clips(config)
    frames = tf.image.resize(tf.cast(x.reshape(-1, 12, 16, 3), tf.float32), (24, 32)).numpy()
    _, features = model.backbone(kinetics_normalized(frames).reshape(-1, 2, 24, 32, 3))
    np.testing.assert_allclose(model.activations(x).features, features.numpy().reshape(3, K, -1), atol=1e-4)


@pytest.mark.parametrize("native", [False, True])
def test_attention_transfers_between_3d_networks(native):
    """To a student on upsampled frames, whose grids are the teacher's, and to a native one with others."""
    teacher_config = variant(
        backbone="r2plus1d_18", num_frames=5, native=False, frame_size=(48, 64), network_size=(48, 64)
    )
    size = (12, 16) if native else (48, 64)
    student_config = dataclasses.replace(teacher_config, native=native, frame_size=(12, 16), network_size=size)
    teacher = recognizer.build_recognizer(teacher_config, seed=1).activations(clips(teacher_config))
    student = recognizer.build_recognizer(student_config, seed=2)
    with tf.GradientTape(persistent=True) as tape:
        result = student.activations(clips(student_config), training=True)
        sat = attention.sat_distances(result.stages, teacher.stages)
        tat = attention.tat_distances((result.tam_hidden, result.tam_logits), (teacher.tam_hidden, teacher.tam_logits))
        loss = tf.reduce_sum(sat) + tf.reduce_sum(tat)
        loss += tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1, 2], result.logits))
    assert sat.shape == (4, 6) and tat.shape == (2, 3)
    assert np.all((sat.numpy() > 0) & (sat.numpy() <= 2)) and np.all((tat.numpy() > 0) & (tat.numpy() <= 2))
    backbone_kernels = [v for v in student.backbone.trainable_variables if "kernel" in v.name]
    for variables, gradients in (
        (student.trainable_variables, tape.gradient(loss, student.trainable_variables)),
        (backbone_kernels, tape.gradient(sat, backbone_kernels)),
    ):
        for variable, gradient in zip(variables, gradients, strict=True):
            assert np.all(np.isfinite(gradient)) and np.any(gradient != 0), variable.name


def test_frames_are_resized_by_half_pixel_bilinear_interpolation():
    config = variant(native=False, network_size=(24, 32))
    model = recognizer.build_recognizer(config)
    x = clips(config, batch=1)

    def upsample(values, axis):
        """To twice the size: three quarters of the nearer pixel, one of the farther; the border repeats."""
        padded = np.concatenate([values.take([0], axis), values, values.take([-1], axis)], axis)
        count = values.shape[axis]
        before, after = padded.take(range(count), axis), padded.take(range(2, count + 2), axis)
        pairs = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis + 1)
        return pairs.reshape(*values.shape[:axis], 2 * count, *values.shape[axis + 1 :])

    frames = upsample(upsample(x.reshape(-1, 12, 16, 3).astype(np.float64), 1), 2)
    _, features = model.backbone(normalized(frames))
    np.testing.assert_allclose(model.activations(x).features[0], features, atol=1e-4)


def test_larger_frames_are_shrunk_without_aliasing():
    """Stripes of which the pixels nearest to each sample are white turn grey under a triangle of twice the step.

    The triangle's weights are 7, 5, 3 and 1 to either side. At the border, where one side lacks 3 and 1, white has
    15 of 28.
    """
    config = variant(native=False, frame_size=(48, 64), network_size=(12, 16))
    model = recognizer.build_recognizer(config)
    stripes = np.isin(np.arange(64) % 4, [1, 2])[np.newaxis, :, np.newaxis] * 254
    stripes = np.broadcast_to(stripes, (1, K, 1, 48, 64, 3)).astype(np.uint8)
    expected = np.full((1, 12, 16, 3), 127.0)
    expected[:, :, [0, -1]] = 254 * 15 / 28
    _, features = model.backbone(normalized(expected))
    np.testing.assert_allclose(model.activations(stripes).features[0, :1], features, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 1, 12, 16, 3), (1, 2, 1, 24, 32, 3), (2, 1, 12, 16, 3), (1, 2, 1, 12, 16, 1)])
def test_wrong_clip_shape_names_both(shape):
    model = recognizer.build_recognizer(CONFIG)
    with pytest.raises(errors.UserError) as caught:
        model.activations(np.zeros(shape, np.uint8))
    assert "[batch, 2, 1, 12, 16, 3]" in str(caught.value) and str(shape) in str(caught.value)


# Training.


def train_step(model, x, labels):
    with tf.GradientTape() as tape:
        logits = model(x, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    variables = model.trainable_variables
    for variable, gradient in zip(variables, tape.gradient(loss, variables)):
        variable.assign_sub(0.1 * gradient)


@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_frozen_batch_norm_moves_in_the_first_layer_only(backbone):
    width = 1.0 if backbone == "efficientnet_lite0" else 0.0625
    config = variant(backbone=backbone, width=width, frozen_batch_norm=True)
    model = recognizer.build_recognizer(config)
    norms = [module for module in model.backbone.submodules if isinstance(module, tf.keras.layers.BatchNormalization)]
    before = [layer.get_weights() for layer in norms]
    step = tf.function(train_step)
    step(model, tf.constant(clips(config)), tf.constant([0, 1, 2]))
    moved = {
        layer.name: [not np.array_equal(a, b) for a, b in zip(layer.get_weights(), values)]
        for layer, values in zip(norms, before)
    }
    first = {"efficientnet_lite0": "bn0", "r2plus1d_18": "stem.1", "r2plus1d_34": "stem.1"}.get(backbone, "bn1")
    assert moved.pop(first) == [True] * 4
    assert len(moved) >= 19 and not np.any(list(moved.values()))


def test_all_batch_norms_move_when_none_is_frozen():
    model = recognizer.build_recognizer(CONFIG)
    statistics = [v for v in model.non_trainable_variables if "moving" in v.name]
    before = [v.numpy() for v in statistics]
    model(clips(CONFIG), training=True)
    assert all(not np.array_equal(v, b) for v, b in zip(statistics, before))


def test_inference_changes_nothing():
    model = recognizer.build_recognizer(variant(dropout=0.5))
    before = model.get_weights()
    first, second = model(clips(CONFIG)), model(clips(CONFIG))
    np.testing.assert_array_equal(first, second)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights()))


def test_dropout_resumes_from_a_checkpoint(tmp_path):
    config = variant(dropout=0.5, frozen_batch_norm=True)
    x = clips(config)
    model = recognizer.build_recognizer(config)
    model(x, training=True)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    uninterrupted = [model(x, training=True).numpy() for _ in range(2)]
    assert not np.array_equal(*uninterrupted)

    resumed = recognizer.build_recognizer(config)
    tf.train.Checkpoint(model=resumed).read(path).assert_consumed()
    np.testing.assert_array_equal([resumed(x, training=True).numpy() for _ in range(2)], uninterrupted)


def test_dropout_keeps_the_mean():
    model = recognizer.build_recognizer(variant(dropout=0.25))
    dropped = model.dropout(tf.ones([100, 100]), training=True).numpy()
    assert np.isin(dropped, np.float32([0, 1 / 0.75])).all()
    assert (dropped == 0).mean() == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
@pytest.mark.parametrize("backbone", EVERY_BACKBONE)
def test_mixed_precision_gives_float32_outputs_near_the_full_precision(backbone, dtype):
    width = 1.0 if backbone == "efficientnet_lite0" else 0.0625
    config = variant(backbone=backbone, width=width, num_frames=2)
    x = clips(config)
    full = recognizer.build_recognizer(config).activations(x)
    tf.keras.mixed_precision.set_global_policy(f"mixed_{dtype.name}")
    try:
        model = recognizer.build_recognizer(config)
        mixed = model.activations(x)
        train_step(model, x, tf.constant([0, 1, 2]))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert {stage.dtype for stage in mixed.stages} == {dtype}
    assert {v.dtype for v in model.trainable_variables} == {tf.float32}
    assert all(np.all(np.isfinite(v)) for v in model.variables)
    for name in ("logits", "features", "tam_hidden", "tam_logits", "temporal_attention"):
        value, expected = getattr(mixed, name), getattr(full, name)
        assert value.dtype == tf.float32
        np.testing.assert_allclose(value, expected, atol=0.05 * np.abs(expected).max())


# Making, saving, loading.


def test_initial_values_follow_from_the_seed_alone():
    tf.keras.utils.set_random_seed(1)
    expected_draws = (random.random(), np.random.random(), float(tf.random.uniform([])))
    tf.keras.utils.set_random_seed(1)
    first = recognizer.build_recognizer(CONFIG, seed=3)
    assert (random.random(), np.random.random(), float(tf.random.uniform([]))) == expected_draws
    assert same_weights(first, recognizer.build_recognizer(CONFIG, seed=3))
    assert not same_weights(first, recognizer.build_recognizer(CONFIG, seed=4))


def test_layers_of_one_shape_start_differently():
    model = recognizer.build_recognizer(CONFIG)
    kernels = [model.backbone.get_layer(f"layer1.{block}.conv{n}").kernel.numpy() for block in (0, 1) for n in (1, 2)]
    assert all(not np.array_equal(a, b) for i, a in enumerate(kernels) for b in kernels[:i])


def test_checkpoint_restores_every_variable(tmp_path):
    model = recognizer.build_recognizer(CONFIG, seed=1)
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    other = recognizer.build_recognizer(CONFIG, seed=2)
    tf.train.Checkpoint(model=other).read(path).assert_consumed()
    assert same_weights(model, other)


def test_saved_model_of_a_function_gives_the_same_outputs(tmp_path):
    model = recognizer.build_recognizer(CONFIG)
    x = clips(CONFIG)
    module = tf.Module()
    # Not the model itself, each of whose layers Keras would trace on saving.
    module.weights = model.variables
    spec = tf.TensorSpec([None, *x.shape[1:]], tf.uint8, name="frames")
    module.serve = tf.function(lambda frames: {"logits": model.activations(frames).logits}, input_signature=[spec])
    tf.saved_model.save(module, str(tmp_path / "export"), signatures=module.serve)
    served = tf.saved_model.load(str(tmp_path / "export")).signatures["serving_default"](frames=tf.constant(x))
    np.testing.assert_allclose(served["logits"], model(x), atol=1e-5)


def test_keras_config_makes_the_same_recognizer():
    model = recognizer.Recognizer(CONFIG, seed=7)
    copy = recognizer.Recognizer.from_config(json.loads(json.dumps(model.get_config())))
    x = clips(CONFIG)
    np.testing.assert_array_equal(copy(x), model(x))
