"""The command, in real processes."""

import pathlib
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest

from stat_tf.models import pretrained, recognizer

GOLDEN = pathlib.Path(__file__).parent / "golden"


def run(*arguments):
    command = [sys.executable, "-m", "stat_tf.convert_weights", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def golden():
    return runpy.run_path(str(GOLDEN / "weights.py"))


def test_converted_resnet34_meets_torchvisions_outputs(golden, tmp_path):
    np.savez(tmp_path / "weights.npz", **golden["state_dict"]("resnet34"))
    output = tmp_path / "ours.safetensors"
    done = run(f"--input={tmp_path / 'weights.npz'}", "--backbone=resnet34", f"--output={output}")
    assert done.returncode == 0, done.stderr
    written, compared, following = done.stdout.splitlines()
    assert written == f"Written: {output}: 182 tensors of a resnet34 with 1000 classes."
    assert re.fullmatch(
        r"The outputs differ from torchvision's by at most \d\.\de-0[67] of the largest\."
        r"|The outputs were not compared with torchvision's: No module named 'torch(vision)?'\.",
        compared,
    )
    assert following.startswith(f"Next: python -m stat_tf.train --backbone=resnet34 --init_from={output} ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ours.safetensors", "weights.npz"]

    size = (96, 128)
    model = recognizer.build_recognizer(recognizer.RecognizerConfig("resnet34", 1000, 1, 1, size, size))
    assert pretrained.load(model, str(output)) == ("the temporal attention module",)
    expected = np.load(GOLDEN / "resnet34.npz")
    stages, features = model.backbone(golden["clip"]("resnet34"))
    outputs = {"features": features, "logits": model.classifier(features)}
    outputs |= {f"layer{number}": np.abs(stage).sum(-1) for number, stage in enumerate(stages, start=1)}
    for name, output in outputs.items():
        assert np.abs(output - expected[name]).max() / np.abs(expected[name]).max() < 1e-4


def test_a_wrong_checkpoint_ends_in_one_sentence(tmp_path):
    np.savez(tmp_path / "weights.npz", **{"fc.bias": np.zeros(3, np.float32)})
    output = tmp_path / "ours.safetensors"
    done = run(f"--input={tmp_path / 'weights.npz'}", "--backbone=resnet18", f"--output={output}")
    assert done.returncode == 1
    assert re.fullmatch(r"error: The weights \S+ are of another network: they lack .* and 98 more\.\n", done.stderr)
    assert done.stdout == "" and not output.exists()


def test_an_unknown_backbone_is_named(tmp_path):
    done = run("--input=a.npz", "--backbone=resnet50", "--output=b.safetensors")
    assert done.returncode == 1
    assert "resnet50" in done.stderr and "Traceback" not in done.stderr
