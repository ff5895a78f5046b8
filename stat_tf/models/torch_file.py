"""Reads PyTorch's old checkpoint format (before 1.6) without PyTorch.

Such a file is four pickles (magic number, protocol version, system facts, the state dict) and the
list of storages, followed by their bytes. A pickle can name any function to be called; this reader
knows only the few names that tensors need and refuses a file with any other.
"""

import collections
import dataclasses
import pickle
import struct
from typing import Any, BinaryIO

import numpy as np

from stat_tf import errors

_MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
_PROTOCOL_VERSION = 1001
_STORAGE_DTYPES = {
    "HalfStorage": np.dtype("<f2"),
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "IntStorage": np.dtype("<i4"),
    "LongStorage": np.dtype("<i8"),
}


def read_state_dict(path: str, local: str | None = None) -> dict[str, np.ndarray]:
    """Reads a state dict, {key: array}, in the checkpoint's own key order and dtypes.

    Args:
      path: The file; in messages only when `local` is given.
      local: The copy to read of a file that lies in a remote store.

    Raises:
      UserError: The file is missing, cut off, of another format, or its state dict (see `unwrapped`) holds
        anything but tensors.
    """
    try:
        with open(local or path, "rb") as file:
            return _read(file, path)
    except OSError as error:
        raise errors.UserError(f"Cannot read the weights {path}: {error.strerror}.") from error
    except errors.UserError:
        raise
    # A damaged pickle can raise anything.
    except Exception as error:
        raise errors.UserError(f"{path} is not an old-format PyTorch checkpoint, or is damaged: {error}.") from error


def unwrapped(checkpoint: Any) -> Any:
    """What stands under "state_dict" in a checkpoint that holds a training's other state too; else the checkpoint."""
    return checkpoint["state_dict"] if isinstance(checkpoint, dict) and "state_dict" in checkpoint else checkpoint


@dataclasses.dataclass(frozen=True)
class _Storage:
    """A reference to numbers that come later in the file."""

    key: str
    dtype: np.dtype
    size: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    """A view on a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Makes dictionaries, numbers, strings and `_Tensor`s, nothing else; notes the storages that are named."""

    def __init__(self, file: BinaryIO):
        super().__init__(file)
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, shape, strides, *_: _Tensor(storage, offset, shape, strides)
        if module == "torch" and name in _STORAGE_DTYPES:
            return _STORAGE_DTYPES[name]
        raise pickle.UnpicklingError(f"it names {module}.{name}, which no tensor needs")

    def persistent_load(self, pid: tuple) -> _Storage:
        _, dtype, key, _, size, view = pid
        if view is not None:
            raise pickle.UnpicklingError("it has views on storages, which this reader does not know")
        return self.storages.setdefault(key, _Storage(key, dtype, size))


def _read(file: BinaryIO, path: str) -> dict[str, np.ndarray]:
    if _Unpickler(file).load() != _MAGIC_NUMBER or _Unpickler(file).load() != _PROTOCOL_VERSION:
        raise errors.UserError(f"{path} is not an old-format PyTorch checkpoint.")
    if not _Unpickler(file).load()["little_endian"]:
        raise errors.UserError(f"{path} was written on a big-endian machine; convert it with PyTorch first.")
    unpickler = _Unpickler(file)
    tensors = unwrapped(unpickler.load())
    if not (isinstance(tensors, dict) and all(isinstance(tensor, _Tensor) for tensor in tensors.values())):
        raise errors.UserError(f"{path} holds more than a state dict of tensors; save model.state_dict() alone.")
    arrays = {key: _read_storage(file, unpickler.storages[key], path) for key in _Unpickler(file).load()}
    return {name: _view(arrays[tensor.storage.key], tensor, f"{name} in {path}") for name, tensor in tensors.items()}


def _read_storage(file: BinaryIO, storage: _Storage, path: str) -> np.ndarray:
    header = file.read(8)
    if len(header) < 8 or struct.unpack("<q", header)[0] != storage.size:
        raise errors.UserError(f"{path} is cut off or damaged: copy or install it again.")
    data = file.read(storage.size * storage.dtype.itemsize)
    if len(data) != storage.size * storage.dtype.itemsize:
        raise errors.UserError(f"{path} is cut off: copy or install it again.")
    return np.frombuffer(data, storage.dtype)


def _view(array: np.ndarray, tensor: _Tensor, name: str) -> np.ndarray:
    """The tensor's own copy of its elements; strides may be any, so check that they stay inside."""
    last = tensor.offset + sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.strides, strict=True))
    if min(tensor.offset, *tensor.shape, *tensor.strides, 0) < 0 or (0 not in tensor.shape and last >= array.size):
        raise errors.UserError(f"The tensor {name} reaches outside its storage: the file is damaged.")
    strides = [stride * array.itemsize for stride in tensor.strides]
    return np.lib.stride_tricks.as_strided(array[tensor.offset :], tensor.shape, strides).copy()
