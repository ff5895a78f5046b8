"""Initial weights from a file: this project's own format, and ImageNet's for EfficientNet-Lite0.

A weight file is a `.safetensors` file of float32 tensors named LAYER/VARIABLE (`layer1.0.conv1/kernel`),
axes in TensorFlow's order: the backbone's variables, of width 1 and for RGB, and the classifier's
(`fc/kernel`, `fc/bias`). Its metadata are `format` (stat_tf), `backbone`, `num_classes` and `source`,
the name of the file that it was converted from. `python -m stat_tf.convert_weights` writes such files.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import safetensors
import safetensors.numpy

from stat_tf import errors, files
from stat_tf.models import efficientnet_lite, r2plus1d, resnet, torch_weights
from stat_tf.models.recognizer import Recognizer, RecognizerConfig

IMAGENET = "imagenet"
_FORMAT = "stat_tf"
_RGB_CHANNELS = 3
_STEMS = {
    "resnet18": resnet.STEM,
    "resnet34": resnet.STEM,
    "r2plus1d_18": r2plus1d.STEM,
    "r2plus1d_34": r2plus1d.STEM,
    "efficientnet_lite0": efficientnet_lite.STEM,
}


def save(recognizer: Recognizer, path: str, source: str) -> int:
    """Writes a recognizer's backbone and classifier as a weight file, whole or not at all.

    Args:
      recognizer: A built recognizer of width 1 that reads RGB.
      path: The file. The same weights and source give the same bytes.
      source: Where the weights come from, for the metadata.

    Returns:
      How many tensors were written.

    Raises:
      UserError: The file cannot be written.
    """
    arrays = {slot.name: slot.variable.numpy() for slot in torch_weights.slots(recognizer)}
    config = recognizer.config
    metadata = {
        "format": _FORMAT,
        "backbone": config.backbone,
        "num_classes": str(config.num_classes),
        "source": os.path.basename(source),
    }
    _write(path, _serialized(arrays, metadata))
    return len(arrays)


def load(recognizer: Recognizer, source: str) -> tuple[str, ...]:
    """Sets a recognizer's weights: the backbone's, and the classifier's where it has as many classes.

    A stem that reads other channels than RGB takes the kernel's mean over RGB in each of them, as in TSN's
    cross-modality pretraining. A native network's stem keeps its fresh values: it reads another scale of picture.

    Args:
      recognizer: A built recognizer.
      source: `imagenet` or a weight file.

    Returns:
      What keeps its fresh values, in words.

    Raises:
      UserError: The weights are missing, damaged, or of another network. Nothing has been set then.
    """
    config = recognizer.config
    if source == IMAGENET:
        _check_imagenet(config)
        path = torch_weights.imagenet_path()
        state_dict = torch_weights.read_imagenet(path)
        num_classes = len(state_dict[f"{torch_weights.CLASSIFIER}.bias"])
        values = torch_weights.from_torch(state_dict, _file_slots(recognizer, num_classes), path)
    else:
        header = _read_header(source)
        _check_fits(header, source, config)
        num_classes = header.num_classes
        values = _read_tensors(source)
        shapes = {slot.name: slot.shape for slot in _file_slots(recognizer, num_classes)}
        torch_weights.check_tensors(values, shapes, source)

    fresh, fresh_layers = ["the temporal attention module"], set()
    if config.native:
        fresh.insert(0, "the stem: a native network reads its frames at stride 1")
        fresh_layers.add(_STEMS[config.backbone])
    if num_classes != config.num_classes:
        fresh.insert(0, f"the classifier: {config.num_classes} classes, the weights have {num_classes}")
        fresh_layers.add(torch_weights.CLASSIFIER)
    for slot in torch_weights.slots(recognizer):
        if slot.layer not in fresh_layers:
            slot.variable.assign(_fitted(values[slot.name], slot.shape))
    return tuple(fresh)


def check(source: str, config: RecognizerConfig) -> str:
    """Finds out, before anything is built, whether `load` can set these weights.

    Args:
      source: `imagenet` or a weight file.
      config: Of the recognizer.

    Returns:
      The file's SHA-256 in hexadecimal digits; "" for `imagenet`.

    Raises:
      UserError: The weights are missing, no weight file, or of another network.
    """
    if source == IMAGENET:
        _check_imagenet(config)
        torch_weights.imagenet_path()
        return ""
    _check_fits(_read_header(source), source, config)
    return hashlib.sha256(files.read_bytes(source)).hexdigest()


def is_weight_file(path: str) -> bool:
    """Whether a readable file is in this project's format."""
    try:
        _read_header(path)
    except errors.UserError:
        return False
    return True


class _Header(NamedTuple):
    """What a weight file says of itself."""

    backbone: str
    num_classes: int


def _read_header(path: str) -> _Header:
    try:
        with files.local_copy(path) as local:
            with open(local, "rb"):  # Its errors are plainer than those of safetensors.
                pass
            with safetensors.safe_open(local, framework="numpy") as file:
                metadata = file.metadata() or {}
        if metadata["format"] != _FORMAT:
            raise KeyError("format")
        return _Header(metadata["backbone"], int(metadata["num_classes"]))
    except OSError as error:
        raise errors.UserError(f"Cannot read the weights {path}: {error.strerror or errors.brief(error)}.") from error
    except (safetensors.SafetensorError, LookupError, ValueError) as error:
        raise errors.UserError(
            f"{path} is not a file of this project's weights, or is cut off: "
            "make one of a torchvision checkpoint with python -m stat_tf.convert_weights."
        ) from error


def _check_imagenet(config: RecognizerConfig) -> None:
    if config.backbone != "efficientnet_lite0":
        raise errors.UserError(
            f"There are ImageNet weights for efficientnet_lite0 only, not for {config.backbone}: "
            "convert torchvision's with python -m stat_tf.convert_weights and give that file."
        )


def _check_fits(header: _Header, path: str, config: RecognizerConfig) -> None:
    if header.backbone != config.backbone:
        raise errors.UserError(f"The weights {path} are a {header.backbone}'s; this network is a {config.backbone}.")
    if config.width != 1:
        raise errors.UserError(f"The weights {path} are for width 1; this network has width {config.width}.")


def _file_slots(recognizer: Recognizer, num_classes: int) -> list[torch_weights.Slot]:
    """The recognizer's slots with the shapes of weights for RGB and so many classes."""

    def of_the_file(slot: torch_weights.Slot) -> torch_weights.Slot:
        if slot.layer == torch_weights.CLASSIFIER:
            return slot._replace(shape=(*slot.shape[:-1], num_classes))
        if slot.layer == _STEMS[recognizer.config.backbone]:
            return slot._replace(shape=(*slot.shape[:-2], _RGB_CHANNELS, slot.shape[-1]))
        return slot

    return [of_the_file(slot) for slot in torch_weights.slots(recognizer)]


def _fitted(value: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The value; a stem's kernel [..., 3, out] for other channels becomes its mean over RGB in each of them."""
    if value.shape == shape:
        return value
    return np.broadcast_to(value.mean(axis=-2, keepdims=True), shape)


def _read_tensors(path: str) -> dict[str, np.ndarray]:
    try:
        return safetensors.numpy.load(files.read_bytes(path))
    except (OSError, safetensors.SafetensorError) as error:
        raise errors.UserError(f"Cannot read the weights {path}: {errors.brief(error)}.") from error


def _serialized(arrays: Mapping[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The safetensors format: the header's length, the header as JSON, the tensors' bytes."""
    data = safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata)
    start = 8 + int.from_bytes(data[:8], "little")
    # The library writes metadata in an order that changes from one process to the next.
    header = json.dumps(json.loads(data[8:start]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[start:]


def _write(path: str, data: bytes) -> None:
    try:
        files.make_dirs(os.path.dirname(path) or ".")
        files.write_bytes(path, data)
    except OSError as error:
        raise errors.UserError(f"Cannot write the weights {path}: {error.strerror}.") from error
