import pathlib
import runpy
import sys
import zipfile

import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from stat_tf import errors, files
from stat_tf.models import conversion, pretrained, recognizer
from tests import torch_format

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
BFLOAT16 = tf.bfloat16.as_numpy_dtype


def golden(arch):
    return runpy.run_path(str(GOLDEN / "weights.py"))["state_dict"](arch)


def is_in_resnet18(key):
    """ResNet-18 is ResNet-34 less the blocks from the third of each stage on."""
    return not key.startswith("layer") or int(key.split(".")[1]) < 2


@pytest.fixture(scope="module")
def resnet18():
    return {key: array for key, array in golden("resnet34").items() if is_in_resnet18(key)}


@pytest.fixture
def state_dict(resnet18):
    return dict(resnet18)


@pytest.fixture(autouse=True)
def without_torchvision(request, monkeypatch):
    """Most tests go without the comparison, which takes longer than a conversion and is not everywhere."""
    if "torch" not in request.fixturenames:
        monkeypatch.setitem(sys.modules, "torchvision", None)


@pytest.fixture
def torch():
    pytest.importorskip("torchvision")
    return pytest.importorskip("torch")


def save(path, state_dict):
    if path.suffix == ".npz":
        np.savez(path, **state_dict)
    elif path.suffix == ".safetensors":
        safetensors.numpy.save_file({key: np.ascontiguousarray(array) for key, array in state_dict.items()}, path)
    else:
        floats = {key: array for key, array in state_dict.items() if not key.endswith("num_batches_tracked")}
        torch_format.save_old(path, floats)
    return str(path)


def convert(path, backbone="resnet18"):
    """Converts beside the checkpoint; (what is said of it, the file's tensors)."""
    output = path.with_name("ours.safetensors")
    done = conversion.convert(str(path), backbone, str(output))
    return done, safetensors.numpy.load_file(output)


def test_remote_checkpoint_becomes_the_same_file(tmp_path, state_dict):
    local, remote = save(tmp_path / "theirs.pth", state_dict), "ram://conversion/theirs.pth"
    with open(local, "rb") as file:
        files.write_bytes(remote, file.read())
    conversion.convert(local, "resnet18", str(tmp_path / "ours.safetensors"))
    conversion.convert(remote, "resnet18", "ram://conversion/ours.safetensors")
    assert files.read_bytes("ram://conversion/ours.safetensors") == (tmp_path / "ours.safetensors").read_bytes()


def refused(path, match, backbone="resnet18", output="ours.safetensors"):
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(errors.UserError, match=match):
        conversion.convert(str(path), backbone, str(path.with_name(output)))
    assert sorted(path.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["weights.npz", "weights.safetensors", "weights.pth", "weights.pt"])
def test_each_format_gives_the_same_weights(tmp_path, state_dict, name):
    save(tmp_path / name, state_dict)
    done, tensors = convert(tmp_path / name)
    assert done == (102, 1000, None, "import of torchvision halted; None in sys.modules")
    assert len(tensors) == 102 and {array.dtype for array in tensors.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(
        tensors["layer2.0.conv1/kernel"], state_dict["layer2.0.conv1.weight"].transpose(2, 3, 1, 0)
    )
    np.testing.assert_array_equal(tensors["fc/kernel"], state_dict["fc.weight"].T)
    np.testing.assert_array_equal(
        tensors["layer2.0.downsample.1/moving_variance"], state_dict["layer2.0.downsample.1.running_var"]
    )


def test_converted_r2plus1d_meets_torchvisions_outputs(tmp_path):
    save(tmp_path / "weights.safetensors", golden("r2plus1d_18"))
    conversion.convert(str(tmp_path / "weights.safetensors"), "r2plus1d_18", str(tmp_path / "ours.safetensors"))
    config = recognizer.RecognizerConfig("r2plus1d_18", 400, 1, 2, (16, 24), (16, 24))
    model = recognizer.build_recognizer(config)
    pretrained.load(model, str(tmp_path / "ours.safetensors"))
    expected = np.load(GOLDEN / "r2plus1d_18.npz")["logits"]
    _, features = model.backbone(runpy.run_path(str(GOLDEN / "weights.py"))["clip"]("r2plus1d_18"))
    assert np.abs(model.classifier(features) - expected).max() / np.abs(expected).max() < 1e-4


def test_keys_of_data_parallel_training_lose_their_prefix(tmp_path, state_dict):
    save(tmp_path / "plain.npz", state_dict)
    save(tmp_path / "parallel.npz", {f"module.{key}": array for key, array in state_dict.items()})
    expected, actual = convert(tmp_path / "plain.npz")[1], convert(tmp_path / "parallel.npz")[1]
    assert expected.keys() == actual.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


def test_a_wrapped_state_dict_is_found(tmp_path, state_dict):
    floats = {key: array for key, array in state_dict.items() if not key.endswith("num_batches_tracked")}
    storages = {str(number): np.ascontiguousarray(array) for number, array in enumerate(floats.values())}

    def checkpoint(tensor):
        strides = [tuple(stride // 4 for stride in array.strides) for array in storages.values()]
        views = zip(storages.items(), floats, strides, strict=True)
        return {
            "epoch": 90,
            "state_dict": {f"module.{name}": tensor(key, 0, array.shape, s) for (key, array), name, s in views},
        }

    (tmp_path / "weights.pth").write_bytes(torch_format.old_format(checkpoint, storages))
    done, tensors = convert(tmp_path / "weights.pth")
    assert done.tensors == 102
    np.testing.assert_array_equal(tensors["bn1/gamma"], state_dict["bn1.weight"])


@pytest.mark.parametrize("dtype", [np.float16, BFLOAT16, np.float64])
def test_other_precisions_become_single(tmp_path, state_dict, dtype):
    for key, array in state_dict.items():
        if array.dtype == np.float32:
            state_dict[key] = array.astype(dtype)
    save(tmp_path / "weights.safetensors", state_dict)
    tensors = convert(tmp_path / "weights.safetensors")[1]
    assert {array.dtype for array in tensors.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(tensors["bn1/gamma"], state_dict["bn1.weight"].astype(np.float32))


def drop(state_dict):
    del state_dict["layer2.0.conv1.weight"]


def add(state_dict):
    state_dict["layer5.0.conv1.weight"] = np.zeros((2, 2, 3, 3), np.float32)


def reshape(state_dict):
    state_dict["layer2.0.conv1.weight"] = state_dict["layer2.0.conv1.weight"].transpose(2, 3, 1, 0)


def spoil(state_dict):
    state_dict["fc.bias"] = np.full(1000, np.inf, np.float32)


def overflow(state_dict):
    state_dict["bn1.bias"] = np.full(64, 1e300)


def make_whole(state_dict):
    state_dict["bn1.bias"] = np.zeros(64, np.int64)


def behead(state_dict):
    del state_dict["fc.weight"], state_dict["fc.bias"]


def disagree(state_dict):
    state_dict["fc.bias"] = state_dict["fc.bias"][:10]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (drop, r"weights\.npz.*lack layer2\.0\.conv1\.weight\."),
        (add, r"weights\.npz.*also have layer5\.0\.conv1\.weight\."),
        (reshape, r"layer2\.0\.conv1\.weight in \S+ has shape \[3, 3, 64, 128\]; this network needs \[128, 64, 3, 3\]"),
        (spoil, r"fc\.bias in \S+ has values that are not finite"),
        (overflow, r"bn1\.bias in \S+ has values that are not finite"),
        (make_whole, r"bn1\.bias in \S+ is of type int64"),
        (behead, r"weights\.npz lack the classifier.*fc\.weight.*fc\.bias"),
        (disagree, r"fc\.weight in \S+ has shape \[1000, 512\]; this network needs \[10, 512\]"),
    ],
)
def test_a_wrong_tensor_is_named_and_nothing_written(tmp_path, state_dict, change, match):
    change(state_dict)
    save(tmp_path / "weights.npz", state_dict)
    refused(tmp_path / "weights.npz", match)


def test_weights_of_another_backbone_are_refused(tmp_path, state_dict):
    save(tmp_path / "weights.npz", state_dict)
    refused(tmp_path / "weights.npz", r"lack layer1\.2\.bn1\.bias, .* and \d+ more\.", backbone="resnet34")
    refused(tmp_path / "weights.npz", r"lack .* and also have bn1\.bias", backbone="r2plus1d_18")


@pytest.mark.parametrize("name", ["weights.npz", "weights.safetensors", "weights.pth"])
@pytest.mark.parametrize("kept", [0, 0.00001, 0.5, 0.999999])
def test_a_truncated_checkpoint_is_named(tmp_path, state_dict, name, kept):
    path = tmp_path / name
    save(path, state_dict)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    refused(path, rf"{name}")


def test_a_damaged_archive_is_named(tmp_path, state_dict):
    """The zip's own checksums tell."""
    path = tmp_path / "weights.npz"
    save(path, state_dict)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    refused(path, r"weights\.npz is not an \.npz file of arrays, or is damaged")


def test_arrays_of_objects_are_refused(tmp_path):
    np.savez(tmp_path / "weights.npz", **{"fc.bias": np.array([{}], object)})
    refused(tmp_path / "weights.npz", r"weights\.npz is not an \.npz file of arrays")


def test_a_single_array_is_refused(tmp_path):
    with open(tmp_path / "weights.npz", "wb") as file:
        np.save(file, np.zeros(3))
    refused(tmp_path / "weights.npz", r"weights\.npz is not an \.npz file of arrays")


def test_names_that_cannot_be_are_refused(tmp_path, state_dict):
    refused(tmp_path / "none.npz", r"Cannot read the weights \S+none\.npz: No such file")
    refused(tmp_path / "weights.onnx", r"weights\.onnx.*ends in \.pth, \.pt, \.safetensors, \.npz")
    save(tmp_path / "weights.safetensors", state_dict)
    refused(tmp_path / "weights.safetensors", r"ours\.h5", output="ours.h5")
    refused(tmp_path / "weights.safetensors", r"weights\.safetensors is the input", output="weights.safetensors")
    (tmp_path / "taken.safetensors").mkdir()
    refused(tmp_path / "weights.safetensors", r"Cannot write the weights \S+taken", output="taken.safetensors")


def test_a_file_that_is_converted_already_says_so(tmp_path, state_dict):
    save(tmp_path / "weights.npz", state_dict)
    convert(tmp_path / "weights.npz")
    match = r"ours\.safetensors is converted already.*stat_tf\.train --init_from="
    refused(tmp_path / "ours.safetensors", match, output="again.safetensors")


def test_pytorchs_new_format_says_what_it_takes_without_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with zipfile.ZipFile(tmp_path / "weights.pth", "w") as file:
        file.writestr("archive/data.pkl", b"")
    refused(tmp_path / "weights.pth", r"weights\.pth.*install torch, or save the state dict as \.safetensors or \.npz")


@pytest.mark.parametrize("difference", [0.0011, float("nan")])
def test_other_outputs_than_torchvisions_are_refused(tmp_path, state_dict, monkeypatch, difference):
    monkeypatch.setattr(conversion, "_why_not_comparable", lambda: "")
    monkeypatch.setattr(conversion, "_difference", lambda *_: difference)
    save(tmp_path / "weights.npz", state_dict)
    refused(tmp_path / "weights.npz", rf"weights\.npz as a resnet18 differ.*by {difference:.1e}, more than 1e-03")


@pytest.mark.parametrize(
    "backbone",
    [
        "resnet18",
        "resnet34",
        pytest.param("r2plus1d_18", marks=pytest.mark.slow),
        pytest.param("r2plus1d_34", marks=pytest.mark.slow),
    ],
)
def test_outputs_are_compared_with_torchvisions(tmp_path, torch, backbone):
    """On weights as torch.save writes them; the statistics are other than every fresh network's."""
    torch.manual_seed(0)
    network = conversion._torchvision_network(backbone, 7)
    for name, values in network.state_dict().items():
        if name.endswith(("running_var", "weight")) and values.ndim == 1:
            values.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bias")):
            values.normal_(0, 0.1)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    done, _ = convert(tmp_path / "weights.pth", backbone)
    assert done.num_classes == 7
    assert done.difference < 1e-5


def test_a_torchvision_of_other_outputs_is_noticed(tmp_path, torch, state_dict, monkeypatch):
    """As if its batch normalisation added another epsilon to the variance."""
    build = conversion._torchvision_network

    def with_another_epsilon(*arguments):
        network = build(*arguments)
        network.bn1.eps = 0.1
        return network

    monkeypatch.setattr(conversion, "_torchvision_network", with_another_epsilon)
    torch.save({key: torch.from_numpy(np.array(value)) for key, value in state_dict.items()}, tmp_path / "weights.pth")
    refused(tmp_path / "weights.pth", "differ from torchvision's")


def test_what_torch_saves_is_read(tmp_path, torch, state_dict):
    """Both formats, wrapped, half precision; a whole pickled module is refused."""
    tensors = {f"module.{key}": torch.from_numpy(np.array(value)) for key, value in state_dict.items()}
    half = {key: tensor.bfloat16() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    for new_format in (True, False):
        checkpoint = {"state_dict": half, "epoch": 3, "optimizer": {"momentum": [torch.ones(3)]}}
        torch.save(checkpoint, tmp_path / "weights.pth", _use_new_zipfile_serialization=new_format)
        arrays = conversion.read_state_dict(str(tmp_path / "weights.pth"))
        assert arrays.keys() == state_dict.keys()
        expected = state_dict["conv1.weight"].astype(BFLOAT16).astype(np.float32)
        np.testing.assert_array_equal(arrays["conv1.weight"], expected)
    torch.save(torch.nn.Linear(2, 3), tmp_path / "module.pth")
    refused(tmp_path / "module.pth", r"PyTorch cannot read \S+module\.pth as a state dict of tensors")
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    refused(tmp_path / "epoch.pth", r"epoch\.pth holds more than a state dict of tensors")
