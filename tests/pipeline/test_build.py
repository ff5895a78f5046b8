"""The dataset job on real videos, in this process; `test_build_command.py` runs the command itself."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.io import filesystem

from pipeline import beam_options, build, clips_to_records, progress, shards, sources, staging
from pipeline.sources.clip import Clip
from stat_tf import errors
from stat_tf.data import dataset, degrade, info, record, video
from tests import builds, media

SETTINGS = builds.record_settings(num_snippets=3, lens_blur=0.0, noise=0.0)
RGB = {"hr": "", "lr": "LR/"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    names = ["train/run/a", "train/run/b", "train/jump/c", "test/run/d", "test/jump/e", "unlabeled/f"]
    for shift, name in enumerate(names):
        media.encode_video(root / f"{name}.mp4", media.numbered_frames(20 + shift, (48, 64))[shift:])
    return root


def run(videos, output, layout="folders", annotations=None, **changes):
    listing = sources.read(layout, str(videos), annotations and str(annotations), 1)
    config = build.BuildConfig(str(videos), str(output), SETTINGS)
    execution = beam_options.parse([], len(listing.clips))
    return build.build(listing, dataclasses.replace(config, **changes), execution)


def records_of(output, description, split, images=RGB):
    paths = [str(output / shard.name) for shard in description.shards[split]]
    return [record.parse(serialized, images) for serialized in tf.data.TFRecordDataset(paths)]


def test_dataset_holds_every_clip_with_its_frames(folders, tmp_path):
    output = tmp_path / "data"
    description = run(folders, output, num_shards=2)
    assert info.load(str(output)) == description
    assert description.classes == ("jump", "run") and description.warnings == ()
    assert description.counts == {"train": {"jump": 1, "run": 2}, "test": {"jump": 1, "run": 1}, "unlabeled": {"": 1}}
    assert {s: description.num_clips(s) for s in info.SPLITS} == {"train": 3, "test": 2, "unlabeled": 1}
    assert (output / "rejected.jsonl").read_text() == ""
    names = [shard.name for split in info.SPLITS for shard in description.shards[split]]
    assert sorted(path.name for path in output.iterdir()) == sorted([*names, "dataset.json", "rejected.jsonl"])
    assert list(tmp_path.iterdir()) == [output]  # nothing is left beside it
    for split, label in (("train", None), ("test", None), ("unlabeled", record.UNLABELED)):
        for parsed in records_of(output, description, split):
            name = parsed["id"].numpy().decode()
            expected = label if label is not None else ["jump", "run"].index(name.split("/")[1])
            assert parsed["label"].numpy() == expected
            source = video.read_clip(str(folders / name), num_segments=2, num_snippets=3, num_frames=1, size=(24, 32))
            assert parsed["timestamps"].numpy().tolist() == source.timestamps
            hr = np.stack([tf.io.decode_jpeg(frame).numpy() for frame in parsed["hr"]])
            assert np.abs(hr.astype(int) - source.frames).mean() < 4  # RGB in RGB's order, not BGR's
            lr = np.stack([tf.io.decode_png(frame).numpy() for frame in parsed["lr"]])
            means = source.frames.reshape(6, 12, 2, 16, 2, 3).mean((2, 4))
            assert np.abs(lr - means).max() <= 0.5


def test_shards_have_the_checksums_and_sizes_that_are_stated(folders, tmp_path):
    description = run(folders, tmp_path / "data")
    for shard in (shard for split in description.shards.values() for shard in split):
        content = (tmp_path / "data" / shard.name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (shard.num_bytes, shard.sha256)


def test_stored_noise_depends_on_the_clips_name_alone(folders, tmp_path):
    noisy = dataclasses.replace(SETTINGS, lens_blur=0.25, noise=5.0)
    first = run(folders, tmp_path / "one", settings=noisy, num_shards=1)
    second = run(folders, tmp_path / "two", settings=noisy, num_shards=3)
    assert first.source_fingerprint == second.source_fingerprint

    def frames(output, description):
        return {p["id"].numpy(): p["lr"].numpy().tolist() for p in records_of(output, description, "train")}

    assert frames(tmp_path / "one", first) == frames(tmp_path / "two", second)
    parsed = records_of(tmp_path / "one", first, "test")[0]
    name = parsed["id"].numpy().decode()
    source = video.read_clip(str(folders / name), num_segments=2, num_snippets=3, num_frames=1, size=(24, 32))
    camera = degrade.Degradation((12, 16), lens_blur=0.25, noise=5.0)
    expected = degrade.degrade(tf.constant(source.frames), camera, clips_to_records.noise_seed(name))
    np.testing.assert_array_equal([tf.io.decode_png(frame) for frame in parsed["lr"]], expected)


def test_frames_of_a_snippet_stand_as_far_apart_as_asked(folders, tmp_path):
    settings = dataclasses.replace(SETTINGS, num_snippets=1, num_frames=3, frame_stride=3)
    description = run(folders, tmp_path / "data", settings=settings)
    assert description.frame_stride == 3
    for parsed in records_of(tmp_path / "data", description, "train"):
        steps = np.diff(parsed["timestamps"].numpy().reshape(2, 3))
        np.testing.assert_array_equal(steps, 3 * 40000)


def test_clips_that_repeat_frames_are_counted(tmp_path):
    settings = dataclasses.replace(SETTINGS, num_frames=3)
    for name, frames in (("train/run/a", 5), ("train/run/b", 6), ("test/run/c", 4), ("test/run/d", 30)):
        media.encode_video(tmp_path / "v" / f"{name}.mp4", media.numbered_frames(frames, (48, 64)))
    description = run(tmp_path / "v", tmp_path / "data", settings=settings)
    times = [
        parsed["timestamps"].numpy().reshape(2, 3, 3)[:, 1]
        for parsed in records_of(tmp_path / "data", description, "test")
    ]
    assert sorted(len(np.unique(each)) for each in times) == [4, 6]
    assert description.warnings == (
        "2 of 4 clips have fewer than the 6 frames of --num_segments=2 times --num_frames=3, and repeat some, as "
        "test/run/c.mp4.",
    )
    # The parts of videos that are cut too, here of five frames, and four.
    listing = sources.read_all(
        *(None, None, None, None), unlabeled_videos=str(tmp_path / "v" / "test"), clip_seconds=0.2
    )
    config = build.BuildConfig("", str(tmp_path / "cut"), settings)
    (warning,) = build.build(listing, config, beam_options.parse([], 2)).warnings
    assert warning.startswith("7 of 7 clips have fewer than the 6 frames")


def test_videos_that_are_cut_short_are_counted(tmp_path):
    for number, kept in enumerate((1.0, 0.4, 0.5, 1.0)):
        path = tmp_path / "v" / ("train", "test")[number % 2] / "run" / f"{number}.avi"
        media.encode_video(path, np.random.default_rng(number).integers(0, 256, (40, 48, 64, 3), np.uint8))
        path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    description = run(tmp_path / "v", tmp_path / "data")
    assert description.warnings == (
        "2 of 4 clips are of videos with less than nine tenths of the frames that they state, and may be cut short, as "
        "test/run/1.avi.",
    )


def broken_manifest(tmp_path, good):
    """A manifest of two good clips a split and four that cannot be used."""
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "text.avi").write_text("no video\n" * 99)
    (tmp_path / "v" / "zero.avi").write_bytes(b"")
    (tmp_path / "v" / "zero2.avi").write_bytes(b"")
    rows = ["path,label,split"]
    rows += [f"{good}/train/run/a.mp4,run,train", f"{good}/test/run/d.mp4,run,test"]
    rows += ["text.avi,run,train", "zero.avi,jump,train", "zero2.avi,run,test", "absent.avi,run,test"]
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "v", tmp_path / "m.csv"


def test_broken_videos_are_left_out_and_listed(folders, tmp_path):
    videos, manifest = broken_manifest(tmp_path, folders)
    description = run(videos, tmp_path / "data", "manifest", manifest, max_rejected=0.9)
    assert description.num_rejected == 4
    assert description.counts == {"train": {"jump": 0, "run": 1}, "test": {"jump": 0, "run": 1}}
    lines = [json.loads(line) for line in (tmp_path / "data" / "rejected.jsonl").read_text().splitlines()]
    assert [(line["id"], line["path"], line["reason"]) for line in lines] == [
        ("absent.avi", str(videos / "absent.avi"), "it is missing or cannot be opened"),
        ("text.avi", str(videos / "text.avi"), "it is no video file, or a part of it is missing"),
        ("zero.avi", str(videos / "zero.avi"), "it is empty"),
        ("zero2.avi", str(videos / "zero2.avi"), "it is empty"),
    ]
    assert any("none of whose videos can be used: jump" in warning for warning in description.warnings)
    assert "Classes without a video in test: jump." in info.load(str(tmp_path / "data")).warnings
    assert "4 of 6 videos cannot be used, most often (2) because it is empty, as zero.avi." in build.report(
        description, "data"
    )


def test_too_many_broken_videos_leave_no_dataset(folders, tmp_path):
    videos, manifest = broken_manifest(tmp_path, folders)
    before = set(tmp_path.iterdir())
    with pytest.raises(
        errors.UserError, match=r"4 of 6 videos .* \(2\) because it is empty, as zero.avi; .* allows 5%"
    ):
        run(videos, tmp_path / "data", "manifest", manifest)
    assert set(tmp_path.iterdir()) - before == {tmp_path / "data.rejected.jsonl"}
    assert len((tmp_path / "data.rejected.jsonl").read_text().splitlines()) == 4
    run(videos, tmp_path / "data", "manifest", manifest, max_rejected=0.9)
    assert not (tmp_path / "data.rejected.jsonl").exists()  # what it said is no longer so


def test_shard_whose_clips_are_all_broken_exists_and_is_empty(folders, tmp_path):
    videos, manifest = broken_manifest(tmp_path, folders)
    description = run(videos, tmp_path / "data", "manifest", manifest, max_rejected=0.9, num_shards=3)
    assert sorted(shard.num_clips for shard in description.shards["train"]) == [0, 0, 1]
    assert len(records_of(tmp_path / "data", description, "train")) == 1


def test_beam_metrics_count_records_and_rejects(folders, tmp_path):
    clips = [Clip("train/run/a.mp4", "run", "train"), Clip("absent.avi", "run", "train")]
    pipeline = beam.Pipeline(runner=beam_options.parse([], 2).runner)
    tasks = [clips_to_records.ClipTask(clip, 1, "train-00000-of-00001.tfrecord") for clip in clips]
    convert = clips_to_records.ClipToRecord(SETTINGS, str(folders), str(tmp_path), None)
    _ = pipeline | beam.Create(tasks) | beam.ParDo(convert)
    counters = pipeline.run().metrics().query()["counters"]
    counts = {counter.key.metric.name: counter.committed for counter in counters}
    assert counts == {"records": 1, "rejected": 1}


def test_equal_files_in_two_splits_are_named(folders, tmp_path):
    original = media.encode_video(tmp_path / "v" / "train/run/x.mp4", media.numbered_frames(9))
    (tmp_path / "v" / "test/run").mkdir(parents=True)
    # Copies: the encoder does not give the same bytes each time.
    for name in ("test/run/y.mp4", "train/run/z.mp4"):
        shutil.copy(original, tmp_path / "v" / name)
    with pytest.raises(errors.UserError, match=r"test/run/y\.mp4 = train/run/x\.mp4 = train/run/z\.mp4.*--duplicates"):
        run(tmp_path / "v", tmp_path / "data")
    assert not (tmp_path / "data").exists()
    description = run(tmp_path / "v", tmp_path / "data", fail_on_duplicates=False)
    assert "test/run/y.mp4 = train/run/x.mp4" in description.warnings[-1]


def test_equal_files_in_one_split_are_fine(tmp_path):
    for name in ("train/run/x.mp4", "train/run/y.mp4"):
        media.encode_video(tmp_path / "v" / name, media.numbered_frames(9))
    assert run(tmp_path / "v", tmp_path / "data").num_clips("train") == 2


def test_dataset_is_replaced_only_when_asked_and_whole(folders, tmp_path):
    output = tmp_path / "data"
    old = run(folders, output)
    with pytest.raises(errors.UserError, match="already holds a dataset: give --overwrite"):
        run(folders, output)
    (tmp_path / "v" / "train" / "run").mkdir(parents=True)
    (tmp_path / "v" / "train" / "run" / "bad.avi").write_text("no video")
    with pytest.raises(errors.UserError, match="1 of 1 videos cannot be used"):
        run(tmp_path / "v", output, overwrite=True)
    assert info.load(str(output)) == old
    media.encode_video(tmp_path / "v" / "train" / "run" / "bad.avi", media.numbered_frames(9))
    new = run(tmp_path / "v", output, overwrite=True)
    assert info.load(str(output)) == new and new.num_clips("train") == 1
    assert not list(output.glob("test-*")), "files of the old dataset are still there"


def test_directory_that_is_no_dataset_is_left_alone(folders, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(errors.UserError, match="exists and is not a dataset"):
        run(folders, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_output_that_cannot_be_written_is_named(folders, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.UserError, match=r"file/data.*cannot be written \(not a directory\): check --output"):
        run(folders, tmp_path / "file" / "data")


def test_output_that_is_a_pattern_to_beam_is_a_name_here(folders, tmp_path):
    (tmp_path / "o1").mkdir()  # what the pattern would match
    output = tmp_path / "o[1]"
    old = run(folders, output)
    (tmp_path / "v" / "train" / "run").mkdir(parents=True)
    (tmp_path / "v" / "train" / "run" / "bad.avi").write_text("no video")
    with pytest.raises(errors.UserError, match="1 of 1 videos cannot be used"):
        run(tmp_path / "v", output, overwrite=True)
    assert info.load(str(output)) == old
    assert (tmp_path / "o[1].rejected.jsonl").exists()
    assert run(folders, output, overwrite=True) == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["o1", "o[1]", "v"]


def test_leftovers_of_killed_builds_are_deleted(folders, tmp_path):
    left = tmp_path / "data.building-0123abcd"
    (left / "dataset").mkdir(parents=True)
    other = tmp_path / "data2.building-0123abcd"
    other.mkdir()
    run(folders, tmp_path / "data")
    assert not left.exists() and other.exists()


def test_shards_are_even_and_do_not_depend_on_the_order():
    clips = [Clip(f"c/{n}.avi", "c", "train" if n % 4 else "test") for n in range(103)]
    dealt = shards.assign_shards(clips, SETTINGS, None)
    assert dealt == shards.assign_shards(reversed(clips), SETTINGS, None)
    assert sorted(c.path for members in dealt.values() for c in members) == sorted(c.path for c in clips)
    assert {name.split("-")[0]: name[-14:-9] for name in dealt} == {"train": "00004", "test": "00004"}
    sizes = [len(members) for name, members in dealt.items() if name.startswith("train")]
    assert max(sizes) - min(sizes) <= 1
    in_order = sorted(clip.path for clip in clips if clip.split == "train")
    assert [clip.path for clip in dealt["train-00000-of-00004.tfrecord"]] != in_order[::4]  # by hashes


def test_big_splits_get_more_shards():
    big = dataclasses.replace(SETTINGS, num_segments=8, num_frames=5, hr_size=(224, 298))
    assert shards.estimate_num_shards(2, SETTINGS) == 2
    assert shards.estimate_num_shards(10000, SETTINGS) == 4
    assert shards.estimate_num_shards(10000, big) > 100


def test_progress_counts_what_other_processes_did(tmp_path, monkeypatch):
    bars = []

    class Bar(progress.tqdm.tqdm):
        def __init__(self, **kwargs):
            super().__init__(**kwargs | {"disable": False})
            bars.append(self)

    monkeypatch.setattr(progress.tqdm, "tqdm", Bar)
    path = progress.directory(str(tmp_path), wanted=True)
    with progress.shown(path, 5):
        for process, done in (("101", b"..."), ("102", b".")):
            with open(f"{path}/{process}", "wb") as file:
                file.write(done)
        progress.report(path, done=2, added=7)
        progress.report(path, added=-1)
        progress.report(None, done=1)
    assert bars[0].n == 6 and bars[0].total == 12
    with progress.shown(progress.directory(str(tmp_path), wanted=False), 5):
        pass
    assert len(bars) == 1


def test_dataset_that_was_being_replaced_survives_a_kill_between_the_two_moves(tmp_path):
    output, place = tmp_path / "data", tmp_path / "data.building-0123abcd"
    (place / "replaced").mkdir(parents=True)
    (place / "replaced" / "dataset.json").write_text("old")
    staging.recover(str(output))
    assert (output / "dataset.json").read_text() == "old"
    with staging.directory(str(output)):
        assert (output / "dataset.json").read_text() == "old" and not place.exists()


def test_second_build_of_an_output_is_refused_and_disturbs_nothing(tmp_path):
    program = "import sys; from pipeline import staging\nwith staging.directory(sys.argv[1]) as p: print(p); input()"
    command = [sys.executable, "-c", program, str(tmp_path / "data")]
    first = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    place = first.stdout.readline().strip()
    before = sorted(tmp_path.rglob("*"))
    assert (tmp_path / place / "clips").is_dir()
    with pytest.raises(errors.UserError, match="Another build is writing .*data"), staging.directory(command[-1]):
        pass
    assert sorted(tmp_path.rglob("*")) == before
    first.kill()
    first.wait()
    with staging.directory(command[-1]) as own:
        assert [str(path) for path in tmp_path.iterdir()] == [own]
    assert not list(tmp_path.iterdir())


class Objects(filesystem.FileSystem):
    """An object store: no directories, and nothing that moves or deletes more than one object by one name."""

    contents: dict[str, bytes] = {}
    log: list[str] = []

    @classmethod
    def scheme(cls):
        return "objects"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        return path.rpartition("/")[::2]

    def mkdirs(self, path):
        pass

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        found = [path for path in self.contents if path.startswith(dir_or_prefix)]
        return (self.metadata(path) for path in found)

    def create(self, path, mime_type="", compression_type=""):
        raise NotImplementedError

    open = rename = last_updated = create

    def copy(self, source_file_names, destination_file_names):
        for source, destination in zip(source_file_names, destination_file_names):
            self.contents[destination] = self.contents[source]
            self.log.append(f"copy {destination}")

    def exists(self, path):
        return path in self.contents

    def size(self, path):
        return len(self.contents[path])

    def metadata(self, path):
        return filesystem.FileMetadata(path, self.size(path), 0)

    def delete(self, paths):
        for path in paths:
            self.log.append(f"delete {path}")
            if path.endswith("/"):
                for name in [name for name in self.contents if name.startswith(path)]:
                    del self.contents[name]
            else:
                del self.contents[path]


def test_dataset_appears_on_an_object_store_description_last(monkeypatch):
    store, log = {}, []
    monkeypatch.setattr(Objects, "contents", store)
    monkeypatch.setattr(Objects, "log", log)
    old = {name: b"old" for name in ("dataset.json", "rejected.jsonl", "test-00000-of-00001.tfrecord")}
    new = {name: b"new" for name in ("dataset.json", "rejected.jsonl", "train-00000-of-00001.tfrecord")}
    store.update({f"objects://b/data/{name}": content for name, content in old.items()})
    store.update({"objects://b/data2/dataset.json": b"other"})
    staging.check_output("objects://b/data", overwrite=True)
    with staging.directory("objects://b/data/") as place:
        store.update({f"{place}/dataset/{name}": content for name, content in new.items()})
        store[f"{place}/clips/one"] = b""
        staging.publish(place, "objects://b/data/")
    expected = {f"objects://b/data/{name}": content for name, content in new.items()}
    assert store == {**expected, "objects://b/data2/dataset.json": b"other"}
    assert log[0] == "delete objects://b/data/dataset.json"
    assert log[-1] == f"delete {place}/"  # one request for many objects
    assert [entry for entry in log if entry.startswith("copy")][-1] == "copy objects://b/data/dataset.json"


def test_publishing_that_broke_off_can_be_done_again(monkeypatch):
    store = {"objects://b/data/train-00000-of-00001.tfrecord": b"old", "objects://b/data/dataset.json": b"old"}
    monkeypatch.setattr(Objects, "contents", store)
    new = {name: b"new" for name in ("dataset.json", "rejected.jsonl", "train-00000-of-00001.tfrecord")}
    store.update({f"objects://b/p/dataset/{name}": content for name, content in new.items()})

    def break_off(self, sources, destinations):
        store[destinations[0]] = store[sources[0]]
        raise OSError("the store is away")

    with monkeypatch.context() as broken, pytest.raises(errors.UserError, match="the store is away"):
        broken.setattr(Objects, "copy", break_off)
        staging.publish("objects://b/p", "objects://b/data")
    assert "objects://b/data/dataset.json" not in store
    staging.publish("objects://b/p", "objects://b/data")
    assert {path: store[path] for path in store if "/data/" in path} == {
        f"objects://b/data/{name}": content for name, content in new.items()
    }


def test_object_store_outputs_that_are_taken_are_refused(monkeypatch):
    store = {"objects://b/data/train-00000-of-00001.tfrecord": b"", "objects://b/photos/cat.jpg": b""}
    monkeypatch.setattr(Objects, "contents", store)
    staging.check_output("objects://b/data", overwrite=False)  # a killed build's, without a description
    with pytest.raises(errors.UserError, match="photos exists and is not a dataset"):
        staging.check_output("objects://b/photos", overwrite=True)
    with pytest.raises(errors.UserError, match="as a pattern"):
        staging.check_output("objects://b/data[1]", overwrite=True)
    store["objects://b/data/dataset.json"] = b""
    with pytest.raises(errors.UserError, match="already holds a dataset"):
        staging.check_output("objects://b/data", overwrite=False)
    staging.check_output("objects://b/data", overwrite=True)
    store["objects://b/data/old/train-00000-of-00001.tfrecord"] = b""
    with pytest.raises(errors.UserError, match="data holds old/train-00000-of-00001.tfrecord beside its dataset"):
        staging.check_output("objects://b/data", overwrite=True)


def test_overwriting_deletes_nothing_that_is_no_part_of_a_dataset(tmp_path):
    for name in ("dataset.json", "rejected.jsonl", "train-00000-of-00001.tfrecord"):
        (tmp_path / name).write_text("old")
    staging.check_output(str(tmp_path), overwrite=True)
    (tmp_path / "runs" / "teacher").mkdir(parents=True)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(errors.UserError, match="holds notes.txt beside its dataset, which --overwrite would delete"):
        staging.check_output(str(tmp_path), overwrite=True)


class Forbidden(Exception):
    """No OSError, as of the clients of stores."""


def test_store_that_refuses_a_write_is_one_sentence(monkeypatch, capsys):
    def refuse(self, *arguments):
        raise Forbidden("403 Forbidden: no permission\nmore of it")

    monkeypatch.setattr(Objects, "contents", {"objects://b/p/dataset/dataset.json": b""})
    for method in ("mkdirs", "copy", "delete"):
        monkeypatch.setattr(Objects, method, refuse)
    refused = r"cannot be written \(403 Forbidden: no permission\): check --output"
    with pytest.raises(errors.UserError, match=f"data {refused}"), staging.writing("objects://b/data"):
        refuse(None)
    with pytest.raises(errors.UserError, match=f"data.building-.* {refused}"), staging.directory("objects://b/data"):
        pass
    assert "warning: objects://b/data.building-" in capsys.readouterr().err
    with pytest.raises(errors.UserError, match=r"The dataset cannot be moved to objects://b/data \(403 F"):
        staging.publish("objects://b/p", "objects://b/data")
    with pytest.raises(Forbidden), staging.writing("/data"):  # no store: a mistake of ours
        refuse(None)


def test_description_is_read_from_remote_file_systems(folders, tmp_path):
    description = run(folders, tmp_path / "data")
    tf.io.gfile.makedirs("ram://data")
    with pytest.raises(errors.UserError, match="ram://data is not a dataset"):
        info.load("ram://data")
    tf.io.gfile.copy(str(tmp_path / "data" / "dataset.json"), "ram://data/dataset.json")
    assert info.load("ram://data") == description


@pytest.mark.parametrize("write", [lambda path: path.mkdir(), lambda path: path.write_bytes(b"\xff{}")])
def test_description_that_cannot_be_read_is_named(tmp_path, write):
    write(tmp_path / "dataset.json")
    with pytest.raises(errors.UserError, match=r"dataset\.json cannot be read \(.*\): check --data_dir"):
        info.load(str(tmp_path))


def test_video_whose_name_is_not_utf8_is_left_out_and_listed(folders, tmp_path):
    videos = tmp_path / "v"
    shutil.copytree(folders, videos)
    os.rename(videos / "train" / "run" / "a.mp4", os.fsencode(videos / "train" / "run") + b"/caf\xe9.mp4")
    description = run(videos, tmp_path / "data", max_rejected=0.5)
    (line,) = (tmp_path / "data" / "rejected.jsonl").read_text().splitlines()
    rejected = json.loads(line)
    assert (rejected["id"], rejected["reason"]) == (r"train/run/caf\xe9.mp4", "its name is not UTF-8")
    assert rejected["path"] == str(videos / r"train/run/caf\xe9.mp4")
    assert description.num_rejected == 1 and description.counts["train"] == {"jump": 1, "run": 1}
    with pytest.raises(errors.UserError, match="1 of 6 videos cannot be used, because its name is not UTF-8"):
        run(videos, tmp_path / "data2", max_rejected=0)


def test_stored_lr_frames_and_those_made_from_stored_hr_frames_agree(tmp_path):
    rng = np.random.default_rng(0)
    patches = rng.choice([0, 60, 200, 255], (1, 24, 32, 3)).repeat(4, 1).repeat(4, 2)  # saturated, sharp edges
    frames = np.roll(patches, 5, 2) * np.ones((20, 1, 1, 1)) + rng.integers(-20, 21, (20, 96, 128, 1))
    frames = frames.clip(0, 255).astype(np.uint8)
    media.encode_video(tmp_path / "v/train/run/a.mp4", frames, pix_fmt="yuv444p", options={"crf": "4"})
    optics = degrade.Degradation((12, 16), lens_blur=0.25, noise=0)
    settings = dataclasses.replace(SETTINGS, hr_size=(48, 64), lens_blur=0.25)
    description = run(tmp_path / "v", tmp_path / "data", settings=settings)
    read = dataset.evaluation_dataset(
        str(tmp_path / "data"), description, "train", batch_size=1, crop_size=(48, 64), lr_size=(12, 16)
    )
    (batch,) = read
    made = degrade.degrade(tf.reshape(batch["hr"], [-1, 48, 64, 3]), optics, tf.constant([0, 0]))
    difference = made.numpy().astype(float) - batch["lr"].numpy().reshape(made.shape)
    assert batch["lr"].numpy().std((0, 1, 2, 3, 4)).min() > 30  # colourful
    assert np.abs(difference.mean((0, 1, 2))).max() < 0.2
    assert np.abs(difference).mean() < 1


def test_clips_of_a_shard_do_not_stand_in_the_order_of_their_names(tmp_path):
    staged = []
    for number in range(40):
        path = tmp_path / f"staged-{number:02d}"
        path.write_bytes(b"%02d" % number)
        staged.append(clips_to_records.StagedRecord(f"class{number // 10}/clip{number % 10}.mp4", str(path)))
    (tmp_path / "staging").mkdir()
    (tmp_path / "out").mkdir()
    writer = shards.WriteShard(str(tmp_path / "staging"), str(tmp_path / "out"))
    orders = []
    for name, records in (("a", staged), ("b", staged[::-1])):
        list(writer.process((name, records)))
        dataset = tf.data.TFRecordDataset(str(tmp_path / "out" / name))
        orders.append([int(record.numpy()) for record in dataset])
    assert orders[0] == orders[1] and sorted(orders[0]) == list(range(40))
    # In the first quarter of the shard, more than one of the four classes.
    assert len({number // 10 for number in orders[0][:10]}) > 1
