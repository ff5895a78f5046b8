import pathlib

import numpy as np
import pytest
import tensorflow as tf

from stat_tf.models import pretrained, recognizer

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def config(size, num_classes, **options):
    return recognizer.RecognizerConfig("efficientnet_lite0", num_classes, 1, 1, size, size, **options)


def relative_error(actual, expected):
    return np.abs(np.asarray(actual) - expected).max() / np.abs(expected).max()


@pytest.fixture(scope="module")
def imagenet_model():
    model = recognizer.build_recognizer(config((96, 128), 1000))
    pretrained.load(model, "imagenet")
    return model


def golden_input():
    return np.random.Generator(np.random.PCG64(7)).random((2, 96, 128, 3), dtype=np.float32)


def test_imagenet_network_equals_the_reference(imagenet_model):
    expected = np.load(GOLDEN / "efficientnet_lite0.npz")
    stages, features = imagenet_model.backbone((golden_input() - 0.498) / 0.502)
    assert relative_error(features, expected["features"]) < 1e-4
    assert relative_error(imagenet_model.classifier(features), expected["logits"]) < 1e-4
    for number, stage in enumerate(stages, start=1):
        assert relative_error(np.abs(stage).sum(-1), expected[f"stage{number}"]) < 1e-4


def test_a_uint8_clip_passes_the_same_network(imagenet_model):
    """The golden input, rounded to 256 grey levels, through the whole recognizer."""
    expected = np.load(GOLDEN / "efficientnet_lite0.npz")
    clip = np.round(golden_input() * 255).astype(np.uint8)[:, np.newaxis, np.newaxis]
    logits = imagenet_model(clip).numpy()
    assert relative_error(logits, expected["logits"]) < 0.02
    np.testing.assert_array_equal(logits.argmax(1), expected["logits"].argmax(1))


def test_another_number_of_classes_keeps_the_fresh_classifier(imagenet_model):
    fresh, model = (recognizer.build_recognizer(config((96, 128), 7), seed=5) for _ in range(2))
    pretrained.load(model, "imagenet")
    np.testing.assert_array_equal(model.classifier.kernel, fresh.classifier.kernel)
    np.testing.assert_array_equal(model.backbone.weights[0], imagenet_model.backbone.weights[0])


def test_native_grids_of_a_12x16_frame():
    model = recognizer.build_recognizer(config((12, 16), 5, native=True))
    stages, features = model.backbone(tf.zeros([1, 12, 16, 3]))
    assert [tuple(stage.shape[1:]) for stage in stages] == [(6, 8, 24), (3, 4, 40), (2, 2, 112), (1, 1, 320)]
    assert features.shape == (1, 1280)
