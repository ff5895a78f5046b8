"""Reading batches: what an epoch holds, that it repeats, and what is said of a dataset that does not fit."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors
from stat_tf.data import augment, dataset, degrade, views
from stat_tf.data import info as info_lib
from tests import datasets

PLAIN = augment.Augmentation(crop_size=(24, 32), scales=(1.0,), flip=False)
WHOLE = {"batch_size": 2, "crop_size": (24, 32), "lr_size": (12, 16)}
NO_NOISE = degrade.Degradation(lr_size=(12, 16), lens_blur=0, noise=0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    return str(directory), datasets.write_dataset(directory)


def epochs(data, **kwargs):
    directory, info = data
    options = {"batch_size": 4, "augmentation": augment.Augmentation((24, 32)), "degradation": degrade.Degradation()}
    made = dataset.training_dataset(directory, info, **{**options, "seed": 1, **kwargs})
    return [{key: value.numpy() for key, value in batch.items()} for batch in made]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second):
        assert one.keys() == other.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], other[key])


def test_an_epoch_holds_every_clip_once_and_keeps_the_smaller_last_batch(data):
    batches = epochs(data, num_epochs=2)
    assert [len(batch["id"]) for batch in batches] == [4, 2, 4, 2]
    assert dataset.steps_per_epoch(data[1], ("train",), 4) == 2
    for epoch in (batches[:2], batches[2:]):
        ids = np.concatenate([batch["id"] for batch in epoch])
        assert sorted(ids) == [f"train/{n:03d}.mp4".encode() for n in range(6)]


def test_splits_are_mixed_and_labels_left_unread_where_asked(tmp_path):
    info = datasets.write_dataset(tmp_path, clips={"train": 6, "unlabeled": 5})
    splits = ("train", "unlabeled")
    assert dataset.steps_per_epoch(info, splits, 4) == 3
    labels = {}
    for labeled in (True, False):
        batches = epochs((str(tmp_path), info), splits=splits, labeled=labeled)
        assert [len(batch["id"]) for batch in batches] == [4, 4, 3]
        ids, found = (np.concatenate([batch[name] for batch in batches]) for name in ("id", "label"))
        assert found.dtype == np.int64
        labels[labeled] = dict(zip(ids, found))
    ids = [f"train/{n:03d}.mp4" for n in range(6)] + [f"unlabeled/{n:03d}.mp4" for n in range(5)]
    expected = [n % 2 for n in range(6)] + [-1] * 5
    assert labels[True] == dict(zip(map(str.encode, ids), expected))
    assert set(labels[False]) == set(labels[True]) and set(labels[False].values()) == {-1}


def test_shapes_dtypes_and_labels(data):
    for batch in epochs(data):
        size = len(batch["id"])
        assert batch["hr"].shape == (size, 2, 1, 24, 32, 3) and batch["hr"].dtype == np.uint8
        assert batch["lr"].shape == (size, 2, 1, 12, 16, 3) and batch["lr"].dtype == np.uint8
        numbers = [int(name[-7:-4]) for name in batch["id"]]
        np.testing.assert_array_equal(batch["label"], np.array(numbers) % 2)


def test_same_seed_same_batches_and_another_seed_or_epoch_others(data):
    first = epochs(data, num_epochs=2)
    assert_same(first, epochs(data, num_epochs=2))
    assert not np.array_equal(first[0]["hr"], first[2]["hr"])
    assert not np.array_equal(first[0]["hr"], epochs(data, seed=2)[0]["hr"])


def test_a_resumed_epoch_equals_the_same_epoch_of_an_unbroken_run(data):
    assert_same(epochs(data, num_epochs=3)[4:], epochs(data, start_epoch=2, num_epochs=3))


@pytest.mark.parametrize("start_batch", range(4))
def test_batches_left_out_leave_the_others_as_they_are(data, start_batch):
    options = {"batch_size": 2, "num_epochs": 3}
    assert_same(
        epochs(data, **options)[3 + start_batch :], epochs(data, start_epoch=1, start_batch=start_batch, **options)
    )


def test_batches_left_out_are_not_decoded(data, monkeypatch):
    decode, decoded = views._decode_jpeg, []

    def counted(image):
        image = tf.numpy_function(lambda value: decoded.append(1) or value, [image], tf.string)
        return decode(tf.ensure_shape(image, []))

    monkeypatch.setattr(views, "_decode_jpeg", counted)
    assert len(epochs(data, start_batch=1)) == 1
    assert len(decoded) == 2 * 2  # of two clips, an image a segment


def test_snippets_are_drawn_within_their_segment_and_all_are_used(data):
    # Frame n of a clip has the blue level blue(clip, n); segment k has the frames 3 k, 3 k + 1, 3 k + 2.
    drawn = {0: set(), 1: set()}
    for batch in epochs(data, num_epochs=12, augmentation=PLAIN, degradation=NO_NOISE):
        for name, clip in zip(batch["id"], batch["hr"]):
            levels = clip[:, 0, :, :, 2].mean(axis=(1, 2)) - datasets.blue(int(name[-7:-4]), 0)
            for segment, level in enumerate(levels):
                drawn[segment].add(round(float(level) / 12) - 3 * segment)
    assert drawn == {0: {0, 1, 2}, 1: {0, 1, 2}}


def test_lr_frames_are_the_area_average_of_the_augmented_hr_frames(data):
    for batch in epochs(data, degradation=NO_NOISE):
        blocks = batch["hr"].astype(np.float64).reshape(-1, 2, 1, 12, 2, 16, 2, 3).mean(axis=(4, 6))
        # Half a grey level of rounding, and the last bit of a float32 mean.
        assert np.abs(blocks - batch["lr"]).max() <= 0.501


def test_evaluation_takes_the_centre_snippet_and_the_stored_lr_frames(data):
    directory, info = data
    seen = []
    for batch in dataset.evaluation_dataset(directory, info, "test", **WHOLE):
        for name, hr, lr in zip(batch["id"].numpy(), batch["hr"].numpy(), batch["lr"].numpy()):
            clip = int(name[-7:-4])
            seen.append(clip)
            source = datasets.frames_of(clip, 6, (24, 32))[[1, 4]]
            assert np.abs(hr[:, 0].astype(int) - source).mean() < 3  # JPEG with half the chroma resolution
            exact = source.reshape(2, 12, 2, 16, 2, 3).mean(axis=(2, 4))
            assert np.abs(exact - lr[:, 0]).max() <= 0.501
    assert sorted(seen) == [0, 1, 2, 3]


def test_only_the_views_asked_for_are_made(data):
    directory, info = data
    for view in dataset.VIEWS:
        made = dataset.evaluation_dataset(directory, info, "test", **WHOLE, views=[view])
        assert set(made.element_spec) == {"id", "label", view}


def test_any_of_the_snippets_can_be_evaluated(data):
    directory, info = data
    for snippet in range(3):
        for batch in dataset.evaluation_dataset(directory, info, "test", **WHOLE, snippet=snippet):
            for name, hr in zip(batch["id"].numpy(), batch["hr"].numpy()):
                source = datasets.frames_of(int(name[-7:-4]), 6, (24, 32))[[snippet, 3 + snippet]]
                assert np.abs(hr[:, 0].astype(int) - source)[..., 2].mean() < 3


@pytest.fixture(scope="module")
def flow_data(tmp_path_factory):
    """Two LR sizes, two frames a snippet, flow."""
    directory = tmp_path_factory.mktemp("flow")
    return str(directory), datasets.write_dataset(
        directory, num_frames=2, lr_sizes=((12, 16), (6, 8)), flow=info_lib.FlowInfo("tvl1", 20.0)
    )


@pytest.mark.parametrize("lr_size", [(12, 16), (6, 8)])
def test_each_lr_size_and_its_flow_is_read_from_its_own_place(flow_data, lr_size):
    directory, info = flow_data
    options = {"batch_size": 2, "crop_size": (24, 32), "lr_size": lr_size}
    for batch in dataset.evaluation_dataset(directory, info, "test", **options, stream="flow"):
        assert batch["hr"].shape[1:] == (2, 2, 24, 32, 2) and batch["lr"].shape[1:] == (2, 2, *lr_size, 2)
        for name, clip in zip(batch["id"].numpy(), batch["lr"].numpy()):
            stored = datasets.fields_of(int(name[-7:-4]), 12, lr_size)
            np.testing.assert_array_equal(clip.reshape(4, *lr_size, 2), stored[[2, 3, 8, 9]])
    for batch in dataset.evaluation_dataset(directory, info, "test", **options):
        assert batch["lr"].shape[1:] == (2, 2, *lr_size, 3)


def test_flow_of_both_views_is_mirrored_and_cropped_alike(flow_data):
    """In the fields x is a ramp: its mean tells the crop's place, its slope the direction."""
    directory, info = flow_data
    options = {
        "batch_size": 3,
        "augmentation": augment.Augmentation((24, 32), scales=(1.0, 0.5)),
        "degradation": NO_NOISE,
        "num_epochs": 6,
        "seed": 0,
    }
    slopes = set()
    for batch in dataset.training_dataset(directory, info, **options, stream="flow"):
        hr, lr = batch["hr"].numpy()[..., 0].astype(float), batch["lr"].numpy()[..., 0].astype(float)
        assert hr.shape == (3, 2, 2, 24, 32) and lr.shape == (3, 2, 2, 12, 16)
        for one, other in zip(hr, lr):
            assert one.mean() == pytest.approx(other.mean(), abs=3)
            slope = [view[..., -1].mean() - view[..., 0].mean() for view in (one, other)]
            assert slope[0] == pytest.approx(slope[1], abs=8)
            # A mirrored field's x is negated as well as reversed: its slope stays as it was, its mean does not.
            assert slope[0] > 40
            slopes.add(round(one.mean()))
    assert len(slopes) > 4


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"split": "unlabeled"}, "no clips in split 'unlabeled'"),
        ({"num_segments": 8}, "--num_segments=2, not 8"),
        ({"num_frames": 5}, "--num_frames=1, not 5"),
        ({"lr_size": (6, 8)}, "LR frames of 12x16, not 6x8"),
        ({"stream": "flow"}, "no optical flow: build it again with --streams=rgb,flow"),
    ],
)
def test_a_dataset_that_does_not_fit_is_named(data, asked, words):
    fitting = {"split": "train", "num_segments": 2, "num_frames": 1, "lr_size": (12, 16)}
    dataset.check(*data, **fitting)
    with pytest.raises(errors.UserError, match=words):
        dataset.check(*data, **{**fitting, **asked})


def test_truncated_shard_is_named_before_anything_is_read(tmp_path):
    info = datasets.write_dataset(tmp_path)
    shard = tmp_path / info.shards["train"][1].name
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(errors.UserError, match=shard.name):
        dataset.check(str(tmp_path), info, "train", num_segments=2, num_frames=1, lr_size=(12, 16))
    shard.unlink()
    with pytest.raises(errors.UserError, match=f"{shard.name} is missing"):
        dataset.check(str(tmp_path), info, "train", num_segments=2, num_frames=1, lr_size=(12, 16))


def test_damaged_shard_is_named_while_reading(tmp_path):
    info = datasets.write_dataset(tmp_path)
    shard = tmp_path / info.shards["test"][0].name
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 0xFF
    shard.write_bytes(content)
    with pytest.raises(errors.UserError, match=shard.name), dataset.explain_read_errors(str(tmp_path), info):
        list(dataset.evaluation_dataset(str(tmp_path), info, "test", **WHOLE))


def test_a_directory_without_its_description_is_not_a_dataset(tmp_path):
    with pytest.raises(errors.UserError, match="no directory"):
        info_lib.load(str(tmp_path / "missing"))
    with pytest.raises(errors.UserError, match=r"no dataset\.json"):
        info_lib.load(str(tmp_path))
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(errors.UserError, match="not a dataset description"):
        info_lib.load(str(tmp_path))
    (tmp_path / "dataset.json").write_text('{"schema_version": 99}')
    with pytest.raises(errors.UserError, match="schema version 99"):
        info_lib.load(str(tmp_path))


def test_description_survives_a_round_trip(data, flow_data):
    for directory, info in (data, flow_data):
        assert info_lib.load(directory) == info


def test_a_description_of_the_first_version_has_one_lr_size_and_no_flow(data):
    fields = json.loads(data[1].to_json())
    del fields["lr_sizes"], fields["flow"]
    text = json.dumps(fields | {"schema_version": 1, "lr_size": [12, 16]})
    assert info_lib.DatasetInfo.from_json(text, "dataset.json") == data[1]


def test_clips_without_a_label_are_refused(data):
    directory, info = data
    unlabelled = dataclasses.replace(info, counts=info.counts | {"train": {"": 2, "jump": 4}})
    with pytest.raises(errors.UserError, match="2 clips without a label"):
        dataset.check(directory, unlabelled, "train", num_segments=2, num_frames=1, lr_size=(12, 16))
