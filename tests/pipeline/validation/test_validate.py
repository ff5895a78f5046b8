"""Validations of small datasets that are damaged in one way each: every check finds what was planted and no more."""

import base64
import dataclasses
import errno
import hashlib
import html.parser
import itertools
import json
import os
import re
import shutil

import cv2
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems

from pipeline import beam_options
from pipeline.validation import charts, checks, job, judge, measures, page_style, shard_reader, validate
from stat_tf import errors, stores
from stat_tf.data import info, record
from tests import datasets


def textures(seeds):
    """Makes the frames of another clip at each call: smooth colours that drift."""

    def make(_, count, size):
        rng = np.random.default_rng(next(seeds))
        rows, columns = np.mgrid[: size[0], : size[1]]
        waves = rng.uniform(-0.6, 0.6, (12, 3))
        phases = rng.uniform(0, 2 * np.pi, (12, 3))
        frames = []
        for time in range(count):
            angles = waves[:, 0, None, None] * rows + waves[:, 1, None, None] * columns
            angles = angles + 4 * time * waves[:, 2, None, None]
            frames.append(128 + 22 * np.cos(angles[..., None] + phases[:, None, None]).sum(0))
        return np.clip(frames, 0, 255).round().astype(np.uint8)

    return make


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """Two LR sizes, flow and a split without labels: nothing is wrong with it."""
    data = tmp_path_factory.mktemp("sound") / "data"
    datasets.write_dataset(
        data,
        clips={"train": 6, "test": 4, "unlabeled": 3},
        lr_sizes=((12, 16), (6, 8)),
        flow=info.FlowInfo("dis", 20.0),
        num_frames=2,
        num_snippets=2,
        make_frames=textures(itertools.count()),
    )
    return data


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    data = tmp_path_factory.mktemp("plain") / "data"
    datasets.write_dataset(data, make_frames=textures(itertools.count(100)))
    return data


@pytest.fixture
def data(plain, tmp_path):
    return shutil.copytree(plain, tmp_path / "data")


def run(data, output, *, thresholds=checks.Thresholds(), arguments=(), clips_per_class=2, **changes):  # noqa: B008
    """Validates in this process: the report."""
    execution = beam_options.parse(list(arguments), 0)
    policy = checks.Policy.of(**changes)
    description = info.load(str(data))
    validate.validate(
        *(str(data), description, str(output), execution),
        policy=policy,
        thresholds=thresholds,
        clips_per_class=clips_per_class,
    )
    return json.loads((output / "report.json").read_text())


def found(report):
    return [(anomaly["check"], anomaly["split"], tuple(anomaly["clips"])) for anomaly in report["anomalies"]]


def read_records(path):
    return [tf.train.SequenceExample.FromString(record.numpy()) for record in tf.data.TFRecordDataset(str(path))]


def describe(data, **changes):
    description = dataclasses.replace(info.load(str(data)), **changes)
    (data / info.FILE_NAME).write_text(description.to_json())


def write_shard(data, split, number, serialized):
    """Replaces a shard, and what `dataset.json` says of it."""
    description = info.load(str(data))
    shards = list(description.shards[split])
    path = data / shards[number].name
    with tf.io.TFRecordWriter(str(path)) as writer:
        for one in serialized:
            writer.write(one)
    content = path.read_bytes()
    shards[number] = info.Shard(path.name, len(serialized), len(content), hashlib.sha256(content).hexdigest())
    describe(data, shards=description.shards | {split: tuple(shards)})


def edit(data, clip_id, change):
    """Applies `change` to the record of a clip."""
    split = clip_id.partition("/")[0]
    for number, shard in enumerate(info.load(str(data)).shards[split]):
        examples = read_records(data / shard.name)
        for example in examples:
            if example.context.feature[record.CLIP_ID].bytes_list.value[0].decode() == clip_id:
                change(example)
                write_shard(data, split, number, [one.SerializeToString(deterministic=True) for one in examples])
                return
    raise AssertionError(f"no clip {clip_id}")


def images(example, prefix=""):
    features = example.feature_lists.feature_list[prefix + record.IMAGE_ENCODED].feature
    return [feature.bytes_list.value[0] for feature in features]


def set_images(example, encoded, prefix=""):
    features = example.feature_lists.feature_list[prefix + record.IMAGE_ENCODED].feature
    for feature, image in zip(features, encoded, strict=True):
        feature.bytes_list.value[0] = image


def jpegs(frames, quality=95):
    return [
        cv2.imencode(".jpg", frame[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))[1].tobytes() for frame in frames
    ]


def decoded(example):
    return np.stack([tf.io.decode_jpeg(image, dct_method="INTEGER_ACCURATE").numpy() for image in images(example)])


def clip(data, clip_id):
    for path in sorted(data.glob("*.tfrecord")):
        for example in read_records(path):
            if example.context.feature[record.CLIP_ID].bytes_list.value[0].decode() == clip_id:
                return example
    raise AssertionError(f"no clip {clip_id}")


@pytest.fixture(scope="module")
def sound_report(sound, tmp_path_factory):
    output = tmp_path_factory.mktemp("sound_report") / "report"
    return run(sound, output), output


def test_sound_dataset_with_flow_and_several_sizes_passes(sound, sound_report):
    report, output = sound_report
    assert (report["verdict"], report["anomalies"]) == ("pass", [])
    assert report["statistics"]["clips"] == {
        "train": {"jump": 3, "run": 3},
        "test": {"jump": 2, "run": 2},
        "unlabeled": {"": 3},
    }
    assert {path.name for path in output.iterdir()} == {"report.json", "report.html"}
    assert list(output.parent.iterdir()) == [output]
    assert problems_of(sound) == []


def test_statistics_equal_a_restatement(sound, sound_report):
    report, _ = sound_report
    for split in ("train", "test", "unlabeled"):
        brightness, contrast, motion = [], [], []
        for path in sorted(sound.glob(f"{split}-*")):
            for example in read_records(path):
                # Rec. 601, in whole levels as OpenCV has it.
                grey = np.rint(decoded(example) @ [0.299, 0.587, 0.114])
                brightness.append(grey.mean())
                contrast.append(grey.std((1, 2)).mean())
                areas = grey.reshape(len(grey), 12, 2, 16, 2).mean((2, 4))
                motion.append(np.abs(np.diff(areas, axis=0)).max())
        expected = {"brightness": brightness, "contrast": contrast, "motion": motion}
        for name, values in expected.items():
            got = report["statistics"]["measures"][split][name]
            assert got["count"] == len(values) == sum(got["histogram"])
            numbers = [got[key] for key in ("mean", "std", "min", "max")]
            np.testing.assert_allclose(numbers, [np.mean(values), np.std(values), min(values), max(values)], atol=0.02)
            edges = [*(got["bin_width"] * np.arange(32)), np.inf]
            assert got["histogram"] == np.histogram(values, edges)[0].tolist()


def set_label(index, label):
    def change(example):
        example.context.feature[record.LABEL_INDEX].int64_list.value[0] = index
        example.context.feature[record.LABEL_STRING].bytes_list.value[0] = label

    return change


def reverse_snippet(example):
    for prefix in ("", "LR/", "LR/6x8/", "FORWARD_FLOW/", "LR/FORWARD_FLOW/", "LR/6x8/FORWARD_FLOW/"):
        features = example.feature_lists.feature_list[prefix + record.IMAGE_TIMESTAMP].feature
        features[2].int64_list.value[0], features[3].int64_list.value[0] = 120000, 80000


def shift_lr_times(example):
    example.feature_lists.feature_list["LR/" + record.IMAGE_TIMESTAMP].feature[-1].int64_list.value[0] += 1


def drop_frame(example):
    del example.feature_lists.feature_list["LR/6x8/" + record.IMAGE_ENCODED].feature[-1]


def drop_key(example):
    del example.context.feature[record.CLIP_GROUP]


def add_key(example):
    example.context.feature["clip/face"].bytes_list.value.append(b"x")


def misstate_width(example):
    example.context.feature["LR/" + record.IMAGE_WIDTH].int64_list.value[0] = 17


def truncate_hr(example):
    set_images(example, [image[: len(image) // 2] if n == 3 else image for n, image in enumerate(images(example))])


def break_flow(example):
    prefix = "LR/6x8/FORWARD_FLOW/"
    broken = [image[:40] + bytes(8) + image[48:] for image in images(example, prefix)]
    set_images(example, broken, prefix)


def lossy_lr(example):
    frames = [tf.io.decode_png(image).numpy() for image in images(example, "LR/")]
    set_images(example, jpegs(frames), "LR/")


def shrink_hr(example):
    set_images(example, jpegs(decoded(example)[:, :20]))


WRONG_NAME = "the label's name is not the one of its index"
NOT = " holds images that do not decode as "
FLOW = "LR/6x8/FORWARD_FLOW/image/encoded"


@pytest.mark.parametrize(
    ("clip_id", "change", "check", "reason", "detail"),
    [
        ("train/001.mp4", set_label(7, b"run"), "schema", "the label's index is not one of the 2 classes", "7"),
        ("test/002.mp4", set_label(1, b"jump"), "schema", WRONG_NAME, "'jump', class 1 is 'run'"),
        ("unlabeled/000.mp4", set_label(0, b"jump"), "schema", "it has a label, in the split unlabeled", "0 'jump'"),
        ("train/001.mp4", reverse_snippet, "schema", "a snippet's timestamps go backward", "snippet 1"),
        ("test/000.mp4", shift_lr_times, "schema", "LR/image/timestamp differs from image/timestamp", ""),
        ("test/003.mp4", drop_frame, "schema", "LR/6x8/image/encoded does not have the 8 entries of K*S*T", "7"),
        ("train/004.mp4", drop_key, "schema", "the key clip/group is missing", ""),
        ("train/004.mp4", add_key, "schema", "the key clip/face is not one that dataset.json calls for", ""),
        ("train/000.mp4", misstate_width, "schema", "LR/image/width is not 16", "17"),
        ("train/002.mp4", truncate_hr, "undecodable", "image/encoded" + NOT + "JPEG", "image 3"),
        ("unlabeled/002.mp4", break_flow, "undecodable", FLOW + NOT + "PNG", "image 0 and 7 more"),
        ("test/001.mp4", lossy_lr, "undecodable", "LR/image/encoded" + NOT + "PNG", "image 0 and 7 more"),
        ("test/001.mp4", shrink_hr, "image_size", "image/encoded holds images that are not 24x32", "20x32"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_damaged_record_is_named_and_said_to_be_wrong_once(sound, tmp_path, clip_id, change, check, reason, detail):
    data = shutil.copytree(sound, tmp_path / "data")
    edit(data, clip_id, change)
    split = clip_id.partition("/")[0]
    assert [(key[:2], member[0], member[3], key[2]) for key, member in problems_of(data)] == [
        ((check, split), clip_id, detail, reason)
    ]


def reader_of(data):
    reader = shard_reader.ReadShard(str(data), info.load(str(data)), checks.Thresholds(), None)
    reader.setup()
    return reader


def problems_of(data):
    """What reading every shard finds, without the rest of the job."""
    reader = reader_of(data)
    shards = [(split, shard) for split, members in info.load(str(data)).shards.items() for shard in members]
    read = [pair for element in shards for pair in reader.process(element)]
    return [found for kind, found in read if kind == shard_reader.PROBLEMS]


def test_record_that_is_none_is_named_by_its_place(data, tmp_path):
    path = data / "test-00001-of-00002.tfrecord"
    serialized = [record.numpy() for record in tf.data.TFRecordDataset(str(path))]
    write_shard(data, "test", 1, [serialized[0], b"\xff not a record"])
    report = run(data, tmp_path / "report")
    assert found(report) == [("schema", "test", (f"record 1 of {path.name}",))]


def flip_bit(content):
    return content[:-500] + bytes([content[-500] ^ 1]) + content[-499:]


@pytest.mark.parametrize(
    ("damage", "message", "read"),
    [
        (None, "is missing", 0),
        (lambda content: content[:-1000], "bytes instead of", 2),
        (flip_bit, "has another checksum than dataset.json states", 2),
    ],
    ids=["missing", "truncated", "flipped"],
)
def test_damaged_shard_is_named_and_counted_and_the_others_are_read(data, tmp_path, damage, message, read):
    path = data / "train-00001-of-00002.tfrecord"
    path.write_bytes(damage(path.read_bytes())) if damage else path.unlink()
    report = run(data, tmp_path / "report")
    assert found(report) == [("shard", "train", ())]
    sentence = report["anomalies"][0]["message"]
    assert sentence.startswith(f"{path.name} ") and message in sentence
    assert sentence.endswith(f"; {read} of its 3 clips can be read.")
    assert report["statistics"]["num_clips"] == {"train": 3 + read, "test": 4}
    assert [shard["num_read"] for shard in report["statistics"]["shards"]] == [2, 2, 3, read]


def test_counts_that_differ_from_the_description_are_named(data, tmp_path):
    describe(data, counts={"train": {"jump": 3, "run": 4}, "test": {"jump": 1, "run": 2}})
    report = run(data, tmp_path / "one")
    messages = [anomaly["message"] for anomaly in report["anomalies"]]
    assert messages == [
        "The class jump: 2 clips in test, dataset.json states 1.",
        "The class run: 3 clips in train, dataset.json states 4.",
    ]
    assert {anomaly["check"] for anomaly in report["anomalies"]} == {"counts"}


def test_shard_of_fewer_records_than_stated_is_named(data, tmp_path):
    serialized = [record.numpy() for record in tf.data.TFRecordDataset(str(data / "train-00000-of-00002.tfrecord"))]
    write_shard(data, "train", 0, serialized[:2])
    description = info.load(str(data))
    first, second = description.shards["train"]
    first = dataclasses.replace(first, num_clips=3)
    describe(data, shards=description.shards | {"train": (first, second)})
    report = run(data, tmp_path / "report")
    assert [anomaly["message"] for anomaly in report["anomalies"]] == [
        "train-00000-of-00002.tfrecord holds 2 clips, dataset.json states 3."
    ]


def copy_frames(source):
    def change(example):
        set_images(example, images(source))

    return change


def recompress(source, quality=30):
    """Puts frames of another clip, compressed anew and a little brighter."""

    def change(example):
        brighter = np.clip(decoded(source) * 1.1 + 5, 0, 255).astype(np.uint8)
        set_images(example, jpegs(brighter, quality))

    return change


COPIES = [
    ("train/001.mp4", "test/003.mp4", copy_frames, "leaked_content"),
    ("test/000.mp4", "unlabeled/000.mp4", copy_frames, "leaked_content"),
    ("train/000.mp4", "test/001.mp4", recompress, "leaked_near_duplicate"),
    ("train/002.mp4", "train/003.mp4", copy_frames, "duplicate_content"),
    ("train/004.mp4", "unlabeled/001.mp4", copy_frames, "duplicate_content"),
    ("train/005.mp4", "unlabeled/002.mp4", recompress, "near_duplicate"),
]


def test_each_duplicate_is_found_with_its_copy_and_nothing_else_is(sound, tmp_path):
    data = shutil.copytree(sound, tmp_path / "data")
    for one, other, change, _ in COPIES:
        edit(data, other, change(clip(data, one)))
    report = run(data, tmp_path / "report")
    got = [(anomaly["check"], tuple(sorted(anomaly["clips"]))) for anomaly in report["anomalies"]]
    assert sorted(got) == sorted((check, tuple(sorted(pair))) for *pair, _, check in COPIES)
    for anomaly in report["anomalies"]:
        assert anomaly["severity"] == ("error" if anomaly["check"].startswith("leaked") else "warning")
        assert anomaly["split"] == ", ".join(sorted({clip_id.partition("/")[0] for clip_id in anomaly["clips"]}))
    assert report["verdict"] == "fail"


def test_three_near_copies_are_one_anomaly(data, tmp_path):
    source = clip(data, "train/000.mp4")
    edit(data, "train/001.mp4", recompress(source, 60))
    edit(data, "test/002.mp4", recompress(source, 30))
    report = run(data, tmp_path / "report")
    assert found(report) == [
        ("leaked_near_duplicate", "test, train", ("test/002.mp4", "train/000.mp4", "train/001.mp4")),
    ]


def set_group(name):
    def change(example):
        example.context.feature[record.CLIP_GROUP].bytes_list.value[0] = name

    return change


def test_group_in_train_and_test_is_named_with_its_clips(data, tmp_path):
    for name in ("train/000.mp4", "train/004.mp4", "test/001.mp4"):
        edit(data, name, set_group(b"g7"))
    edit(data, "test/000.mp4", set_group(b"g8"))
    # Within a split, clips of one group may look alike.
    edit(data, "train/004.mp4", recompress(clip(data, "train/000.mp4")))
    report = run(data, tmp_path / "report")
    assert found(report) == [("leaked_group", "test, train", ("test/001.mp4", "train/000.mp4", "train/004.mp4"))]
    assert report["anomalies"][0]["message"] == "The group g7 has clips in test and train, 3 in all."


def test_id_of_two_clips_is_named(data, tmp_path):
    def rename(example):
        example.context.feature[record.CLIP_ID].bytes_list.value[0] = b"train/000.mp4"

    edit(data, "train/003.mp4", rename)
    report = run(data, tmp_path / "report")
    assert found(report) == [("duplicate_id", "train", ("train/000.mp4", "train/000.mp4"))]


def test_blank_and_frozen_clips_are_warned_of(data, tmp_path):
    def blank(example):
        set_images(example, jpegs(np.full((6, 24, 32, 3), 40) + np.arange(6)[:, None, None, None] * 20))

    def freeze(example):
        set_images(example, jpegs(decoded(example)[[0] * 6]))

    edit(data, "train/001.mp4", blank)
    edit(data, "test/002.mp4", freeze)
    report = run(data, tmp_path / "report")
    assert found(report) == [("blank", "train", ("train/001.mp4",)), ("frozen", "test", ("test/002.mp4",))]
    assert report["verdict"] == "pass"
    strict = run(data, tmp_path / "strict", fail_on=["frozen"], ignore=["blank"])
    assert found(strict) == [("frozen", "test", ("test/002.mp4",))] and strict["verdict"] == "fail"
    assert strict["checks"]["blank"] == "ignored" and strict["checks"]["frozen"] == "error"


def test_small_subject_that_moves_is_not_frozen(data, tmp_path):
    def walk(example):
        frames = np.stack([decoded(example)[0]] * 6)
        for time in range(6):
            frames[time, 12:14, 2 * time : 2 * time + 2] = 255  # two pixels of HR, one of LR
        set_images(example, jpegs(frames))

    edit(data, "train/001.mp4", walk)
    assert found(run(data, tmp_path / "report")) == []


def test_brighter_test_split_is_a_drift(tmp_path):
    seeds = itertools.count(400)

    def make(number, count, size):
        seed = next(seeds)
        frames = textures(iter([seed]))(number, count, size)
        return frames if seed < 424 else np.clip(frames * 0.5 + 110, 0, 255).astype(np.uint8)

    data = tmp_path / "data"
    datasets.write_dataset(data, clips={"train": 24, "test": 12}, make_frames=make)
    report = run(data, tmp_path / "report")
    assert [anomaly["check"] for anomaly in report["anomalies"]] == ["brightness_drift", "contrast_drift"]
    train, test = (report["statistics"]["measures"][split]["brightness"]["mean"] for split in ("train", "test"))
    assert f"is {train:.1f} in train and {test:.1f} in test" in report["anomalies"][0]["message"]


def test_split_without_any_clip_is_warned_of(tmp_path):
    datasets.write_dataset(tmp_path / "data", clips={"train": 2}, make_frames=textures(itertools.count(300)))
    report = run(tmp_path / "data", tmp_path / "report")
    assert [(a["check"], a["message"]) for a in report["anomalies"]] == [
        ("missing_class", "No class has clips in test.")
    ]


def test_missing_and_rare_classes_are_warned_of(tmp_path):
    datasets.write_dataset(
        tmp_path / "data",
        clips={"train": 3, "test": 1},
        classes=("a", "b"),
        num_shards=1,
        make_frames=textures(itertools.count(200)),
    )
    describe(tmp_path / "data", classes=("a", "b", "c"))
    report = run(tmp_path / "data", tmp_path / "report", thresholds=checks.Thresholds(max_imbalance=1.5))
    assert [(a["check"], a["message"]) for a in report["anomalies"]] == [
        ("missing_class", "The class c has no clips in train."),
        ("missing_class", "The class b has no clips in test."),
        ("missing_class", "The class c has no clips in test."),
        (
            "class_imbalance",
            "The class a has 2 clips and b has 1: 2.0 times as many, more than 1.5.",
        ),
    ]


class _Page(html.parser.HTMLParser):
    """Checks that tags close in order; collects the texts and what is loaded."""

    VOID = {"meta", "img", "polygon", "line"}

    def __init__(self, text):
        super().__init__()
        self.open, self.texts, self.sources, self.tags = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


HOSTILE = '<script>alert("x")</script>&amp;$body'


def test_page_shows_the_planted_clip_and_needs_nothing_beside_it(tmp_path):
    data = tmp_path / "data"
    datasets.write_dataset(data, classes=("jump", HOSTILE), make_frames=textures(itertools.count(300)))
    edit(data, "train/004.mp4", shift_lr_times)
    run(data, tmp_path / "report")
    page = _Page((tmp_path / "report" / "report.html").read_text())
    text = "".join(page.texts)
    assert "train/004.mp4 · jump" in text and "LR/image/timestamp differs from image/timestamp" in text
    assert HOSTILE in text and "script" not in page.tags
    # One clip is wrong; two are shown of each of two classes and two splits.
    assert page.tags.count("figure") == 1 + 8
    assert len(page.sources) == 18 and all(source.startswith("data:image/") for source in page.sources)


def test_picture_of_a_clip_holds_its_own_frames(data, tmp_path):
    run(data, tmp_path / "report")
    page = _Page((tmp_path / "report" / "report.html").read_text())
    strips = [tf.io.decode_image(base64.b64decode(s.partition(",")[2])).numpy() for s in page.sources if "png" in s]
    expected = []
    for path in data.glob("*.tfrecord"):
        for example in read_records(path):
            frames = [tf.io.decode_png(image).numpy() for image in images(example, "LR/")]
            expected.append(np.concatenate([frames[1], frames[3], frames[5]], axis=1))
    assert len(strips) == 8
    assert all(any(np.array_equal(strip, one) for one in expected) for strip in strips)


def test_report_is_the_same_bytes_whatever_the_order_of_work(sound, tmp_path):
    data = shutil.copytree(sound, tmp_path / "data")
    edit(data, "test/003.mp4", copy_frames(clip(data, "train/001.mp4")))
    edit(data, "train/000.mp4", drop_key)
    run(data, tmp_path / "one", arguments=["--direct_num_workers=1"])
    run(data, tmp_path / "three", arguments=["--direct_num_workers=3", "--direct_running_mode=multi_threading"])
    for name in ("report.json", "report.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()


def test_output_that_is_no_report_is_left_alone(data, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(errors.UserError, match="mine exists and is not a report"):
        run(data, tmp_path / "mine")
    run(data, tmp_path / "report")
    with pytest.raises(errors.UserError, match="already holds a report: give --overwrite"):
        run(data, tmp_path / "report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "mine", "report"]


def test_failing_job_leaves_no_report(data, tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(judge, "judge", fail)
    with pytest.raises(RuntimeError):
        run(data, tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES])
def test_output_that_cannot_be_written_is_named(data, tmp_path, monkeypatch, number):
    def refuse(*_, **__):
        raise OSError(number, os.strerror(number))

    empty = job.Findings()
    monkeypatch.setattr(job, "run", lambda *_, **__: empty)
    with monkeypatch.context() as patch:
        patch.setattr(FileSystems, "create", refuse)
        with pytest.raises(errors.UserError, match=f"report cannot be written .{os.strerror(number).lower()}"):
            run(data, tmp_path / "report")
    monkeypatch.setattr(os, "listdir", refuse)
    (tmp_path / "report").mkdir()
    with pytest.raises(errors.UserError, match=f"report cannot be written .{os.strerror(number).lower()}"):
        run(data, tmp_path / "report")


def test_page_without_samples_has_every_other_section(data, tmp_path):
    run(data, tmp_path / "report", clips_per_class=0)
    page = _Page((tmp_path / "report" / "report.html").read_text())
    assert "figure" not in page.tags and "Some clips of each class" not in page.texts
    assert {"Clips by class", "What the frames are like", "Files"} < set(page.texts)


@pytest.mark.parametrize("count", [17, 78, 100])
def test_bar_has_its_share_of_the_room_beside_the_number(count):
    bar = charts.bar(count, 100, "train")
    assert f"width:calc((100% - 4em) * {count / 100:.3f})" in bar and f">{count}</span>" in bar
    assert not re.search(r"\.bar [^}]*max-width", page_style.CSS)


def test_store_of_the_dataset_is_made_ready_for_tensorflow(plain, monkeypatch):
    connected = []
    monkeypatch.setattr(stores, "connect", connected.append)
    reader_of(plain)
    assert connected == [str(plain)]


@pytest.mark.parametrize("broken", ["TensorFlow", "Beam"])
def test_shard_that_cannot_be_read_now_is_not_said_to_be_damaged(plain, monkeypatch, broken):
    def unavailable(*_):
        raise tf.errors.UnavailableError(None, None, "try later")

    def refuse(*_, **__):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    reader = reader_of(plain)
    if broken == "TensorFlow":
        monkeypatch.setattr(tf.data, "TFRecordDataset", unavailable)
    else:
        monkeypatch.setattr(FileSystems, "open", refuse)
    with pytest.raises(errors.UserError, match="train-00000-of-00002.tfrecord cannot be read .*give the command again"):
        list(reader.process(("train", info.load(str(plain)).shards["train"][0])))


def test_unknown_or_contradictory_checks_are_named():
    with pytest.raises(errors.UserError, match="--fail_on=frosen: there is no such check, only shard, schema"):
        checks.Policy.of(fail_on=["frosen"])
    with pytest.raises(errors.UserError, match="blank is given by --fail_on and by --ignore"):
        checks.Policy.of(fail_on=["blank"], ignore=["blank"])


def test_images_are_decoded_as_training_decodes_them():
    frame = textures(itertools.count())(0, 1, (24, 32))[0]
    encoded = jpegs([frame])[0]
    expected = tf.io.decode_jpeg(encoded, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    np.testing.assert_array_equal(measures.decode(encoded, "JPEG"), expected)
    assert measures.decode(encoded, "PNG") is None and measures.decode(b"", "JPEG") is None
