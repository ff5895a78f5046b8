"""The signals job on small datasets, in this process and, for the bytes, as a command of several processes."""

import dataclasses
import json
import pathlib
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems

from pipeline import command_flags, signal_records, signals, signals_plan
from stat_tf import errors
from stat_tf import signals as signals_lib
from stat_tf.data import augment, degrade, record, views
from stat_tf.data import info as info_lib
from stat_tf.training import checkpoints, from_signals, resolve
from stat_tf.training.transfer import TransferModel
from stat_tf.weighting import LossWeights
from tests import datasets, runs, stored_signals

ROOT = pathlib.Path(__file__).resolve().parents[2]
CLIPS = {"train": 5, "test": 3, "unlabeled": 2}
AUGMENTATION = augment.Augmentation((24, 32), (1.0, 0.75), True, 0.1)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset of two LR sizes, a teacher, and signals of three views in the smaller size."""
    root = tmp_path_factory.mktemp("root")
    datasets.write_dataset(root / "data", clips=CLIPS, lr_sizes=((12, 16), (6, 8)))
    runs.untrained(root / "data", root / "teacher", stage="teacher")
    runs.untrained(root / "data", root / "student")
    stored_signals.store(root / "data", root / "teacher", root / "signals", lr_size="6x8")
    return root


def examples(directory, split):
    """The records of a split by clip id, as protocol buffers read them."""
    info = info_lib.load_signals(str(directory))
    paths = [str(directory / shard.name) for shard in info.shards[split]]
    parsed = [tf.train.SequenceExample.FromString(s) for s in tf.data.TFRecordDataset(paths).as_numpy_iterator()]
    return {e.context.feature[record.CLIP_ID].bytes_list.value[0].decode(): e for e in parsed}


def stored_view(example, view, shapes):
    """(LR frames, signals) of one view, read without the project's reader."""
    lists = example.feature_lists.feature_list
    images = [feature.bytes_list.value[0] for feature in lists["LR/image/encoded"].feature]
    frames = np.stack([tf.io.decode_png(image).numpy() for image in images])
    count = len(next(iter(lists[f"{n.upper()}/feature/float16"].feature for n in shapes)))
    signals = {}
    for name, shape in shapes.items():
        assert tuple(example.context.feature[f"{name.upper()}/feature/dimensions"].int64_list.value) == shape
        value = lists[f"{name.upper()}/feature/float16"].feature[view].bytes_list.value[0]
        signals[name] = np.frombuffer(value, "<f2").reshape(shape)
    return np.split(frames, count)[view], signals


def test_description_has_the_clips_the_teacher_and_the_views(root):
    data, found = info_lib.load(str(root / "data")), info_lib.load_signals(str(root / "signals"))
    assert info_lib.DatasetInfo.from_json(found.to_json(), "dataset.json") == found
    assert (found.classes, found.counts, found.lr_sizes) == (data.classes, data.counts, ((6, 8),))
    assert {split: found.num_clips(split) for split in found.shards} == CLIPS
    stored, teacher = found.signals, checkpoints.source_of(str(root / "teacher"), 1)
    assert (stored.num_views, stored.scales, stored.color_jitter, stored.seed) == (3, (1.0, 0.75), 0.1, 7)
    assert stored.teacher == {"backbone": "resnet18", "epoch": 1, "sha256": teacher.sha256}
    assert stored.data_fingerprint == data.fingerprint("train") != data.fingerprint("unlabeled")
    # The native student's grids: stride 1, 2, 4 and 8 on 6x8 cells.
    grids = [stored.shapes[f"teacher_stage_{stage}"] for stage in range(1, 5)]
    assert grids == [(2, 1, 6, 8), (2, 1, 3, 4), (2, 1, 2, 2), (2, 1, 1, 1)]
    for split in CLIPS:
        of_data = {f"{split}/{n:03d}.mp4": n % 2 if split != "unlabeled" else -1 for n in range(CLIPS[split])}
        of_signals = {
            name: example.context.feature[record.LABEL_INDEX].int64_list.value[0]
            for name, example in examples(root / "signals", split).items()
        }
        assert of_signals == of_data


@pytest.mark.parametrize("student_input", ["native", "upsample"])
def test_nothing_of_hr_resolution_is_stored(root, tmp_path, student_input):
    """Whatever is in the directory: no key of HR, no image larger than LR, no values that could be pixels of one."""
    directory = root / "signals"
    if student_input == "upsample":
        directory = tmp_path / "signals"
        stored_signals.store(root / "data", root / "teacher", directory, lr_size="6x8", student_input="upsample")
    names = {path.name for path in directory.iterdir()}
    info = info_lib.load_signals(str(directory))
    assert names == {"dataset.json", *(shard.name for shards in info.shards.values() for shard in shards)}
    largest = max(np.prod(shape) for shape in info.signals.shapes.values())
    assert largest == 2 * 6 * 8  # a value a segment and cell of the LR grid, or 4x4 HR pixels, at most
    assert "finer than" not in signals.report(info, "", 1.0)
    coarser = dataclasses.replace(info, lr_sizes=((3, 4),))
    assert "Attention maps of 6x8 are finer than the LR frames" in signals.report(coarser, "", 1.0)
    for split in CLIPS:
        for example in examples(directory, split).values():
            context, lists = example.context.feature, example.feature_lists.feature_list
            assert all(key.startswith(("clip/", "LR/image/", "TEACHER_")) for key in [*context, *lists])
            sides = [context[f"LR/image/{side}"].int64_list.value[0] for side in ("height", "width")]
            assert sides == [6, 8]
            for key, features in lists.items():
                for feature in features.feature:
                    for value in feature.bytes_list.value:
                        if key == "LR/image/encoded":
                            assert tf.io.decode_image(value).shape == (6, 8, 3)
                        else:
                            assert key.endswith("/feature/float16") and len(value) <= 2 * largest
            for feature in context.values():
                assert all(len(value) < 64 for value in feature.bytes_list.value)


def test_test_split_has_the_frames_that_evaluation_takes(root):
    source = info_lib.load(str(root / "data"))
    paths = [str(root / "data" / shard.name) for shard in source.shards["test"]]
    expected = {}
    for serialized in tf.data.TFRecordDataset(paths):
        clip = record.parse(serialized, {"lr": "LR/6x8/"})
        # Snippet 1 of 3 of both segments, of one frame each.
        expected[clip["id"].numpy().decode()] = (clip["lr"].numpy()[[1, 4]].tolist(), [40000, 160000])
    found = {}
    for name, example in examples(root / "signals", "test").items():
        lists = example.feature_lists.feature_list
        images = [feature.bytes_list.value[0] for feature in lists["LR/image/encoded"].feature]
        times = [feature.int64_list.value[0] for feature in lists["LR/image/timestamp"].feature]
        found[name] = (images, times)
        assert not any(key.startswith("TEACHER") for key in lists)
    assert found == expected


@pytest.mark.parametrize(
    ("backbone", "num_frames", "student_input"), [("resnet18", 1, "upsample"), ("r2plus1d_18", 2, "native")]
)
def test_losses_from_signals_are_the_online_losses_on_the_same_views(tmp_path, backbone, num_frames, student_input):
    data, teacher_run = tmp_path / "data", tmp_path / "teacher"
    source = datasets.write_dataset(data, clips={"train": 3}, num_frames=num_frames)
    network = {"backbone": backbone, "width": 0.0625, "eval_split": "", "student_input": student_input}
    runs.untrained(data, teacher_run, stage="teacher", **network)
    options = {"student_input": student_input, "num_views": 2}
    info = stored_signals.store(data, teacher_run, tmp_path / "signals", **options)
    teacher, _ = checkpoints.load_recognizer(str(teacher_run))
    student = checkpoints.load_recognizer(str(_student_of(tmp_path, data, network)))[0]
    weights = LossWeights(0.3, 0.3, 0.4, soft_labels=0.5)
    online = TransferModel(student, teacher, weights=weights)
    offline = TransferModel(student, stored_signals=True, weights=weights)
    look = views.draw(source, augmentation=AUGMENTATION, degradation=degrade.Degradation((12, 16), 0.0, 0.0))
    stored = examples(tmp_path / "signals", "train")
    for serialized in tf.data.TFRecordDataset([str(data / shard.name) for shard in source.shards["train"]]):
        for view in range(2):
            clip_id = record.clip_id(serialized.numpy())
            seen = look(serialized, signal_records.view_seed(7, clip_id, view))
            frames, signals = stored_view(stored[clip_id], view, info.signals.shapes)
            np.testing.assert_array_equal(frames, tf.reshape(seen["lr"], frames.shape))
            batch = {"label": seen["label"][None], "lr": seen["lr"][None], "hr": seen["hr"][None]}
            own = student.activations(batch["lr"])
            expected = online._loss_terms(own, online._signals(batch, teacher.activations(batch["hr"]), own), batch)
            kept = {"label": batch["label"], **{name: tf.constant(value[None]) for name, value in signals.items()}}
            terms = offline._loss_terms(own, offline._signals(kept, None, own), kept)
            assert terms.keys() == expected.keys() and {"sat_4", "tat_hidden", "soft_labels"} <= terms.keys()
            for name, value in terms.items():
                # float16 has 11 bits; a distance is of two vectors of length 1.
                np.testing.assert_allclose(value, expected[name], rtol=2e-3, atol=1e-3, err_msg=name)


def _student_of(tmp_path, data, network):
    runs.untrained(data, tmp_path / "student", seed=5, **network)
    return tmp_path / "student"


def test_stored_values_survive_large_activations():
    """What would overflow float16 is normalised before: eq. 2 and 3, and softmax, see the same."""
    shapes = signals_lib.shapes([(1, 2, 2)] * 4, 1, 3)
    assert tuple(shapes) == signals_lib.NAMES
    maps = [tf.fill([2, 1, 2, 2], 1e6)] * 4
    logits = tf.constant([[3e5, 3e5 - 1, -3e5], [90.0, 100.0, 99.0]])
    signals = signals_lib.Signals(maps, tf.fill([2, 64], 1e9), tf.constant([[1e-7], [5e4]]), logits)
    stored = signals_lib.for_storage(signals, 1)
    assert {name: value.shape[1:] for name, value in stored.items()} == shapes
    np.testing.assert_allclose(stored["teacher_stage_1"], np.full((2, 1, 1, 2, 2), 0.5), rtol=1e-3)
    np.testing.assert_allclose(stored["teacher_tam_hidden"], np.full((2, 64), 1 / 8), rtol=1e-3)
    assert np.isfinite(stored["teacher_logits"][1]).all()
    expected = np.exp([-10.0, 0.0, -1.0]) / np.exp([-10.0, 0.0, -1.0]).sum()
    np.testing.assert_allclose(tf.nn.softmax(tf.cast(stored["teacher_logits"][1], tf.float32)), expected, rtol=2e-3)


def test_a_view_depends_on_seed_clip_and_number_alone(root, tmp_path):
    options = {"num_views": 1, "splits": "train", "lr_size": "6x8"}
    fewer = stored_signals.store(root / "data", root / "teacher", tmp_path / "one", **options)
    assert set(fewer.shards) == {"train", "test"}
    three, one = examples(root / "signals", "train"), examples(tmp_path / "one", "train")
    differ = 0
    for name, example in three.items():
        first, second = (stored_view(example, view, fewer.signals.shapes) for view in (0, 1))
        alone = stored_view(one[name], 0, fewer.signals.shapes)
        np.testing.assert_array_equal(first[0], alone[0])
        for signal, value in first[1].items():
            np.testing.assert_array_equal(value, alone[1][signal])
        differ += (first[0] != second[0]).any()
    assert differ >= 3
    seeds = {
        signal_records.view_seed(seed, clip, view).tobytes() for seed in (0, 1) for clip in "ab" for view in (0, 1)
    }
    assert len(seeds) == 8


def test_damaged_shard_of_the_dataset_is_named_and_nothing_is_written(root, tmp_path):
    shutil.copytree(root / "data", tmp_path / "data")
    [path, *_] = sorted((tmp_path / "data").glob("unlabeled-*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(errors.UserError, match=f"Shard .*{path.name} is damaged"):
        stored_signals.store(tmp_path / "data", root / "teacher", tmp_path / "signals", num_views=1)
    assert [each.name for each in tmp_path.iterdir()] == ["data"]


def test_teacher_that_answers_with_nan_is_refused(root, tmp_path):
    recognizer, config = checkpoints.load_recognizer(str(root / "teacher"))
    recognizer.classifier.bias.assign(recognizer.classifier.bias * np.nan)
    config.save(str(tmp_path / "teacher"))
    saved = checkpoints.RunCheckpoints(str(tmp_path / "teacher"), recognizer, tf.keras.optimizers.SGD())
    saved.save(checkpoints.Progress().after_epoch({"step": 0, "val_prec@1": 0.5}, 0.5))
    with pytest.raises(errors.UserError, match="outputs for .*mp4 are not finite numbers: train it again"):
        stored_signals.store(root / "data", tmp_path / "teacher", tmp_path / "signals", num_views=1, splits="train")
    assert [each.name for each in tmp_path.iterdir()] == ["teacher"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher_run": "student"}, "is a run of stage student, not teacher"),
        ({"teacher_run": "data"}, "is not a run directory"),
        ({"data_dir": "signals"}, "holds teacher signals, with LR frames only"),
        ({"output": "data"}, "already holds a dataset: give --overwrite"),
        ({"splits": "train,test"}, "--splits=train,test must be splits of .*; it has train and unlabeled"),
        ({"lr_size": "18x24"}, "holds LR frames of 12x16 and 6x8, not of --lr_size=18x24"),
        ({"scales": (1.0, 2.0)}, "--scales=1.0,2.0 must all be above 0 and at most 1"),
        ({"temporal_fusion": "gray_stack"}, "gray_stack puts 3 frames"),
        ({"data_dir": "longer"}, "K=2 segments a clip, but .* has K=3"),
        ({"data_dir": "others"}, "was trained on other clips .*--allow_other_data"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(root, changes, message):
    datasets.write_dataset(root / "longer", clips={"train": 2}, num_segments=3)
    datasets.write_dataset(root / "others", clips={"train": 2})
    places = {"data_dir": "data", "teacher_run": "teacher", "output": "new"}
    places = {name: root / changes.get(name, path) for name, path in places.items()}
    rest = {name: value for name, value in changes.items() if name not in places}
    with pytest.raises(errors.UserError, match=message):
        stored_signals.store(**places, **rest)
    assert not (root / "new").exists()


@pytest.mark.parametrize("splits", [("train", "test"), ("train",), ("unlabeled",)])
def test_command_to_go_on_with_fits_the_student(root, tmp_path, splits):
    """Of a teacher and a student of another width and other frames than the default's."""
    if not (root / "student of 6x8").exists():
        runs.untrained(root / "data", root / "student of 6x8", lr_size="6x8")
    signals_dir, found = root / "signals", info_lib.load_signals(str(root / "signals"))
    found = dataclasses.replace(found, shards={split: found.shards[split] for split in splits})
    plan = signals_plan.make_plan(stored_signals.config(root / "data", root / "teacher", tmp_path / "s", lr_size="6x8"))
    words = shlex.split(signals.report(found, str(signals_dir), plan.width).splitlines()[-1])
    assert words[:3] == ["python", "-m", "stat_tf.train"] and "--width=0.125" in words
    defined = command_flags.of("stat_tf.train")
    defined(words[2:])
    settings = {name: None if name in from_signals.DECIDED else defined[name].value for name in runs.SETTINGS}
    config = resolve.resolve(settings | {"init_run": str(root / "student of 6x8")}, found)
    assert config.stage == ("stat" if "train" in splits else "unsupervised")
    assert config.eval_split == ("test" if "test" in splits else "")


def run(*arguments):
    command = [sys.executable, "-m", "pipeline.teacher_signals", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_shards_are_the_same_bytes_whatever_the_workers(root, tmp_path):
    places = [f"--data_dir={root / 'data'}", f"--teacher_run={root / 'teacher'}"]
    for name, mode, workers in (("one", "in_memory", 1), ("two", "multi_processing", 2)):
        done = run(
            *(*places, f"--output={tmp_path / name}", "--num_views=2", "--student_input=native"),
            *("--direct_running_mode", mode, "--direct_num_workers", str(workers)),
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "train: signals of 2 views of 5 clips in 2 files" in done.stdout
    one, two = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two and len(one) == 7
    assert json.loads(one["dataset.json"])["signals"]["scales"] == [1.0, 0.875, 0.75]


def test_shard_that_cannot_be_read_now_is_not_called_damaged(root, tmp_path, monkeypatch):
    class Refused(Exception):
        """As of a store's client: no OSError."""

    def refuse(path, **_):
        raise Refused("403 Forbidden")

    monkeypatch.setattr(FileSystems, "open", refuse)
    source = signal_records.SourceShard("train", str(root / "data" / "dataset.json"), info_lib.Shard("a", 1, 1, "0"))
    with pytest.raises(errors.UserError, match=r"dataset.json cannot be read \(403 Forbidden\): check"):
        list(signal_records.VerifyShard().process(source))
