import pathlib
import runpy
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors
from stat_tf.models import recognizer, torch_weights

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
DEPTHS = {"r2plus1d_18": (2, 2, 2, 2), "r2plus1d_34": (3, 4, 6, 3)}


def relative_error(actual, expected):
    return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


def config(arch, frames, size, num_classes=10, **options):
    return recognizer.RecognizerConfig(arch, num_classes, 1, frames, frame_size=size, network_size=size, **options)


def test_r2plus1d_18_equals_torchvision():
    golden = runpy.run_path(str(GOLDEN / "weights.py"))
    expected = np.load(GOLDEN / "r2plus1d_18.npz")
    model = recognizer.build_recognizer(config("r2plus1d_18", 5, (56, 72), num_classes=400))
    torch_weights.load_state_dict(model, golden["state_dict"]("r2plus1d_18"), source="golden")
    stages, features = model.backbone(golden["clip"]("r2plus1d_18"))
    assert relative_error(features, expected["features"]) < 1e-4
    assert relative_error(model.classifier(features), expected["logits"]) < 1e-4
    for number, stage in enumerate(stages, start=1):
        assert relative_error(np.abs(stage).sum(-1), expected[f"layer{number}"]) < 1e-4


# A restatement of torchvision's R(2+1)D in NumPy, channels last.


def convolve(x, kernel_oidhw, strides):
    """Pads every side by half the kernel, as each of torchvision's convolutions here does."""
    sizes = kernel_oidhw.shape[2:]
    x = np.pad(x, [(0, 0), *((size // 2, size // 2) for size in sizes), (0, 0)])
    counts = [(side - size) // stride + 1 for side, size, stride in zip(x.shape[1:4], sizes, strides)]
    out = 0
    for offset in np.ndindex(*sizes):
        window = x[(slice(None), *(slice(o, None, stride) for o, stride in zip(offset, strides)))]
        window = window[:, : counts[0], : counts[1], : counts[2]]
        out = out + window @ kernel_oidhw[(..., *offset)].T
    return out


def numpy_r2plus1d(x, weights, depths, native):
    def conv(x, name, strides):
        return convolve(x, weights[f"{name}.weight"], strides)

    def batch_norm(x, name):
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return (x - mean) / np.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def relu(x):
        return np.maximum(x, 0)

    stem_stride = 1 if native else 2
    x = relu(batch_norm(conv(x, "stem.0", (1, stem_stride, stem_stride)), "stem.1"))
    x = relu(batch_norm(conv(x, "stem.3", (1, 1, 1)), "stem.4"))
    stages = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, s = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = relu(batch_norm(conv(x, f"{name}.conv1.0.0", (1, s, s)), f"{name}.conv1.0.1"))
            y = relu(batch_norm(conv(y, f"{name}.conv1.0.3", (s, 1, 1)), f"{name}.conv1.1"))
            y = relu(batch_norm(conv(y, f"{name}.conv2.0.0", (1, 1, 1)), f"{name}.conv2.0.1"))
            y = batch_norm(conv(y, f"{name}.conv2.0.3", (1, 1, 1)), f"{name}.conv2.1")
            if f"{name}.downsample.0.weight" in weights:
                x = batch_norm(conv(x, f"{name}.downsample.0", (s, s, s)), f"{name}.downsample.1")
            x = relu(x + y)
        stages.append(x)
    return stages, x.mean((1, 2, 3))


def random_weights(depths, filters, stem_filters, rng):
    """A state dict under torchvision's names."""
    weights = {}

    def add(conv, norm, out, inputs, size):
        weights[f"{conv}.weight"] = rng.standard_normal((out, inputs, *size)) / np.sqrt(inputs * np.prod(size))
        for key in ("weight", "running_var"):
            weights[f"{norm}.{key}"] = rng.uniform(0.5, 1.5, out)
        for key in ("bias", "running_mean"):
            weights[f"{norm}.{key}"] = rng.standard_normal(out)

    add("stem.0", "stem.1", stem_filters, 3, (1, 7, 7))
    add("stem.3", "stem.4", filters, stem_filters, (3, 1, 1))
    inputs = filters
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, out = f"layer{stage + 1}.{block}", filters * 2**stage
            # Of a block's first convolution as of its second.
            middle = int(inputs * out * 27 / (inputs * 9 + 3 * out))
            add(f"{name}.conv1.0.0", f"{name}.conv1.0.1", middle, inputs, (1, 3, 3))
            add(f"{name}.conv1.0.3", f"{name}.conv1.1", out, middle, (3, 1, 1))
            add(f"{name}.conv2.0.0", f"{name}.conv2.0.1", middle, out, (1, 3, 3))
            add(f"{name}.conv2.0.3", f"{name}.conv2.1", out, middle, (3, 1, 1))
            if inputs != out:
                add(f"{name}.downsample.0", f"{name}.downsample.1", out, inputs, (1, 1, 1))
            inputs = out
    return weights


@pytest.mark.parametrize(
    ("arch", "frames", "size", "native"),
    [
        ("r2plus1d_18", 1, (24, 32), False),
        ("r2plus1d_18", 5, (33, 46), False),
        ("r2plus1d_18", 2, (7, 9), True),
        ("r2plus1d_34", 5, (12, 16), True),
        ("r2plus1d_34", 2, (47, 35), False),
    ],
)
def test_odd_sizes_and_depths_equal_a_numpy_restatement(arch, frames, size, native):
    rng = np.random.default_rng(0)
    # 3 = 45 * 4 / 64, rounded.
    weights = random_weights(DEPTHS[arch], 4, 3, rng)
    clips = rng.standard_normal((2, frames, *size, 3))
    model = recognizer.build_recognizer(config(arch, frames, size, width=4 / 64, native=native))
    torch_weights.load_state_dict(model, weights, source="test")
    stages, features = model.backbone(tf.constant(clips, tf.float32))
    expected_stages, expected_features = numpy_r2plus1d(clips, weights, DEPTHS[arch], native)
    for stage, expected in zip(stages, expected_stages, strict=True):
        assert stage.shape == expected.shape
        assert relative_error(stage, expected) < 1e-4
    assert relative_error(features, expected_features) < 1e-4


def test_native_grids_of_five_12x16_frames():
    model = recognizer.build_recognizer(config("r2plus1d_18", 5, (12, 16), width=0.125, native=True))
    stages, _ = model.backbone(tf.zeros([1, 5, 12, 16, 3]))
    shapes = [(5, 12, 16, 8), (3, 6, 8, 16), (2, 3, 4, 32), (1, 2, 2, 64)]
    assert [tuple(stage.shape[1:]) for stage in stages] == shapes


def test_convolutions_start_as_in_torchvision():
    """Kaiming normal over the fan-out, and all different: a standard deviation of sqrt(2 / (3 * 3 * 460))."""
    model = recognizer.build_recognizer(config("r2plus1d_18", 1, (12, 16)))
    slots = {slot.name: slot.variable.numpy() for slot in torch_weights.slots(model)}
    kernel = slots["layer3.0.conv2.0.0/kernel"]
    assert kernel.shape == (1, 3, 3, 256, 460)
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 460)), rel=0.01)
    assert not np.array_equal(slots["layer1.0.conv1.0.0/kernel"], slots["layer1.0.conv2.0.0/kernel"])


@pytest.mark.parametrize("frames", [2, 3])
def test_bfloat16_gradients_are_near_those_of_the_full_precision(frames):
    """Two frames under a kernel of three is what oneDNN's 3D convolution gets wrong in bfloat16."""
    clip = np.random.default_rng(0).standard_normal((2, frames, 12, 16, 3)).astype(np.float32)

    def gradients():
        # Batch statistics of few numbers would make much of a small difference.
        options = dict(native=True, width=0.0625, frozen_batch_norm=True)
        model = recognizer.build_recognizer(config("r2plus1d_18", frames, (12, 16), **options))
        with tf.GradientTape() as tape:
            stages, _ = model.backbone(tf.cast(clip, model.compute_dtype), training=True)
            loss = tf.reduce_sum(tf.cast(stages[0], tf.float32) ** 2)
        kernels = [v for v in model.backbone.trainable_variables if "stem.3" in v.name or "layer1" in v.name]
        return tape.gradient(loss, [v for v in kernels if "kernel" in v.name])

    full = gradients()
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        mixed = gradients()
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert len(full) == 9
    assert all(relative_error(actual, expected) < 0.1 for actual, expected in zip(mixed, full))


# Recomputation in the backward pass.

TINY = recognizer.RecognizerConfig("r2plus1d_18", 5, 2, 3, (12, 16), (12, 16), native=True, width=0.0625)


def train(recompute_grad, as_graph):
    """Three steps; (losses, the last gradients, the variables afterwards)."""
    model = recognizer.build_recognizer(TINY, seed=1, recompute_grad=recompute_grad)
    frames = np.random.default_rng(0).integers(0, 256, (3, *TINY.clip_shape), dtype=np.uint8)

    def step(frames):
        with tf.GradientTape() as tape:
            logits = model(frames, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(tf.constant([0, 1, 2]), logits))
        gradients = tape.gradient(loss, model.trainable_variables)
        for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
            variable.assign_sub(0.01 * gradient)
        return loss, gradients

    step = tf.function(step) if as_graph else step
    losses, gradients = zip(*[step(tf.constant(frames)) for _ in range(3)])
    return losses, gradients[-1], model.variables


@pytest.mark.parametrize(
    ("as_graph", "policy"),
    [
        (False, "float32"),
        (True, "float32"),
        (False, "mixed_bfloat16"),
        pytest.param(False, "mixed_float16", marks=pytest.mark.slow),
    ],
)
def test_recomputation_trains_the_same(as_graph, policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        outcomes = [train(recompute_grad, as_graph) for recompute_grad in (False, True)]
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    moving_means = [v.numpy() for v in outcomes[0][2] if "moving_mean" in v.name]
    assert all(np.any(mean != 0) for mean in moving_means)
    for kept, recomputed in zip(*map(tf.nest.flatten, outcomes), strict=True):
        np.testing.assert_allclose(recomputed, kept, rtol=1e-5, atol=1e-6)


PEAK_MEMORY = """
import pathlib
import tensorflow as tf
from stat_tf.models import recognizer

config = recognizer.RecognizerConfig("r2plus1d_18", 5, 2, 2, (96, 96), (96, 96), width=0.25)

def gradient(recompute_grad):
    model = recognizer.build_recognizer(config, recompute_grad=recompute_grad)

    @tf.function(input_signature=[tf.TensorSpec([None, *config.clip_shape], tf.uint8)])
    def step(frames):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(frames, training=True))
        return tape.gradient(loss, model.trainable_variables)

    return step

def peak():  # MiB
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) // 1024

recomputing, keeping = gradient(True), gradient(False)
for step in (recomputing, keeping):
    step(tf.zeros([1, *config.clip_shape], tf.uint8))
peaks = [peak()]
for step in (recomputing, keeping):
    step(tf.zeros([12, *config.clip_shape], tf.uint8))
    peaks.append(peak())
print(peaks[1] - peaks[0], peaks[2] - peaks[0])
"""


@pytest.mark.slow
def test_recomputation_keeps_no_activations_of_blocks():
    """Had the graph optimizer merged the second forward pass with the first, they would be kept."""
    command = [sys.executable, "-c", PEAK_MEMORY]
    output = subprocess.run(command, check=True, timeout=300, stdout=subprocess.PIPE).stdout
    recomputing, keeping = map(int, output.split())
    assert keeping > 100
    assert recomputing < 0.75 * keeping, (recomputing, keeping)


TWO_REPLICAS = """
import numpy as np
import tensorflow as tf
from stat_tf.models import recognizer

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
config = recognizer.RecognizerConfig("r2plus1d_18", 5, 2, 3, (12, 16), (12, 16), native=True, width=0.0625)
frames = np.random.default_rng(0).integers(0, 256, (4, *config.clip_shape), dtype=np.uint8)

def train(recompute_grad):
    with strategy.scope():
        model = recognizer.build_recognizer(config, recompute_grad=recompute_grad)
        optimizer = tf.keras.optimizers.SGD(0.01)
        optimizer.build(model.trainable_variables)

    def step(frames):
        with tf.GradientTape() as tape:
            logits = model(frames, training=True)
            loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits([0, 1], logits)) / 4
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))

    run = tf.function(lambda frames: strategy.run(step, args=(frames,)))
    for _ in range(2):
        run(strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(frames[2 * context.replica_id_in_sync_group :][:2])
        ))
    return model.variables

for kept, recomputed in zip(train(False), train(True), strict=True):
    np.testing.assert_allclose(recomputed.numpy(), kept.numpy(), rtol=1e-4, atol=1e-5)
    if "moving_mean" in kept.name:
        assert np.any(kept.numpy() != 0)
"""


@pytest.mark.slow
def test_recomputation_trains_the_same_on_two_replicas():
    subprocess.run([sys.executable, "-c", TWO_REPLICAS], check=True, timeout=580)


@pytest.mark.parametrize("written_with", [False, True])
def test_checkpoints_fit_with_and_without_recomputation(written_with, tmp_path):
    written = recognizer.build_recognizer(TINY, seed=1, recompute_grad=written_with)
    path = tf.train.Checkpoint(model=written).write(str(tmp_path / "checkpoint"))
    read = recognizer.build_recognizer(TINY, seed=2, recompute_grad=not written_with)
    tf.train.Checkpoint(model=read).read(path).assert_consumed()
    for one, other in zip(written.variables, read.variables, strict=True):
        np.testing.assert_array_equal(one, other)


def test_recomputation_is_for_r2plus1d_only():
    with pytest.raises(errors.UserError, match="r2plus1d_18 and r2plus1d_34 only, not resnet18"):
        recognizer.build_recognizer(config("resnet18", 1, (12, 16)), recompute_grad=True)
