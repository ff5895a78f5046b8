"""Jobs on Beam with paths in HDFS, against a stand-in for its web service on loopback."""

import json
import re

import pytest
from apache_beam.io.filesystems import FileSystems

from pipeline import named_files, staging
from pipeline.graph import Call
from pipeline.sources import files
from stat_tf import errors
from tests import builds, media, webhdfs

STORE = "hdfs://namenode:8020"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "hdfs").mkdir()
    return tmp_path / "hdfs"


@pytest.fixture
def options(root):
    """Beam's options; its file systems in this process are ready."""
    with webhdfs.serve(root) as options:
        files.connect(options, STORE)
        yield options


def put(root, name, data):
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(data)


def test_listing_goes_as_deep_as_the_directories(root, options):
    contents = {"videos/top.mp4": b"1", "videos/train/run/a.mp4": b"22", "videos/train/run/empty.mp4": b""}
    for name, data in {**contents, "videos-too/b.mp4": b"333"}.items():
        put(root, name, data)
    (root / "videos" / "nothing").mkdir()
    names = sorted(name.removeprefix("videos/") for name in contents)
    assert files.list_files(f"{STORE}/videos", "videos") == names
    described = files.describe(f"{STORE}/videos/")
    assert [entry[:2] for entry in described] == [(f"{STORE}/{name}", len(contents[name])) for name in sorted(contents)]
    assert [entry[2] for entry in described] == pytest.approx(
        [(root / name).stat().st_mtime for name in sorted(contents)], abs=0.002
    )
    assert [entry[:2] for entry in files.describe(f"{STORE}/videos/top.mp4")] == [(f"{STORE}/videos/top.mp4", 1)]
    assert files.sizes(f"{STORE}/videos-too") == {"b.mp4": 3}
    assert files.list_files(f"{STORE}/none", "videos") == files.describe(f"{STORE}/none") == []
    assert files.sizes(f"{STORE}/none") == {}
    (root / "videos" / "a[1]").mkdir()
    with pytest.raises(errors.UserError, match=re.escape(f"{STORE}/videos/a[1] as a pattern")):
        files.list_files(f"{STORE}/videos", "videos")


def test_changed_video_is_seen_by_the_pipeline(root, options):
    flags = dict(option.removeprefix("--").partition("=")[::2] for option in options) | {"hdfs_full_urls": True}

    def observed():
        return named_files.observe(Call({}, {"flags": {"videos": f"{STORE}/videos", **flags}}, {}, ""))

    put(root, "videos/train/a/1.mp4", b"1")
    before = observed()
    assert observed() == before
    put(root, "videos/train/a/1.mp4", b"12")
    assert observed() != before


def test_files_are_replaced(root, options):
    put(root, "place/there", b"old")
    for data in (b"new", b""):
        files.write(f"{STORE}/place/there", data)
        assert (root / "place" / "there").read_bytes() == data
    files.write(f"{STORE}/place/aside", b"moved")
    files.move(f"{STORE}/place/aside", f"{STORE}/place/there")
    assert {path.name: path.read_bytes() for path in (root / "place").iterdir()} == {"there": b"moved"}


def test_output_is_replaced_whole_or_stays(root, options, monkeypatch):
    output = f"{STORE}/sets/data"
    for content in (b"old", b"new"):
        with staging.directory(output) as place:
            files.write(f"{place}/dataset/dataset.json", content)
            staging.check_output(output, overwrite=content == b"new")
            staging.publish(place, output)
        assert [path.name for path in (root / "sets").iterdir()] == ["data"]
        assert (root / "sets" / "data" / "dataset.json").read_bytes() == content

    rename = FileSystems.rename

    def rename_but_the_dataset(sources, targets):
        if targets == [output] and sources[0].endswith("/dataset"):
            raise OSError("the connection is lost")
        rename(sources, targets)

    monkeypatch.setattr(FileSystems, "rename", rename_but_the_dataset)
    with pytest.raises(errors.UserError, match="connection is lost"), staging.directory(output) as place:
        files.write(f"{place}/dataset/dataset.json", b"newest")
        staging.publish(place, output)
    assert (root / "sets" / "data" / "dataset.json").read_bytes() == b"new"
    assert [path.name for path in (root / "sets").iterdir()] == ["data"]


def test_taken_outputs_are_refused(root, options):
    put(root, "photos/2026/cat.jpg", b"1")
    put(root, "file", b"1")
    put(root, "data/dataset.json", b"{}")
    put(root, "data/runs/teacher/config.json", b"{}")
    for name in ("photos", "file"):
        with pytest.raises(errors.UserError, match=f"{name} exists and is not a dataset"):
            staging.check_output(f"{STORE}/{name}", overwrite=True)
    with pytest.raises(errors.UserError, match="already holds a dataset"):
        staging.check_output(f"{STORE}/data", overwrite=False)
    with pytest.raises(errors.UserError, match="data holds runs/teacher/config.json beside its dataset"):
        staging.check_output(f"{STORE}/data", overwrite=True)
    staging.check_output(f"{STORE}/new", overwrite=False)


def test_what_is_missing_is_named(root, options):
    with pytest.raises(errors.UserError, match="over WebHDFS.*: give --hdfs_user, --hdfs_full_urls too"):
        files.connect(options[:2], STORE)
    with pytest.raises(errors.UserError, match="HDFS does not answer at http://127.0.0.1:9 .*check --hdfs_host"):
        files.connect([options[0], "--hdfs_port=9", *options[2:]], STORE)
    with pytest.raises(errors.UserError, match="cannot be written .*Permission denied: user=somebody"):
        files.connect([*options[:2], "--hdfs_user=somebody", options[3]], STORE)
        with staging.directory(f"{STORE}/data"):
            pass


@pytest.mark.slow
def test_build_in_hdfs_is_that_of_local_files(root, options, tmp_path):
    """By the command, with its workers in processes of their own; once more over what is there."""
    for number in range(6):
        name = f"videos/{('train', 'test')[number % 3 == 2]}/{('jump', 'run')[number % 2]}/{number}.mp4"
        media.encode_video(root / name, media.numbered_frames(12 + number)[number:])
    put(root, "videos/train/run/broken.mp4", b"no video")
    arguments = ("--layout=folders", *builds.FRAMES, "--num_shards=2", "--num_workers=2", "--max_rejected=0.5")
    assert builds.run(f"--videos={root / 'videos'}", f"--output={tmp_path / 'data'}", *arguments)[0] == 0
    expected = builds.contents(tmp_path / "data")
    for overwrite in ((), ("--overwrite",)):
        code, out, err = builds.run(
            f"--videos={STORE}/videos", f"--output={STORE}/data", *arguments, *options, *overwrite
        )
        assert code == 0, err
        assert "Traceback" not in err and f"{STORE}/data" in out
        built = builds.contents(root / "data")
        rejected = json.loads(built.pop("rejected.jsonl"))
        assert rejected["path"] == f"{STORE}/videos/train/run/broken.mp4"
        assert built == {name: data for name, data in expected.items() if name != "rejected.jsonl"}
        assert {path.name for path in root.iterdir()} == {"videos", "data"}
