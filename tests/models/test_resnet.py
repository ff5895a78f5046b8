import pathlib
import runpy

import numpy as np
import pytest
import tensorflow as tf

from stat_tf.models import recognizer, torch_weights

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def relative_error(actual, expected):
    return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


def config(arch, size, num_classes=10, **options):
    return recognizer.RecognizerConfig(arch, num_classes, 1, 1, frame_size=size, network_size=size, **options)


def test_resnet34_equals_torchvision():
    golden = runpy.run_path(str(GOLDEN / "weights.py"))
    expected = np.load(GOLDEN / "resnet34.npz")
    model = recognizer.build_recognizer(config("resnet34", (96, 128), num_classes=1000))
    torch_weights.load_state_dict(model, golden["state_dict"]("resnet34"), source="golden")
    stages, features = model.backbone(golden["clip"]("resnet34"))
    assert relative_error(features, expected["features"]) < 1e-4
    assert relative_error(model.classifier(features), expected["logits"]) < 1e-4
    for number, stage in enumerate(stages, start=1):
        assert relative_error(np.abs(stage).sum(-1), expected[f"layer{number}"]) < 1e-4


# A restatement of torchvision's ResNet in NumPy, channels last, straight from its documentation.


def convolve(x, kernel_oihw, stride, padding):
    x = np.pad(x, [(0, 0), (padding, padding), (padding, padding), (0, 0)])
    size = kernel_oihw.shape[-1]
    rows, columns = ((side - size) // stride + 1 for side in x.shape[1:3])
    out = 0
    for i, j in np.ndindex(size, size):
        window = x[:, i : i + rows * stride : stride, j : j + columns * stride : stride][:, :rows, :columns]
        out = out + window @ kernel_oihw[:, :, i, j].T
    return out


def max_pool(x):
    x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    rows, columns = ((side - 3) // 2 + 1 for side in x.shape[1:3])
    windows = [x[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2][:, :rows, :columns] for i, j in np.ndindex(3, 3)]
    return np.max(windows, axis=0)


def numpy_resnet(x, weights, depths, native):
    def batch_norm(x, name):
        mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
        return (x - mean) / np.sqrt(variance + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    x = np.maximum(batch_norm(convolve(x, weights["conv1.weight"], 1 if native else 2, 3), "bn1"), 0)
    x = x if native else max_pool(x)
    stages = []
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, stride = f"layer{stage + 1}.{block}", 2 if stage and not block else 1
            y = np.maximum(batch_norm(convolve(x, weights[f"{name}.conv1.weight"], stride, 1), f"{name}.bn1"), 0)
            y = batch_norm(convolve(y, weights[f"{name}.conv2.weight"], 1, 1), f"{name}.bn2")
            if f"{name}.downsample.0.weight" in weights:
                x = batch_norm(convolve(x, weights[f"{name}.downsample.0.weight"], stride, 0), f"{name}.downsample.1")
            x = np.maximum(x + y, 0)
        stages.append(x)
    return stages, x.mean((1, 2))


def random_weights(depths, filters, rng):
    """A state dict under torchvision's names."""
    weights = {}

    def add(conv, norm, out, inputs, size):
        weights[f"{conv}.weight"] = rng.standard_normal((out, inputs, size, size)) / np.sqrt(inputs * size * size)
        for key in ("weight", "running_var"):
            weights[f"{norm}.{key}"] = rng.uniform(0.5, 1.5, out)
        for key in ("bias", "running_mean"):
            weights[f"{norm}.{key}"] = rng.standard_normal(out)

    add("conv1", "bn1", filters, 3, 7)
    inputs = filters
    for stage, depth in enumerate(depths):
        for block in range(depth):
            name, out = f"layer{stage + 1}.{block}", filters * 2**stage
            add(f"{name}.conv1", f"{name}.bn1", out, inputs, 3)
            add(f"{name}.conv2", f"{name}.bn2", out, out, 3)
            if inputs != out:
                add(f"{name}.downsample.0", f"{name}.downsample.1", out, inputs, 1)
            inputs = out
    return weights


@pytest.mark.parametrize(
    ("arch", "depths", "size", "native"),
    [
        ("resnet18", (2, 2, 2, 2), (33, 46), False),
        ("resnet34", (3, 4, 6, 3), (47, 35), False),
        ("resnet18", (2, 2, 2, 2), (24, 32), False),
        ("resnet18", (2, 2, 2, 2), (12, 16), True),
        ("resnet18", (2, 2, 2, 2), (7, 9), True),
    ],
)
def test_odd_sizes_and_depths_equal_a_numpy_restatement(arch, depths, size, native):
    rng = np.random.default_rng(0)
    weights = random_weights(depths, 4, rng)
    frames = rng.standard_normal((2, *size, 3))
    model = recognizer.build_recognizer(config(arch, size, width=4 / 64, native=native))
    torch_weights.load_state_dict(model, weights, source="test")
    stages, features = model.backbone(tf.constant(frames, tf.float32))
    expected_stages, expected_features = numpy_resnet(frames, weights, depths, native)
    for stage, expected in zip(stages, expected_stages, strict=True):
        assert stage.shape == expected.shape
        assert relative_error(stage, expected) < 1e-4
    assert relative_error(features, expected_features) < 1e-4


def test_native_grids_of_a_12x16_frame():
    model = recognizer.build_recognizer(config("resnet18", (12, 16), width=0.125, native=True))
    stages, _ = model.backbone(tf.zeros([1, 12, 16, 3]))
    assert [tuple(stage.shape[1:]) for stage in stages] == [(12, 16, 8), (6, 8, 16), (3, 4, 32), (2, 2, 64)]


def test_convolutions_start_as_in_torchvision():
    """Kaiming normal over the fan-out: a standard deviation of sqrt(2 / (3 * 3 * 512))."""
    model = recognizer.build_recognizer(config("resnet18", (24, 32)))
    kernel = model.backbone.get_layer("layer4.1.conv2").kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 512)), rel=0.01)
