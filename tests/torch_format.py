"""PyTorch's old checkpoint format, written without PyTorch."""

import collections
import io
import pickle
import struct
import sys
import types
from unittest import mock

MAGIC_NUMBER, PROTOCOL_VERSION = 0x1950A86A20F9469CFC6C, 1001


def old_format(make_object, storages):
    """Writes what `torch.save` wrote before 1.6, as its source describes it, with stand-ins for its types.

    `make_object` gets the tensor type and returns what is saved; `storages` is {key: array}.
    """
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    class FloatStorage:
        __module__ = "torch"

    FloatStorage.__qualname__ = "FloatStorage"
    torch.FloatStorage = FloatStorage

    def _rebuild_tensor_v2(*_):
        raise AssertionError("never called")

    _rebuild_tensor_v2.__module__, _rebuild_tensor_v2.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils

    class Storage:
        def __init__(self, key):
            self.key = key

    class Tensor:
        def __init__(self, key, offset, shape, strides):
            self.arguments = (Storage(key), offset, shape, strides, False, collections.OrderedDict())

        def __reduce__(self):
            return _rebuild_tensor_v2, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            if isinstance(value, Storage):
                return ("storage", FloatStorage, value.key, "cpu", storages[value.key].size, None)
            return None

    file = io.BytesIO()
    # pickle looks the names up there; torch itself may be loaded.
    with mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils}):
        for value in (MAGIC_NUMBER, PROTOCOL_VERSION, {"little_endian": True}, make_object(Tensor), list(storages)):
            Pickler(file, protocol=2).dump(value)
    for array in storages.values():
        file.write(struct.pack("<q", array.size) + array.astype("<f4").tobytes())
    return file.getvalue()


def save_old(path, state_dict):
    """Saves float32 arrays as tensors, each in a storage of its own."""
    storages = {str(number): array for number, array in enumerate(state_dict.values())}

    def tensors(tensor):
        views = zip(storages, state_dict.items(), strict=True)
        return {
            name: tensor(key, 0, array.shape, tuple(stride // array.itemsize for stride in array.strides))
            for key, (name, array) in views
        }

    path.write_bytes(old_format(tensors, storages))
