"""Pushes into a directory of versions: the next number, whole or not at all, and nothing that was not checked."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from pipeline import pushing, verdicts
from stat_tf import digests, errors


@pytest.fixture
def model(tmp_path):
    """An export to the eyes of a push: a directory of files, blessed and validated."""
    directory = tmp_path / "export" / "1"
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_text("graph")
    (directory / "variables" / "variables.data-00000-of-00001").write_bytes(bytes(1000))
    approve(tmp_path, directory)
    return directory


def approve(root, model, blessed=True, verdict="pass"):
    digest = digests.of(str(model))
    fields = {"blessed": blessed, "reasons": [] if blessed else ["It is worse."], "model_digest": digest}
    verdicts.write(str(root / "blessing"), verdicts.BLESSING, fields)
    fields = {"verdict": verdict, "problems": [] if verdict == "pass" else ["It is slow."], "model_digest": digest}
    verdicts.write(str(root / "validation"), verdicts.VALIDATION, fields)


def push(root, model):
    return pushing.push(str(model), str(root / "blessing"), str(root / "validation"), str(root / "served"))


def shown(served):
    """What TF Serving, which passes over hidden names, may look at."""
    return sorted(name for name in os.listdir(served) if not name.startswith("."))


def test_next_version_is_one_more_than_the_highest(tmp_path, model):
    for name in ("2", "10", "notes"):
        (tmp_path / "served" / name).mkdir(parents=True)
    pushed = push(tmp_path, model)
    assert (pushed.version, pushed.directory) == (11, str(tmp_path / "served" / "11"))
    assert digests.of(pushed.directory) == digests.of(str(model))
    assert shown(tmp_path / "served") == ["10", "11", "2", "notes"]


def test_model_that_is_served_already_is_not_pushed_again(tmp_path, model):
    assert push(tmp_path, model).version == push(tmp_path, model).version == 1
    (model / "saved_model.pb").write_text("another graph")
    approve(tmp_path, model)
    assert push(tmp_path, model).version == 2


@pytest.mark.parametrize(
    ("approval", "message"),
    [({"blessed": False}, "is not blessed: It is worse."), ({"verdict": "fail"}, "did not pass its validation: It is")],
)
def test_model_that_is_not_good_enough_is_refused(tmp_path, model, approval, message):
    approve(tmp_path, model, **approval)
    with pytest.raises(errors.UserError, match=message):
        push(tmp_path, model)
    assert not (tmp_path / "served").exists()


def test_model_that_has_changed_since_it_was_checked_is_refused(tmp_path, model):
    (model / "saved_model.pb").write_text("another graph")
    with pytest.raises(errors.UserError, match="blessing is about another model .* pipeline.bless"):
        push(tmp_path, model)
    assert not (tmp_path / "served").exists()


def test_missing_and_damaged_verdicts_are_named(tmp_path, model):
    (tmp_path / "validation" / "validation.json").write_text("{}")
    with pytest.raises(errors.UserError, match="validation.json cannot be read .* pipeline.validate_export"):
        push(tmp_path, model)
    os.remove(tmp_path / "blessing" / "blessing.json")
    with pytest.raises(errors.UserError, match="blessing.json cannot be read .* pipeline.bless"):
        push(tmp_path, model)
    with pytest.raises(errors.UserError, match="none cannot be read"):
        push(tmp_path, tmp_path / "none")


def test_failed_copy_changes_nothing(tmp_path, model, monkeypatch):
    def fail(source, target):
        os.makedirs(target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pushing.shutil, "copytree", fail)
    with pytest.raises(errors.UserError, match=r"cannot be copied to .*served \(No space left on device\)"):
        push(tmp_path, model)
    assert shown(tmp_path / "served") == []


def test_killed_push_leaves_no_version_and_the_next_one_sweeps_up(tmp_path, model):
    size = 64 << 20
    with open(model / "variables" / "variables.data-00000-of-00001", "wb") as file:
        file.truncate(size)
    approve(tmp_path, model)
    served = tmp_path / "served"
    places = {"blessing": tmp_path / "blessing", "validation": tmp_path / "validation", "push_dir": served}
    flags = [f"--{name}={path}" for name, path in places.items()]
    command = [sys.executable, "-m", "pipeline.push", f"--model={model}", *flags, f"--output={tmp_path / 'out'}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(served.glob(".push-*/model")):
        assert process.poll() is None and time.monotonic() < deadline, "not caught halfway"
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert shown(served) == [] and any(served.glob(".push-*")) and not (tmp_path / "out").exists()

    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Version 1 of {served} is {model}.\n"
    assert json.loads(pathlib.Path(tmp_path, "out", "pushed.json").read_text())["version"] == 1
    assert shown(served) == ["1"] and not any(served.glob(".push-*"))
