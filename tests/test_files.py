"""Files on this machine and in one of TensorFlow's own remote file systems: the same behaviour of both."""

import itertools
import os

import pytest
import tensorflow as tf

from stat_tf import errors, files, stores

_numbers = itertools.count()


@pytest.fixture(params=["local", "ram"])
def root(request, tmp_path):
    """A directory that is empty; of `ram://`, which is this process's own."""
    return str(tmp_path) if request.param == "local" else f"ram://files{next(_numbers)}"


def test_what_is_written_is_read_listed_and_removed(root):
    assert not files.exists(f"{root}/new") and not files.is_dir(f"{root}/new")
    files.make_dirs(f"{root}/new/deep")
    files.write_text(f"{root}/new/text.json", "é\n")
    assert files.read_text(f"{root}/new/text.json") == "é\n"
    if files.is_remote(root):  # `ram://` appends to what is there
        files.remove(f"{root}/new/text.json")
    files.write_bytes(f"{root}/new/text.json", b"\x00\xff")
    files.write_text(f"{root}/new/deep/b", "")
    assert files.read_bytes(f"{root}/new/text.json") == b"\x00\xff"
    assert files.read_text(f"{root}/new/deep/b") == ""
    with pytest.raises(UnicodeDecodeError):
        files.read_text(f"{root}/new/text.json")
    assert sorted(files.list_dir(f"{root}/new")) == ["deep", "text.json"]
    assert files.is_dir(f"{root}/new") and files.exists(f"{root}/new/text.json")
    assert not files.is_dir(f"{root}/new/text.json")
    assert (files.size(f"{root}/new/text.json"), files.size(f"{root}/new/deep/b")) == (2, 0)
    files.rename(f"{root}/new/text.json", f"{root}/new/other")
    files.remove(f"{root}/new/other")
    assert files.size(f"{root}/new/other") is None
    files.remove_tree(f"{root}/new")
    assert not files.exists(f"{root}/new")
    files.remove_tree(f"{root}/new")


def test_what_is_missing_is_a_missing_file(root):
    for access in (files.read_bytes, files.read_text, files.list_dir, files.remove):
        with pytest.raises(FileNotFoundError) as raised:
            access(f"{root}/none")
        assert (raised.value.strerror, raised.value.filename) == ("No such file or directory", f"{root}/none")
    with pytest.raises(FileNotFoundError), files.local_copy(f"{root}/none") as local, open(local):
        pass


def test_walk_has_each_file_once_and_a_directorys_own_first(root):
    for name in ("b", "a/z", "a/b/c", "d.d", "c/a"):
        files.copy(__file__, f"{root}/{name}")
    files.make_dirs(f"{root}/empty/deep")
    assert list(files.walk(root)) == ["b", "d.d", "a/z", "a/b/c", "c/a"]


def test_copy_is_over_what_is_there_and_between_stores(root, tmp_path):
    data = os.urandom(5 * 2**20)
    (tmp_path / "source").write_bytes(data)
    files.copy(__file__, f"{root}/deep/copy")
    if files.is_remote(root):  # `ram://` appends to what is there
        files.remove(f"{root}/deep/copy")
    files.copy(str(tmp_path / "source"), f"{root}/deep/copy")
    assert b"".join(files.chunks(f"{root}/deep/copy")) == data
    files.copy(f"{root}/deep/copy", f"{root}/another")
    files.copy(f"{root}/another", str(tmp_path / "here" / "again"))
    assert (tmp_path / "here" / "again").read_bytes() == data
    with pytest.raises(FileNotFoundError):
        files.copy(f"{root}/none", f"{root}/another")


def test_local_copy_has_the_bytes_and_suffix_and_is_gone_afterwards(root):
    files.make_dirs(root)
    data = os.urandom(5 * 2**20)
    files.write_bytes(f"{root}/a.mp4", data)
    with files.local_copy(f"{root}/a.mp4") as local:
        with open(local, "rb") as file:
            assert file.read() == data
        assert local.endswith(".mp4")
    assert os.path.exists(local) != files.is_remote(root)
    assert files.read_bytes(f"{root}/a.mp4") == data


def test_file_that_cannot_be_written_leaves_nothing_and_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "kept"
    path.write_text("old")

    def fail(*unused):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        files.write_text(str(path), "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["kept"] and path.read_text() == "old"


def test_last_file_of_a_tree_is_uploaded_last(tmp_path, monkeypatch):
    for name in ("z", "graph.pb", "a/b"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    copied, copy = [], tf.io.gfile.copy

    def watched(source, target, overwrite):
        copied.append(target.removeprefix("ram://tree/"))
        copy(source, target, overwrite=overwrite)

    monkeypatch.setattr(tf.io.gfile, "copy", watched)
    files.upload_tree(str(tmp_path), "ram://tree", last="graph.pb")
    assert sorted(copied) == ["a/b", "graph.pb", "z"] and copied[-1] == "graph.pb"
    assert [files.read_text(f"ram://tree/{name}") for name in copied] == copied


def test_unknown_scheme_is_named():
    with pytest.raises(errors.UserError, match="There is no file system for foo://"):
        files.exists("foo://bucket/name")


@pytest.mark.parametrize(
    "error", [tf.errors.PermissionDeniedError(None, None, "403 Forbidden"), RuntimeError("no connection")]
)
def test_store_that_refuses_is_told_from_a_missing_file(error, monkeypatch):
    def refuse(path):
        raise error

    monkeypatch.setattr(tf.io.gfile, "stat", refuse)
    for access in (files.exists, files.is_dir, files.size):
        with pytest.raises(errors.UserError, match=r"ram://b/x cannot be used \((403 Forbidden|no connection)\)"):
            access("ram://b/x")


def test_s3_that_says_missing_is_asked_once_more(monkeypatch):
    """tensorflow-io's client says "not found" of an endpoint that is down."""
    asked = []

    def down(bucket):
        asked.append(bucket)
        raise errors.UserError("s3://b cannot be used")

    monkeypatch.setattr(stores, "_ask_s3", down)
    with pytest.raises(errors.UserError, match="cannot be used"), stores.explained("s3://b/x"):
        raise tf.errors.NotFoundError(None, None, "Object s3://b/x does not exist")
    monkeypatch.setattr(stores, "_ask_s3", asked.append)
    with pytest.raises(FileNotFoundError), stores.explained("s3://b/x"):
        raise tf.errors.NotFoundError(None, None, "Object s3://b/x does not exist")
    assert asked == ["b", "b"]


def test_only_stores_with_directories_rename_them():
    assert all(stores.has_directories(path) for path in ("/a", "a/b", "hdfs://host/a"))
    assert not any(stores.has_directories(path) for path in ("s3://b/a", "gs://b/a", "az://a/b"))


def test_place_that_must_be_local_is_named():
    files.check_local("runs", "output", "it is locked")
    with pytest.raises(errors.UserError, match="--output=s3://b/runs must be a path of this machine, since it is lock"):
        files.check_local("s3://b/runs", "output", "it is locked")
