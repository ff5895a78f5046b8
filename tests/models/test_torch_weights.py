import pathlib
import runpy

import numpy as np
import pytest

from stat_tf import errors
from stat_tf.models import recognizer, torch_weights

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def model():
    return recognizer.build_recognizer(recognizer.RecognizerConfig("resnet34", 7, 1, 1, (24, 32), (24, 32)))


@pytest.fixture
def state_dict():
    return runpy.run_path(str(GOLDEN / "weights.py"))["state_dict"]("resnet34")


def refused(model, state_dict, match):
    before = [variable.numpy() for variable in model.weights]
    with pytest.raises(errors.UserError, match=match):
        torch_weights.load_state_dict(model, state_dict, source="weights.pth")
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_missing_tensor_is_named(model, state_dict):
    del state_dict["layer2.0.downsample.1.running_var"]
    refused(model, state_dict, r"weights\.pth.*lack layer2\.0\.downsample\.1\.running_var")


def test_left_over_tensor_is_named(model, state_dict):
    state_dict["layer5.0.conv1.weight"] = np.zeros((2, 2, 3, 3))
    refused(model, state_dict, r"weights\.pth.*also have layer5\.0\.conv1\.weight")


def test_missing_and_left_over_tensors_are_named_together(model, state_dict):
    state_dict["layer1.0.conv.weight"] = state_dict.pop("layer1.0.conv1.weight")
    refused(model, state_dict, r"lack layer1\.0\.conv1\.weight and also have layer1\.0\.conv\.weight\.")


def test_whole_numbers_are_refused(model, state_dict):
    state_dict["bn1.bias"] = np.zeros(64, np.int8)
    refused(model, state_dict, r"bn1\.bias.*int8.*floating-point")


def test_each_weight_of_nested_layers_is_set():
    """The golden file has all of R(2+1)D's tensors; each must reach one variable, and each variable be reached."""
    size = (16, 24)
    model = recognizer.build_recognizer(recognizer.RecognizerConfig("r2plus1d_18", 400, 1, 2, size, size))
    state_dict = runpy.run_path(str(GOLDEN / "weights.py"))["state_dict"]("r2plus1d_18")
    torch_weights.load_state_dict(model, state_dict, source="weights.pth")
    variables = [*model.backbone.weights, *model.classifier.weights]
    tensors = [array for key, array in state_dict.items() if not key.endswith("num_batches_tracked")]
    assert len(variables) == len(tensors)
    sums = sorted(float(np.sum(variable.numpy(), dtype=np.float64)) for variable in variables)
    np.testing.assert_allclose(sums, sorted(float(np.sum(array, dtype=np.float64)) for array in tensors), rtol=1e-6)


def test_many_missing_tensors_are_counted(model):
    refused(model, {}, "bn1.bias, bn1.running_mean, bn1.running_var and 177 more")


def test_wrong_shape_is_named(model, state_dict):
    state_dict["layer1.0.conv1.weight"] = np.zeros((64, 32, 3, 3), np.float32)
    refused(model, state_dict, r"layer1\.0\.conv1\.weight.*\[64, 32, 3, 3\].*\[64, 64, 3, 3\]")


def test_values_that_are_not_finite_are_refused(model, state_dict):
    state_dict["bn1.bias"][3] = np.nan
    refused(model, state_dict, r"bn1\.bias.*not finite")


def test_classifier_of_another_class_count_is_left_as_it_is(model, state_dict):
    before = model.classifier.kernel.numpy()
    torch_weights.load_state_dict(model, state_dict, source="weights.pth")
    np.testing.assert_array_equal(model.classifier.kernel, before)


def test_classifier_of_the_same_class_count_is_loaded(model, state_dict):
    state_dict["fc.weight"], state_dict["fc.bias"] = state_dict["fc.weight"][:7], state_dict["fc.bias"][:7]
    torch_weights.load_state_dict(model, state_dict, source="weights.pth")
    np.testing.assert_array_equal(model.classifier.kernel, state_dict["fc.weight"].T)


def test_a_state_dict_without_classifier_is_enough(model, state_dict):
    del state_dict["fc.weight"], state_dict["fc.bias"]
    torch_weights.load_state_dict(model, state_dict, source="weights.pth")
    kernel = model.backbone.get_layer("conv1").kernel.numpy()
    np.testing.assert_array_equal(kernel[1, 2, 0], state_dict["conv1.weight"][:, 0, 1, 2])
