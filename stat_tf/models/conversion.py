"""Turns torchvision's checkpoints into this project's weight files, and compares the two networks' outputs."""

import os
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from stat_tf import errors, files
from stat_tf.models import pretrained, torch_file, torch_weights
from stat_tf.models.recognizer import Recognizer, RecognizerConfig, build_recognizer

# The inputs that are compared: [N, H, W, 3], or [N, T, H, W, 3] for a network that convolves over time.
_FRAMES_SHAPE = (2, 96, 128, 3)
_CLIPS_SHAPE = (2, 5, 56, 72, 3)
_LARGEST_DIFFERENCE = 1e-3


class Conversion(NamedTuple):
    """What `convert` did.

    Attributes:
      tensors: How many were written.
      num_classes: Of the classifier.
      difference: The logits' largest difference from torchvision's network on a seeded input, as a
        fraction of the largest logit; None if they were not compared.
      not_compared: Why not; "" if they were.
    """

    tensors: int
    num_classes: int
    difference: float | None
    not_compared: str


def convert(source: str, backbone: str, output: str) -> Conversion:
    """Writes a weight file from a torchvision checkpoint; see `pretrained` for the format.

    Args:
      source: The checkpoint, as `read_state_dict` takes it.
      backbone: Of which network the weights are: a ResNet or an R(2+1)D of `recognizer.BACKBONES`.
      output: The `.safetensors` file, written whole or not at all.

    Raises:
      UserError: A file cannot be read or written, a tensor is missing, left over, of the wrong shape or not
        finite, or the outputs differ from torchvision's by more than 1e-3.
    """
    if not output.endswith(".safetensors"):
        raise errors.UserError(f"Weights are written as .safetensors: name the output so, not {output}.")
    if os.path.realpath(source) == os.path.realpath(output):
        raise errors.UserError(f"The output {output} is the input: give it another name.")
    state_dict = read_state_dict(source)
    recognizer = _build(backbone, _num_classes(state_dict, source))
    torch_weights.load_state_dict(recognizer, state_dict, source)
    not_compared = _why_not_comparable()
    difference = None if not_compared else _difference(recognizer, state_dict)
    # A difference that is not a number is not small either.
    if difference is not None and not difference <= _LARGEST_DIFFERENCE:
        raise errors.UserError(
            f"The outputs of {source} as a {backbone} differ from torchvision's by {difference:.1e}, "
            f"more than {_LARGEST_DIFFERENCE:.0e}; nothing was written."
        )
    tensors = pretrained.save(recognizer, output, source)
    return Conversion(tensors, recognizer.config.num_classes, difference, not_compared)


def read_state_dict(path: str) -> dict[str, np.ndarray]:
    """Reads a checkpoint: `.pth` or `.pt`, `.safetensors`, or `.npz`.

    A state dict may stand under "state_dict" among other things, and its keys may begin with the
    "module." of PyTorch's data parallelism.

    Returns:
      {PyTorch key: array}; floating-point numbers are float32.

    Raises:
      UserError: The file is missing, damaged, of another format, or needs PyTorch to be read.
    """
    readers = {".pth": _read_torch, ".pt": _read_torch, ".safetensors": _read_safetensors, ".npz": _read_npz}
    suffix = os.path.splitext(path)[1]
    if suffix not in readers:
        raise errors.UserError(f"{path} is not a checkpoint by its name: it ends in {', '.join(readers)}.")
    try:
        with files.local_copy(path) as local, open(local, "rb"):
            arrays = readers[suffix](path, local)
    except OSError as error:
        raise errors.UserError(f"Cannot read the weights {path}: {error.strerror}.") from error
    return {key.removeprefix("module."): _as_float32(array) for key, array in arrays.items()}


def _read_torch(path: str, local: str) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        if zipfile.is_zipfile(local):
            raise errors.UserError(
                f"{path} is a checkpoint that only PyTorch reads: install torch, or save the state dict "
                "as .safetensors or .npz where it is installed."
            ) from None
        return torch_file.read_state_dict(path, local)
    try:
        tensors = torch_file.unwrapped(torch.load(local, map_location="cpu", weights_only=True))
    # A damaged file can raise anything.
    except Exception as error:
        raise errors.UserError(
            f"PyTorch cannot read {path} as a state dict of tensors: "
            "copy it again if it is damaged, or save model.state_dict() alone."
        ) from error
    if not (isinstance(tensors, Mapping) and all(isinstance(tensor, torch.Tensor) for tensor in tensors.values())):
        raise errors.UserError(f"{path} holds more than a state dict of tensors; save model.state_dict() alone.")
    return {
        # NumPy has no bfloat16.
        key: (tensor.float() if tensor.is_floating_point() else tensor).detach().numpy()
        for key, tensor in tensors.items()
    }


def _read_safetensors(path: str, local: str) -> dict[str, np.ndarray]:
    if pretrained.is_weight_file(path):
        raise errors.UserError(
            f"{path} is converted already: start from it with python -m stat_tf.train --init_from={path}."
        )
    try:
        return safetensors.numpy.load_file(local)
    except (OSError, KeyError, safetensors.SafetensorError) as error:
        raise errors.UserError(f"{path} is not a .safetensors file, or is damaged: {errors.brief(error)}.") from error


def _read_npz(path: str, local: str) -> dict[str, np.ndarray]:
    try:
        with np.load(local, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    # AttributeError: a single array, .npy, has no `files`.
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise errors.UserError(
            f"{path} is not an .npz file of arrays, or is damaged: {errors.brief(error)}."
        ) from error


def _as_float32(array: np.ndarray) -> np.ndarray:
    if not (np.issubdtype(array.dtype, np.floating) or array.dtype.name == "bfloat16"):
        return array
    with np.errstate(over="ignore"):  # Infinite values are found later, and named.
        return array.astype(np.float32)


def _num_classes(state_dict: Mapping[str, np.ndarray], source: str) -> int:
    """The classifier's number of classes."""
    bias = state_dict.get(f"{torch_weights.CLASSIFIER}.bias", np.zeros(0))
    if bias.ndim != 1 or not bias.size:
        raise errors.UserError(
            f"The weights {source} lack the classifier that says how many classes there are: "
            f"{torch_weights.CLASSIFIER}.weight [classes, features] and {torch_weights.CLASSIFIER}.bias [classes]."
        )
    return bias.size


def _build(backbone: str, num_classes: int) -> Recognizer:
    shape = _input_shape(backbone)
    num_frames = shape[1] if len(shape) == 5 else 1
    size = shape[-3:-1]
    return build_recognizer(RecognizerConfig(backbone, num_classes, 1, num_frames, size, size))


def _input_shape(backbone: str) -> tuple[int, ...]:
    return _CLIPS_SHAPE if backbone.startswith("r2plus1d") else _FRAMES_SHAPE


def _why_not_comparable() -> str:
    """Why there is no torchvision to compare with; "" where there is."""
    try:
        import torchvision  # noqa: F401
    # An installation whose parts do not fit each other raises RuntimeError or OSError.
    except (ImportError, RuntimeError, OSError) as error:
        return errors.brief(error)
    return ""


def _difference(recognizer: Recognizer, state_dict: Mapping[str, np.ndarray]) -> float:
    """The logits' largest difference from torchvision's network, as a fraction of its largest logit."""
    import torch

    config = recognizer.config
    network = _torchvision_network(config.backbone, config.num_classes)
    network.load_state_dict({key: torch.from_numpy(np.array(array)) for key, array in state_dict.items()})
    inputs = np.random.default_rng(0).standard_normal(_input_shape(config.backbone), np.float32)
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(np.moveaxis(inputs, -1, 1).copy())).numpy()
    _, features = recognizer.backbone(inputs)
    return float(np.max(np.abs(recognizer.classifier(features) - expected)) / np.max(np.abs(expected)))


def _torchvision_network(backbone: str, num_classes: int) -> Any:
    """The network as torchvision builds it, which has no ready-made R(2+1)D of 34 layers."""
    from torchvision import models
    from torchvision.models.video import resnet as video

    if backbone == "r2plus1d_34":
        makers, depths = [video.Conv2Plus1D] * 4, [3, 4, 6, 3]
        return video.VideoResNet(video.BasicBlock, makers, depths, video.R2Plus1dStem, num_classes=num_classes)
    builders = {"resnet18": models.resnet18, "resnet34": models.resnet34, "r2plus1d_18": models.video.r2plus1d_18}
    return builders[backbone](weights=None, num_classes=num_classes)
