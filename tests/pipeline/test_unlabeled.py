"""Builds of videos without labels, long ones cut into clips: in this process, and once by the command."""

import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import av
import numpy as np
import pytest
import tensorflow as tf

from pipeline import beam_options, build, clips_to_records, shards, sources
from stat_tf import errors
from stat_tf.data import dataset, degrade, info, record, sampling
from tests import builds, media

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = builds.record_settings(lens_blur=0.0)
LENGTHS = {"a.mp4": 80, "deep/er/b.mkv": 55, "c.avi": 30}
TWO = ("--direct_num_workers=2", "--direct_running_mode=multi_processing")
FRAMES = ("--hr_size=24x32", "--lr_size=12x16", "--num_segments=2", "--num_snippets=2")


def encode(path, count):
    return media.encode_video(path, media.numbered_frames(count), options={"crf": "2", "g": "12"})


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    root = tmp_path_factory.mktemp("films")
    for name, count in LENGTHS.items():
        encode(root / name, count)
    encode(root / ".trash" / "hidden.mp4", 9)
    (root / "notes.txt").write_text("no video")
    return root


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for number, name in enumerate(("train/run/1", "train/jump/2", "test/run/3", "test/jump/4", "unlabeled/5")):
        encode(root / f"{name}.mp4", 20 + number)
    return root


def run(films, output, clip_seconds=1.0, videos=None, **changes):
    layout = "folders" if videos else None
    found = sources.read_all(
        layout, videos and str(videos), None, None, unlabeled_videos=str(films), clip_seconds=clip_seconds
    )
    config = build.BuildConfig(str(videos or ""), str(output), SETTINGS)
    return build.build(found, dataclasses.replace(config, **changes), beam_options.parse([], 1))


def records_of(output, description, split="unlabeled"):
    """Parsed records by id."""
    paths = [str(output / shard.name) for shard in description.shards[split]]
    parsed = [record.parse(one, {"hr": "", "lr": "LR/"}) for one in tf.data.TFRecordDataset(paths)]
    assert len({one["id"].numpy() for one in parsed}) == len(parsed)
    return {one["id"].numpy().decode(): one for one in parsed}


def rejected_of(directory):
    return [json.loads(line) for line in (directory / "rejected.jsonl").read_text().splitlines()]


def numbers(parsed):
    return [media.number_of(tf.io.decode_jpeg(frame).numpy()) for frame in parsed["hr"]]


def test_long_videos_alone_make_a_dataset_without_classes(films, tmp_path):
    output = tmp_path / "data"
    description = run(films, output)
    assert info.load(str(output)) == description
    assert description.classes == () and description.warnings == () and list(description.shards) == ["unlabeled"]
    assert description.counts == {"unlabeled": {"": 6}} and description.num_clips("unlabeled") == 6
    expected = {
        # 5 frames are less than half a second and belong to the clip before; 5 of 25 frames a second.
        "unlabeled/a.mp4#t=0,1": (0, 25),
        "unlabeled/a.mp4#t=1,2": (25, 50),
        "unlabeled/a.mp4#t=2,3.2": (50, 80),
        "unlabeled/deep/er/b.mkv#t=0,1": (0, 25),
        "unlabeled/deep/er/b.mkv#t=1,2.2": (25, 55),
        "unlabeled/c.avi#t=0,1.2": (0, 30),
    }
    found = records_of(output, description)
    assert sorted(found) == sorted(expected)
    camera = degrade.Degradation((12, 16), lens_blur=0.0, noise=2.0)
    for clip_id, (first, stop) in expected.items():
        parsed = found[clip_id]
        assert parsed["label"].numpy() == record.UNLABELED
        assert parsed["path"].numpy().decode() == clip_id.partition("#")[0]
        chosen = [first + i for i in sampling.sample_frames(range(stop - first), 2, 2, 1)]
        assert numbers(parsed) == chosen
        assert np.diff(parsed["timestamps"]).tolist() == (np.diff(chosen) * 40_000).tolist()
        hr = np.stack([tf.io.decode_jpeg(frame).numpy() for frame in parsed["hr"]])
        lr = np.stack([tf.io.decode_png(frame).numpy() for frame in parsed["lr"]]).astype(int)
        seeded = degrade.degrade(tf.constant(hr), camera, clips_to_records.noise_seed(clip_id)).numpy()
        assert np.abs(lr - seeded).mean() < 1 < np.abs(lr - degrade.degrade(hr, camera, [0, 0]).numpy()).mean()


def test_dataset_without_labels_is_told_from_one_to_train_a_classifier_on(films, tmp_path):
    description = run(films, tmp_path / "data")
    with pytest.raises(errors.UserError, match="no clips in split 'train'; its splits: unlabeled"):
        dataset.check(str(tmp_path / "data"), description, "train", num_segments=2, num_frames=1, lr_size=(12, 16))
    text = build.report(description, "data")
    assert "--stage=teacher" not in text and "has no labels" in text
    assert "--stage=unsupervised --data_dir=data --teacher_run=" in text


def test_uncut_videos_are_those_of_the_folders_layout(films, tmp_path):
    shutil.copytree(films, tmp_path / "v" / "unlabeled")
    listing = sources.read("folders", str(tmp_path / "v"), None, 1)
    config = build.BuildConfig(str(tmp_path / "v"), str(tmp_path / "one"), SETTINGS)
    one = build.build(listing, config, beam_options.parse([], 1))
    assert run(films, tmp_path / "two", 0.0) == one
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    cut = run(films, tmp_path / "three", 100.0)  # the same clips, but a part each
    assert cut.num_clips("unlabeled") == one.num_clips("unlabeled") == 3
    assert cut.source_fingerprint != one.source_fingerprint
    assert cut.source_fingerprint != run(films, tmp_path / "four", 101.0).source_fingerprint


def test_cut_videos_stand_beside_a_layout(films, labelled, tmp_path):
    alone = build.build(
        sources.read("folders", str(labelled), None, 1),
        build.BuildConfig(str(labelled), str(tmp_path / "alone"), SETTINGS),
        beam_options.parse([], 1),
    )
    both = run(films, tmp_path / "both", videos=labelled)
    assert both.classes == ("jump", "run")
    assert both.counts == alone.counts | {"unlabeled": {"": 7}}
    assert {split: both.shards[split] for split in ("train", "test")} == {
        split: alone.shards[split] for split in ("train", "test")
    }
    found = records_of(tmp_path / "both", both)
    (whole,) = records_of(tmp_path / "alone", alone).values()
    assert len(found) == 7
    assert found["unlabeled/5.mp4"]["lr"].numpy().tolist() == whole["lr"].numpy().tolist()
    text = build.report(both, "data")
    assert "--stage=teacher" in text and "--stage=unsupervised" in text
    assert "--stage=unsupervised" not in build.report(dataclasses.replace(both, shards={"train": ()}), "data")


def test_number_of_shards_follows_from_that_of_the_clips(films, labelled, tmp_path):
    assert len(run(films, tmp_path / "a").shards["unlabeled"]) == 4
    assert len(run(films, tmp_path / "b", num_shards=2).shards["unlabeled"]) == 2
    assert len(run(films, tmp_path / "c", num_shards=99, videos=labelled).shards["unlabeled"]) == 7
    names = [shards.hashed_shard(f"v.mp4#t={n},{n + 1}", "unlabeled", 8) for n in range(4000)]
    _, sizes = np.unique(names, return_counts=True)
    assert len(sizes) == 8 and sizes.min() > 400 and sizes.max() < 600


def test_damaged_spot_and_unreadable_video_are_rejected_each_by_itself(films, tmp_path):
    shutil.copytree(films, tmp_path / "v")
    content = bytearray((tmp_path / "v" / "a.mp4").read_bytes())
    packets = [packet for packet in av.open(str(films / "a.mp4")).demux(video=0) if packet.size]
    for packet in packets[25:34]:  # frames of the second second
        content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    (tmp_path / "v" / "a.mp4").write_bytes(content)
    (tmp_path / "v" / "text.avi").write_text("no video\n" * 99)
    with pytest.raises(errors.UserError, match="2 of 7 clips .* used, each for another reason, one because a piece of"):
        run(tmp_path / "v", tmp_path / "data", max_rejected=0.28)
    description = run(tmp_path / "v", tmp_path / "data", max_rejected=0.29)
    assert description.counts == {"unlabeled": {"": 5}} and description.num_rejected == 2
    assert [(line["id"], line["path"], line["reason"], line["split"]) for line in rejected_of(tmp_path / "data")] == [
        ("unlabeled/a.mp4#t=1,2", str(tmp_path / "v" / "a.mp4"), "a piece of it is damaged", "unlabeled"),
        (
            "unlabeled/text.avi",
            str(tmp_path / "v" / "text.avi"),
            "it is no video file, or a part of it is missing",
            "unlabeled",
        ),
    ]
    assert "rejected: 2 clips, listed in" in build.report(description, "data")


def test_only_unreadable_videos_make_no_dataset(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "text.avi").write_text("no video\n" * 99)
    with pytest.raises(errors.UserError, match="1 of 1 clips cannot be used.* as unlabeled/text.avi"):
        run(tmp_path / "v", tmp_path / "data", max_rejected=1.0)
    assert [line["id"] for line in map(json.loads, (tmp_path / "data.rejected.jsonl").open())] == ["unlabeled/text.avi"]


def test_layout_survives_videos_none_of_which_can_be_cut(labelled, tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "text.avi").write_text("no video\n" * 99)
    videos = tmp_path / "labelled"
    shutil.copytree(labelled, videos, ignore=shutil.ignore_patterns("unlabeled"))
    description = run(tmp_path / "v", tmp_path / "data", videos=videos, max_rejected=0.5)
    assert description.shards["unlabeled"] == () and description.counts["unlabeled"] == {"": 0}
    assert "None of the videos in unlabeled can be used." in description.warnings


def test_test_videos_among_the_unlabelled_are_a_leak(films, labelled, tmp_path):
    shutil.copytree(films, tmp_path / "v")
    shutil.copy(labelled / "test/run/3.mp4", tmp_path / "v" / "copy.mp4")
    with pytest.raises(errors.UserError, match=r"test/run/3\.mp4 = unlabeled/copy\.mp4\. Take one out"):
        run(tmp_path / "v", tmp_path / "data", videos=labelled)
    description = run(tmp_path / "v", tmp_path / "data", videos=labelled, fail_on_duplicates=False)
    assert "unlabeled/copy.mp4" in description.warnings[0]


@pytest.mark.parametrize("clip_seconds", [0.0, 0.3])
def test_training_videos_among_the_unlabelled_are_only_mentioned(films, labelled, tmp_path, clip_seconds):
    shutil.copytree(films, tmp_path / "v")
    shutil.copy(labelled / "train/run/1.mp4", tmp_path / "v" / "copy.mp4")
    description = run(tmp_path / "v", tmp_path / "data", clip_seconds, videos=labelled)
    assert description.warnings == (
        "Files of the same content in train and unlabeled: train/run/1.mp4 = unlabeled/copy.mp4.",
    )


def test_same_id_in_both_is_refused(labelled):
    with pytest.raises(errors.UserError, match="--videos and --unlabeled_videos both have unlabeled/5.mp4: leave it"):
        folder = str(labelled / "unlabeled")
        sources.read_all("folders", str(labelled), None, None, unlabeled_videos=folder, clip_seconds=4.0)


def test_name_that_is_not_utf8_is_left_out_and_listed(films, tmp_path):
    shutil.copytree(films, tmp_path / "v")
    (tmp_path / "v" / "a.mp4").rename(str(tmp_path / "v" / "caf") + b"\xe9.mp4".decode(errors="surrogateescape"))
    run(tmp_path / "v", tmp_path / "data", max_rejected=0.5)
    (line,) = rejected_of(tmp_path / "data")
    assert (line["id"], line["reason"]) == (r"unlabeled/caf\xe9.mp4", "its name is not UTF-8")
    assert line["path"] == str(tmp_path / "v" / r"caf\xe9.mp4")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing to build from: give --layout and --videos, or --unlabeled_videos"),
        ({"videos": "v"}, "--videos needs --layout"),
        ({"layout": "folders"}, "--layout=folders needs --videos"),
        ({"unlabeled_videos": "films", "split": 1}, "--split has no meaning without --layout"),
        ({"unlabeled_videos": "films", "annotations": "x"}, "--annotations has no meaning without --layout"),
        ({"clip_seconds": 4.0}, "--clip_seconds has no meaning without --unlabeled_videos"),
        ({"clip_seconds": -1.0, "unlabeled_videos": "films"}, "--clip_seconds=-1 is no length .* give 0.1 seconds"),
        ({"clip_seconds": 0.01, "unlabeled_videos": "films"}, "--clip_seconds=0.01 is no length of a clip"),
        ({"clip_seconds": float("nan"), "unlabeled_videos": "films"}, "--clip_seconds=nan is no length of a clip"),
        ({"clip_seconds": float("inf"), "unlabeled_videos": "films"}, "--clip_seconds=inf is no length of a clip"),
        ({"unlabeled_videos": "/absent"}, "no directory /absent: check --unlabeled_videos"),
        ({"unlabeled_videos": "films/.trash"}, ".trash has no videos: check --unlabeled_videos"),
    ],
)
def test_flags_that_do_not_go_together_are_named(films, tmp_path, given, message):
    (tmp_path / "empty" / ".trash").mkdir(parents=True)
    given = (
        dict.fromkeys(("layout", "videos", "annotations", "split", "unlabeled_videos")) | {"clip_seconds": 0} | given
    )
    if (given["unlabeled_videos"] or "").startswith("films"):
        given["unlabeled_videos"] = given["unlabeled_videos"].replace("films/", f"{tmp_path}/empty/")
    with pytest.raises(errors.UserError, match=message):
        sources.read_all(**given)


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.build_dataset", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clip_seconds=4"], "--clip_seconds has no meaning without --unlabeled_videos"),
        (["--unlabeled_videos=/absent", "--clip_seconds=nan"], "--clip_seconds=nan is no length of a clip"),
    ],
)
def test_mistakes_are_one_sentence_without_a_traceback(tmp_path, arguments, message):
    code, out, err = command(f"--output={tmp_path / 'd'}", *arguments)
    assert (code, out) == (1, "") and not list(tmp_path.iterdir())
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err


@pytest.mark.slow
def test_shards_are_the_same_bytes_whatever_the_workers(films, labelled, tmp_path):
    shutil.copytree(films, tmp_path / "v")
    encode(tmp_path / "v" / "long.mp4", 4000)
    outputs = []
    for name, workers in (("one", ("--direct_num_workers=1",)), ("two", TWO)):
        code, out, err = command(
            *(f"--unlabeled_videos={tmp_path / 'v'}", "--clip_seconds=4", f"--output={tmp_path / name}", *FRAMES),
            *("--layout=folders", f"--videos={labelled}", *workers),
        )
        assert (code, err) == (0, "")
        outputs.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert outputs[0] == outputs[1]
    assert info.load(str(tmp_path / "one")).num_clips("unlabeled") == 40 + 3 + 1
