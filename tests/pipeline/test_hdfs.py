"""Jobs on Beam with paths in HDFS, against a stand-in for its web service on loopback."""

import collections
import concurrent.futures
import contextlib
import dataclasses
import json
import socket
import threading

import pytest

from pipeline import build, decoder, hdfs, named_files, outcome, staging, summary, training_graph
from pipeline.graph import Call
from pipeline.sources import files
from stat_tf import errors
from stat_tf.data import info
from tests import builds, configs, media, webhdfs

STORE = "hdfs://namenode:8020"
OUTPUT = f"{STORE}/sets/data"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "hdfs").mkdir()
    return tmp_path / "hdfs"


@pytest.fixture
def faults():
    """What goes wrong: (operation, path) -> the fault, each time."""
    return {}


@pytest.fixture
def options(root, faults):
    """Beam's options; its file systems in this process are ready."""
    with webhdfs.serve(root, lambda operation, path: faults.get((operation, path))) as options:
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


def test_odd_names_are_names(root, options):
    names = ["a[1]/b*.mp4", "a[1]/c?.mp4", "d\\e.mp4", "f#1 g%20.mp4", "h/h"]
    for name in names:
        put(root, f"odd/{name}", name.encode())
    assert files.list_files(f"{STORE}/odd", "videos") == sorted(names)
    for name in names:
        with files.opened(f"{STORE}/odd/{name}") as file:
            assert file.read() == name.encode()


@pytest.mark.parametrize("status", [403, 500])
def test_what_is_refused_is_not_taken_for_missing(root, options, faults, status):
    put(root, "videos/train/run/a.mp4", b"1")
    put(root, "videos/train/jump/b.mp4", b"1")
    for operation in ("GETFILESTATUS", "LISTSTATUS"):
        faults[operation, "/videos/train/run"] = status
        with pytest.raises(OSError, match="no luck with /videos/train/run"):
            files.describe(f"{STORE}/videos")
        with pytest.raises(errors.UserError, match="cannot be listed .no luck with /videos/train/run.*--videos"):
            files.list_files(f"{STORE}/videos", "videos")
        faults.clear()
    faults["GETFILESTATUS", "/videos/train/run/a.mp4"] = status
    with pytest.raises(OSError, match="no luck"):
        files.exists(f"{STORE}/videos/train/run/a.mp4")
    with pytest.raises(errors.UserError, match="refuses hdfs://namenode:8020/videos/train/run/a.mp4.*no luck"):
        files.connect(options, f"{STORE}/videos/train/run/a.mp4")


def test_missing_file_is_named(root, options):
    with pytest.raises(errors.UserError, match=f"{STORE}/none.txt cannot be read: check --annotations"):
        files.read_text(f"{STORE}/none.txt", "annotations")
    with pytest.raises(FileNotFoundError), files.opened(f"{STORE}/none.txt"):
        pass


def test_changed_video_is_seen_by_the_pipeline(root, options, tmp_path):
    config = configs.write(tmp_path / "config", "", build="--layout=folders\n")

    def observed(options=options):
        given = [f"examples:{option}" for option in options]
        settings = training_graph.Settings(str(config), videos=f"{STORE}/videos", push_dir="", node_flags=given)
        return named_files.observe(Call({}, training_graph.make(settings).nodes["examples"].parameters, {}, ""))

    put(root, "videos/train/a/1.mp4", b"1")
    before = observed()
    assert observed() == before
    put(root, "videos/train/a/1.mp4", b"12")
    assert observed() != before
    with pytest.raises(errors.UserError, match="give --hdfs_full_urls too"):
        observed(options[:3])


def test_files_are_replaced(root, options):
    put(root, "place/there", b"old")
    for data in (b"new", b""):
        files.write(f"{STORE}/place/there", data)
        assert (root / "place" / "there").read_bytes() == data


def test_of_tries_that_make_the_same_file_one_stays(root, options, faults):
    def at_place():
        return {path.name: path.read_bytes() for path in (root / "place").iterdir()}

    for number in (1, 2):
        files.write(f"{STORE}/place/aside-{number}", b"same")
        files.move(f"{STORE}/place/aside-{number}", f"{STORE}/place/there")
        assert at_place() == {"there": b"same"}
    files.write(f"{STORE}/place/there", b"half")
    files.write(f"{STORE}/place/aside", b"whole")
    files.move(f"{STORE}/place/aside", f"{STORE}/place/there")
    assert at_place() == {"there": b"whole"}
    files.write(f"{STORE}/place/aside", b"answer")
    files.write(f"{STORE}/place/other", b"answer")
    faults["RENAME", "/place/aside"] = webhdfs.LOST
    files.move(f"{STORE}/place/aside", f"{STORE}/place/new")
    assert at_place() == {"there": b"whole", "other": b"answer", "new": b"answer"}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for trial in range(2):
            for number in range(8):
                put(root, f"race/{number}", b"same")
            list(pool.map(lambda number: files.move(f"{STORE}/race/{number}", f"{STORE}/race/there"), range(8)))
            assert {path.name for path in (root / "race").iterdir()} == {"there"}, trial
            (root / "race" / "there").unlink()


def publish(content, faults=None, renaming=None):
    """Puts a dataset of that content at `OUTPUT`; returns the staging directory's name."""
    with staging.directory(OUTPUT) as place:
        files.write(f"{place}/dataset/dataset.json", content)
        name = place.rpartition("/")[2]
        if renaming:
            faults["RENAME", renaming(name)[0]] = renaming(name)[1]
        staging.publish(place, OUTPUT)
    return name


def published(root):
    """The contents of what is beside and at the output."""
    return {str(path.relative_to(root / "sets")): path.read_bytes() for path in (root / "sets").rglob("*.json")}


def test_output_is_replaced_whole(root, options):
    for content in (b"old", b"new"):
        publish(content)
        assert published(root) == {"data/dataset.json": content}
        assert [path.name for path in (root / "sets").iterdir()] == ["data"]
    # An empty directory is in the way, of which HDFS would make data/dataset/dataset.json.
    (root / "sets" / "data" / "dataset.json").unlink()
    publish(b"newest")
    assert published(root) == {"data/dataset.json": b"newest"}


def test_answers_that_are_lost_are_asked_for(root, options, faults):
    publish(b"old")
    for content, renaming in (
        (b"new", lambda place: ("/sets/data", webhdfs.LOST)),
        (b"newest", lambda place: (f"/sets/{place}/dataset", webhdfs.LOST)),
    ):
        publish(content, faults, renaming)
        faults.clear()
        assert published(root) == {"data/dataset.json": content}


def test_output_stays_where_its_replacement_fails(root, options, faults):
    publish(b"old")
    for renaming in (lambda place: ("/sets/data", 500), lambda place: (f"/sets/{place}/dataset", 500)):
        with pytest.raises(errors.UserError, match="dataset cannot be moved to hdfs://.*no luck"):
            publish(b"new", faults, renaming)
        faults.clear()
        assert published(root) == {"data/dataset.json": b"old"}
        assert [path.name for path in (root / "sets").iterdir()] == ["data"]


def test_interrupted_replacement_loses_nothing(root, options, monkeypatch):
    """By a signal that comes when the former dataset is moved away."""
    publish(b"old")
    rename = hdfs.rename

    def rename_and_stop(source, target):
        rename(source, target)
        if source == OUTPUT:
            raise KeyboardInterrupt

    monkeypatch.setattr(hdfs, "rename", rename_and_stop)
    with pytest.raises(KeyboardInterrupt):
        publish(b"new")
    assert published(root) == {"data/dataset.json": b"old"}


def test_former_dataset_that_cannot_be_put_back_is_kept(root, options, faults, capsys):
    publish(b"old")
    with pytest.raises(errors.UserError, match="no luck"), staging.directory(OUTPUT) as place:
        name = place.rpartition("/")[2]
        faults |= {("RENAME", f"/sets/{name}/{moved}"): 500 for moved in ("dataset", "replaced")}
        files.write(f"{place}/dataset/dataset.json", b"new")
        staging.publish(place, OUTPUT)
    assert published(root)[f"{name}/replaced/dataset.json"] == b"old"
    assert f"What was at {OUTPUT} before is {OUTPUT.rpartition('/')[0]}/{name}/replaced: move it back" in (
        capsys.readouterr().err
    )


def test_nothing_is_deleted_where_nothing_can_be_asked(root, options, faults, capsys, monkeypatch):
    publish(b"old")
    rename = hdfs.rename

    def rename_and_fail(source, target):
        rename(source, target)
        faults.update({("RENAME", f"/sets/{name}/dataset"): 500, ("GETFILESTATUS", f"/sets/{name}/replaced"): 500})

    monkeypatch.setattr(hdfs, "rename", rename_and_fail)
    with pytest.raises(errors.UserError, match="cannot be moved"), staging.directory(OUTPUT) as place:
        name = place.rpartition("/")[2]
        files.write(f"{place}/dataset/dataset.json", b"new")
        staging.publish(place, OUTPUT)
    assert published(root)[f"{name}/replaced/dataset.json"] == b"old"
    assert f"{name}/replaced, if it is there, back to {OUTPUT}, then delete it" in capsys.readouterr().err


def test_question_that_is_refused_is_no_failure_of_what_is_done(root, options, faults, capsys):
    faults |= {("GETFILESTATUS", "/sets/data/dataset"): 500, ("DELETE", "/sets/data.rejected.jsonl"): 500}
    publish(b"new")
    assert published(root) == {"data/dataset.json": b"new"}
    staging.delete_old(outcome.failed_list(OUTPUT))
    assert "data.rejected.jsonl cannot be deleted (no luck" in capsys.readouterr().err


def ready_to_finish(root):
    """A template's last step, for a build of one shard that is to replace a dataset, and its staging directory."""
    name, place = "train-00000-of-00001.tfrecord", "sets/data.building-01234567"
    put(root, f"{place}/dataset/{name}", b"clips")
    shard = dataclasses.asdict(info.Shard(name, 9, 5, "sum"))
    put(root, f"{place}/summary.jsonl", json.dumps(["shards", shard]).encode() + b"\n")
    listed = outcome.Listed(("run",), collections.Counter({("train", "run"): 9}), False, (), ())
    config = build.BuildConfig("videos", OUTPUT, builds.record_settings(), num_shards=1, overwrite=True)
    return outcome.Finish(listed, config, f"{STORE}/{place}"), f"{STORE}/{place}"


def test_last_step_that_is_tried_twice_at_once_publishes_once(root, options, monkeypatch):
    put(root, "sets/data/dataset.json", b"old")
    finish, place = ready_to_finish(root)
    rename = hdfs.rename

    def rename_after_the_other_try(source, target):
        monkeypatch.setattr(hdfs, "rename", rename)
        list(finish.process(""))
        rename(source, target)

    monkeypatch.setattr(hdfs, "rename", rename_after_the_other_try)
    with pytest.raises(errors.UserError, match="file exists"):
        list(finish.process(""))
    assert list(finish.process("")) == [place]  # the runner's next try
    assert json.loads((root / "sets" / "data" / "dataset.json").read_bytes())["shards"]["train"]
    staging.delete(place)
    assert {path.name for path in (root / "sets").iterdir()} == {"data"}
    staging.check_output(OUTPUT, overwrite=True)


def test_refusals_in_the_end_are_sentences(root, options, faults):
    finish, place = ready_to_finish(root)
    inside = place.removeprefix(STORE)
    faults["LISTSTATUS", f"{inside}/dataset"] = 500
    with pytest.raises(errors.UserError, match="cannot be written .no luck"):
        list(finish.process(""))
    faults["OPEN", f"{inside}/summary.jsonl"] = 500
    with pytest.raises(errors.UserError, match="summary.jsonl cannot be read .no luck"):
        summary.read(place)


def test_dataset_of_another_build_that_comes_between_stays(root, options, monkeypatch):
    publish(b"old")
    rename = hdfs.rename

    def rename_after_another(source, target):
        if target == OUTPUT:
            put(root, "sets/data/dataset.json", b"another")
        rename(source, target)

    monkeypatch.setattr(hdfs, "rename", rename_after_another)
    with pytest.raises(errors.UserError, match="cannot be moved to .*file exists"):
        publish(b"ours")
    assert published(root) == {"data/dataset.json": b"another"}


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


def test_what_hdfs_needs_is_named(root, options, monkeypatch):
    with pytest.raises(errors.UserError, match="over WebHDFS.*: give --hdfs_user, --hdfs_full_urls too"):
        files.connect(options[:2], STORE)
    with pytest.raises(errors.UserError, match="HDFS at http://127.0.0.1:9 .*check --hdfs_user, and --hdfs_host"):
        files.connect([options[0], "--hdfs_port=9", *options[2:]], STORE)
    with pytest.raises(errors.UserError, match="hdfs:///videos names no name node"):
        files.connect(options, "hdfs:///videos")
    with pytest.raises(errors.UserError, match="knows one HDFS.*namenode:8020/videos and hdfs://other:8020/data are"):
        files.connect(options, f"{STORE}/videos", None, "hdfs://other:8020/data")
    with pytest.raises(errors.UserError, match="is all of a store: give --output a directory"):
        staging.check_output(f"{STORE}/", overwrite=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.UserError, match="need the package hdfs"):
        files.connect(options, STORE)


def test_user_who_may_not_write_is_told(root, options):
    files.connect([*options[:2], "--hdfs_user=somebody", options[3]], STORE)
    refused = pytest.raises(errors.UserError, match="cannot be written .*Permission denied: user=somebody")
    with refused, staging.directory(f"{STORE}/data"):
        pass


@pytest.mark.parametrize(
    "answer, said",
    [
        (b"404 Not Found\r\nContent-type: text/plain\r\n\r\nThis is a Hadoop IPC port.\r\n", "Hadoop IPC port"),
        (b"400 Bad Request\r\nContent-Length: 2\r\n\r\n{}", "RemoteException"),
        (b"200 OK\r\nContent-Length: 2\r\n\r\n{}", "FileStatus"),
    ],
    ids=["name node's other port", "JSON of an error", "JSON"],
)
def test_server_of_another_kind_is_no_empty_hdfs(options, answer, said):

    def serve(server):
        connection = server.accept()[0]
        with connection:
            connection.recv(2**16)
            connection.sendall(b"HTTP/1.1 " + answer)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        port = f"--hdfs_port={server.getsockname()[1]}"
        with pytest.raises(errors.UserError, match=rf"HDFS at .* refuses .*{said}.*check --hdfs_user, and"):
            files.connect([options[0], port, *options[2:]], f"{STORE}/videos")
        thread.join()


def test_server_that_is_silent_is_given_up(options, monkeypatch):
    monkeypatch.setattr(hdfs, "_ANSWERS_WITHIN", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = f"--hdfs_port={server.getsockname()[1]}"
        with pytest.raises(errors.UserError, match="does not answer .*timed out"):
            files.connect([options[0], port, *options[2:]], f"{STORE}/videos")


def test_video_that_may_not_be_read_ends_the_job(root, options, faults):
    """One that is not there is none of the job's faults."""
    put(root, "videos/a.mp4", b"1")
    faults["GETFILESTATUS", "/videos/a.mp4"] = 403
    reader = decoder.Decoder(60.0)
    with contextlib.closing(reader):
        with pytest.raises(errors.UserError, match="a.mp4 cannot be read.*no luck"):
            reader.cut_video("a.mp4", f"{STORE}/videos/a.mp4", 1.0)
        digest, error = reader.cut_video("b.mp4", f"{STORE}/videos/b.mp4", 1.0)
        assert digest == "" and "missing or cannot be opened" in str(error)


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
