"""Pushes into a directory of versions: the next number, whole or not at all, and nothing that was not checked.

The remote directory is in TensorFlow's store in memory, which, as an object store, has nothing that is done at once but
the writing of a file.
"""

import itertools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
import tensorflow as tf

from pipeline import pushing, verdicts
from stat_tf import digests, errors, files, versions

_numbers = itertools.count()


@pytest.fixture
def model(tmp_path):
    """An export to the eyes of a push: a directory of files, blessed and validated."""
    directory = tmp_path / "export" / "1"
    (directory / "variables").mkdir(parents=True)
    (directory / "saved_model.pb").write_text("graph")
    (directory / "variables" / "variables.data-00000-of-00001").write_bytes(bytes(1000))
    (directory / "variables" / "variables.index").write_bytes(bytes(10))
    approve(tmp_path, directory)
    return directory


def approve(root, model, blessed=True, verdict="pass", over=None):
    """Writes verdicts on a model, which was compared with the one at `over`."""
    digest, served = digests.of(str(model)), digests.of(str(over)) if over else ""
    reasons = [] if blessed else ["It is worse."]
    fields = {"blessed": blessed, "reasons": reasons, "model_digest": digest, "pushed_digest": served}
    verdicts.write(str(root / "blessing"), verdicts.BLESSING, fields)
    fields = {"verdict": verdict, "problems": [] if verdict == "pass" else ["It is slow."], "model_digest": digest}
    verdicts.write(str(root / "validation"), verdicts.VALIDATION, fields)


def push(root, model, push_dir=None):
    return pushing.push(str(model), str(root / "blessing"), str(root / "validation"), str(push_dir or root / "served"))


def shown(served):
    """What TF Serving, which passes over hidden names, may look at."""
    return sorted(name for name in os.listdir(served) if not name.startswith("."))


def test_next_version_is_one_more_than_the_highest(tmp_path, model):
    for name in ("2", "10", "notes"):
        (tmp_path / "served" / name).mkdir(parents=True)
    (tmp_path / "served" / "2" / "saved_model.pb").write_text("another graph")
    approve(tmp_path, model, over=tmp_path / "served" / "2")  # 10 is no model
    pushed = push(tmp_path, model)
    assert (pushed.version, pushed.directory) == (11, str(tmp_path / "served" / "11"))
    assert digests.of(pushed.directory) == digests.of(str(model))
    assert shown(tmp_path / "served") == ["10", "11", "2", "notes"]


def test_model_that_is_served_already_is_not_pushed_again(tmp_path, model):
    assert push(tmp_path, model).version == push(tmp_path, model).version == 1
    (model / "saved_model.pb").write_text("another graph")
    approve(tmp_path, model, over=tmp_path / "served" / "1")
    assert push(tmp_path, model).version == 2


def test_model_that_was_not_compared_with_the_one_served_is_refused(tmp_path, model):
    first = push(tmp_path, model).directory
    (model / "saved_model.pb").write_text("another graph")
    approve(tmp_path, model)
    with pytest.raises(
        errors.UserError, match="with no pushed model, and version 1 is the newest in .*: evaluate and bless"
    ):
        push(tmp_path, model)
    approve(tmp_path, model, over=first)
    shutil.copytree(first, tmp_path / "served" / "2")
    (tmp_path / "served" / "2" / "saved_model.pb").write_text("pushed by somebody else")
    with pytest.raises(errors.UserError, match="with another model, and version 2 is the newest"):
        push(tmp_path, model)
    shutil.rmtree(tmp_path / "served")
    with pytest.raises(errors.UserError, match="with another model, and none is the newest"):
        push(tmp_path, model)
    assert not list((tmp_path / "served").glob("[0-9]*"))


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
    blessing = json.loads((tmp_path / "blessing" / "blessing.json").read_text())
    del blessing["pushed_digest"]  # as an earlier version of the command wrote it
    approve(tmp_path, model)
    (tmp_path / "blessing" / "blessing.json").write_text(json.dumps(blessing))
    with pytest.raises(errors.UserError, match="blessing.json cannot be read .* pipeline.bless"):
        push(tmp_path, model)
    os.remove(tmp_path / "blessing" / "blessing.json")
    with pytest.raises(errors.UserError, match="blessing.json cannot be read .* pipeline.bless"):
        push(tmp_path, model)
    with pytest.raises(errors.UserError, match=r"none has no saved_model.pb: give --model a version"):
        push(tmp_path, tmp_path / "none")


def test_failed_copy_changes_nothing(tmp_path, model, monkeypatch):
    copy = files.copy

    def fail(source, target):
        copy(source, target)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "copy", fail)
    with pytest.raises(errors.UserError, match=r"cannot be copied to .*served \(No space left on device\)"):
        push(tmp_path, model)
    assert shown(tmp_path / "served") == []


KILLED_AMID_COPY = """
import os, signal, sys
from pipeline import pushing
from stat_tf import files
copy = files.copy
def copy_and_die(source, target):
    copy(source, target)
    os.kill(os.getpid(), signal.SIGKILL)
files.copy = copy_and_die
pushing.push(*sys.argv[1:])
"""


def test_killed_push_leaves_no_version_and_the_next_one_sweeps_up(tmp_path, model):
    served = tmp_path / "served"
    places = {"model": model, "blessing": tmp_path / "blessing", "validation": tmp_path / "validation"}
    places["push_dir"] = served
    killed = subprocess.run([sys.executable, "-c", KILLED_AMID_COPY, *map(str, places.values())], timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert shown(served) == [] and any(served.glob(".push-*/model/*"))

    flags = [f"--{name}={path}" for name, path in places.items()]
    command = [sys.executable, "-m", "pipeline.push", *flags, f"--output={tmp_path / 'out'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Version 1 of {served} is {model}.\n"
    assert json.loads(pathlib.Path(tmp_path, "out", "pushed.json").read_text())["version"] == 1
    assert shown(served) == ["1"] and not any(served.glob(".push-*"))


@pytest.fixture
def remote():
    """An empty remote directory."""
    return f"ram://pushed{next(_numbers)}/served"


def put(path, data=b"half"):
    files.make_dirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(data)


def change(root, model, text, over):
    """Makes another model of it, with as many bytes, compared with the one at `over`."""
    (model / "saved_model.pb").write_text(text)
    (model / "variables" / "variables.data-00000-of-00001").write_bytes(text[-1].encode() * 1000)
    approve(root, model, over=over)
    return digests.of(str(model))


def test_remote_directory_gets_the_next_version_once(tmp_path, model, remote):
    first = push(tmp_path, model, remote)
    assert (first.version, first.directory) == (1, f"{remote}/1")
    assert digests.of(first.directory) == first.model_digest == digests.of(str(model))
    assert push(tmp_path, model, remote) == first and files.list_dir(remote) == ["1"]
    change(tmp_path, model, "graph2", over=f"{remote}/1")
    second = push(tmp_path, model, remote)
    assert second.version == 2 and digests.of(f"{remote}/1") == first.model_digest
    # From one store to another, or to this machine.
    approve(tmp_path, model)
    verdicts_of = (str(tmp_path / "blessing"), str(tmp_path / "validation"))
    assert pushing.push(second.directory, *verdicts_of, f"{remote}-too").version == 1
    here = pushing.push(f"{remote}-too/1", *verdicts_of, str(tmp_path / "here"))
    assert digests.of(here.directory) == second.model_digest


class Killed(BaseException):
    pass


def die_amid_file(patch, number):
    """Lets as many files be written, half of the next one, and does nothing after that, as a process that is killed."""
    written = itertools.count()
    copy, write_bytes = files.copy, files.write_bytes

    def copy_some(source, target):
        if next(written) == number:
            put(target)
            raise Killed
        copy(source, target)

    def write_some(path, data):
        if next(written) == number:
            raise Killed  # without half of it: an object appears when all of it has arrived
        write_bytes(path, data)

    patch.setattr(files, "copy", copy_some)
    patch.setattr(files, "write_bytes", write_some)
    patch.setattr(files, "remove_tree", lambda path: None)


@pytest.mark.parametrize("other", [False, True], ids=["the same again", "another then"])
@pytest.mark.parametrize("number", range(3))
def test_killed_remote_push_leaves_what_was_served_and_the_next_one_sweeps_up(
    number, other, tmp_path, model, remote, monkeypatch
):
    old = push(tmp_path, model, remote)
    wanted = change(tmp_path, model, "graph2", over=f"{remote}/1")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        die_amid_file(patch, number)
        push(tmp_path, model, remote)
    assert files.is_dir(f"{remote}/2"), "nothing was begun"
    assert versions.newest(remote) == 1 and digests.of(f"{remote}/1") == old.model_digest

    wanted = change(tmp_path, model, "graph3", over=f"{remote}/1") if other else wanted
    assert push(tmp_path, model, remote).model_digest == wanted
    assert [digests.of(f"{remote}/{number}") for number in versions.numbers(remote)] == [wanted, old.model_digest]


def test_remote_push_without_anything_to_do_sweeps_up_too(tmp_path, model, remote):
    """A server that starts anew takes the highest number, and would find no model in it."""
    assert push(tmp_path, model, remote).version == 1
    put(f"{remote}/2/variables/variables.data-00000-of-00001")
    assert push(tmp_path, model, remote).version == 1
    assert files.list_dir(remote) == ["1"]


def test_numbers_that_are_no_versions_are_left_alone(tmp_path, model, remote):
    put(f"{remote}/2024/notes.txt")
    put(f"{remote}/2025")
    assert push(tmp_path, model, remote).version == 2026
    assert files.read_text(f"{remote}/2024/notes.txt") == files.read_text(f"{remote}/2025") == "half"


def test_remote_copy_that_differs_never_gets_its_graph(tmp_path, model, remote, monkeypatch):
    written, copy = [], tf.io.gfile.copy

    def flip(source, target, overwrite):
        copy(source, target, overwrite=overwrite)
        written.append(target)
        with tf.io.gfile.GFile(target, "wb") as file:
            file.write(bytes([1]) + bytes(999))

    monkeypatch.setattr(tf.io.gfile, "copy", flip)
    with pytest.raises(errors.UserError, match="cannot be copied to ram://.* differs from it.; nothing has changed"):
        push(tmp_path, model, remote)
    assert len(written) == 2 and not any(name.endswith(".pb") for name in written) and not files.exists(f"{remote}/1")


def test_graph_that_changes_during_a_remote_push_is_not_served(tmp_path, model, remote, monkeypatch):
    copy = files.copy

    def copy_and_change(source, target):
        copy(source, target)
        (model / "saved_model.pb").write_text("other")

    monkeypatch.setattr(files, "copy", copy_and_change)
    with pytest.raises(errors.UserError, match="has changed meanwhile"):
        push(tmp_path, model, remote)
    assert not files.exists(f"{remote}/1")


def test_store_that_refuses_is_named_and_its_leftovers_are_deleted(tmp_path, model, remote, monkeypatch):
    def refuse(source, target, overwrite):
        raise tf.errors.PermissionDeniedError(None, None, "403 Forbidden")

    monkeypatch.setattr(tf.io.gfile, "copy", refuse)
    with pytest.raises(errors.UserError, match=r"^ram://.* cannot be used \(403 Forbidden\)"):
        push(tmp_path, model, remote)
    assert not files.exists(f"{remote}/1")


def test_verdicts_and_notes_may_be_remote(tmp_path, model, remote):
    for name in (verdicts.BLESSING, verdicts.VALIDATION):
        directory = tmp_path / name.removesuffix(".json")
        verdicts.write(f"{remote}/verdicts", name, verdicts.load(str(directory), name))
    pushed = pushing.push(str(model), f"{remote}/verdicts", f"{remote}/verdicts", remote)
    pushing.write(f"{remote}/note", pushed)
    assert verdicts.load(f"{remote}/note", verdicts.PUSHED)["directory"] == f"{remote}/1"
