"""The record against TensorFlow's own parser and the keys that MediaSequence fixes."""

import numpy as np
import pytest
import tensorflow as tf

from stat_tf.data import record


def make_record(**changes):
    fields = {
        "clip_id": "jump/a.avi",
        "path": "jump/a.avi",
        "group": "g01",
        "label": "jump",
        "label_index": 3,
        "hr_frames": [b"\xff\xd8one", b"\xff\xd8two"],
        "lr_frames": {(12, 16): [b"\x89PNGone", b"\x89PNGtwo"]},
        "timestamps": [0, 40000],
        "hr_size": (96, 128),
        "frame_rate": 25.0,
    }
    return record.ClipRecord(**(fields | changes))


RGB = {"hr": "", "lr": "LR/"}


def test_parse_returns_what_encode_was_given():
    parsed = record.parse(tf.constant(record.encode(make_record())), RGB)
    assert parsed["id"].numpy() == b"jump/a.avi" and parsed["path"].numpy() == b"jump/a.avi"
    assert parsed["label"].numpy() == 3
    assert parsed["hr"].numpy().tolist() == [b"\xff\xd8one", b"\xff\xd8two"]
    assert parsed["lr"].numpy().tolist() == [b"\x89PNGone", b"\x89PNGtwo"]
    np.testing.assert_array_equal(parsed["timestamps"], [0, 40000])


def test_keys_are_mediasequences():
    example = tf.train.SequenceExample.FromString(record.encode(make_record()))
    context, lists = example.context.feature, example.feature_lists.feature_list
    assert context["clip/media_id"].bytes_list.value == [b"jump/a.avi"]
    assert context["clip/data_path"].bytes_list.value == [b"jump/a.avi"]
    assert context["clip/label/string"].bytes_list.value == [b"jump"]
    assert context["clip/label/index"].int64_list.value == [3]
    assert context["image/format"].bytes_list.value == [b"JPEG"]
    assert context["LR/image/format"].bytes_list.value == [b"PNG"]
    assert context["image/height"].int64_list.value == [96] and context["image/width"].int64_list.value == [128]
    assert context["LR/image/height"].int64_list.value == [12] and context["LR/image/width"].int64_list.value == [16]
    assert context["image/frame_rate"].float_list.value == [25.0]
    assert [f.bytes_list.value[0] for f in lists["image/encoded"].feature] == [b"\xff\xd8one", b"\xff\xd8two"]
    assert [f.int64_list.value[0] for f in lists["image/timestamp"].feature] == [0, 40000]
    assert len(lists["LR/image/encoded"].feature) == len(lists["LR/image/timestamp"].feature) == 2


def test_encoding_is_deterministic():
    assert len({record.encode(make_record()) for _ in range(20)}) == 1


def test_unlabelled_clip():
    parsed = record.parse(record.encode(make_record(label="", label_index=record.UNLABELED)), RGB)
    assert parsed["label"].numpy() == record.UNLABELED == -1


def test_names_beyond_ascii_survive():
    parsed = record.parse(record.encode(make_record(clip_id="été/#1 (ü).avi")), RGB)
    assert parsed["id"].numpy().decode() == "été/#1 (ü).avi"


@pytest.mark.parametrize(
    "changes",
    [
        {"lr_frames": {(12, 16): [b"one"]}},
        {"hr_frames": [b"one"]},
        {"hr_flow": [b"one"]},
        {"lr_flow": {(12, 16): [b"one"]}},
    ],
)
def test_unequal_numbers_of_images_are_an_error(changes):
    with pytest.raises(ValueError, match="1 images under .* and 2 timestamps"):
        record.encode(make_record(**changes))


def test_flow_of_other_sizes_than_the_frames_is_an_error():
    with pytest.raises(ValueError, match="LR flow of"):
        record.encode(make_record(lr_flow={(6, 8): [b"one", b"two"]}))


def test_every_size_and_stream_has_a_place_of_its_own():
    sizes = ((12, 16), (6, 8))
    one = make_record(
        lr_frames={sizes[0]: [b"a0", b"a1"], sizes[1]: [b"b0", b"b1"]},
        hr_flow=[b"h0", b"h1"],
        lr_flow={sizes[0]: [b"c0", b"c1"], sizes[1]: [b"d0", b"d1"]},
    )
    serialized = record.encode(one)
    prefixes = {
        "small": record.lr_prefix((6, 8), sizes),
        "small_flow": record.lr_prefix((6, 8), sizes) + record.FLOW_PREFIX,
        "lr_flow": record.lr_prefix((12, 16), sizes) + record.FLOW_PREFIX,
        "hr_flow": record.FLOW_PREFIX,
    }
    parsed = record.parse(serialized, RGB | prefixes)
    expected = {"lr": b"a", "small": b"b", "lr_flow": b"c", "small_flow": b"d", "hr_flow": b"h"}
    for name, letter in expected.items():
        assert parsed[name].numpy().tolist() == [letter + b"0", letter + b"1"]
    context = tf.train.SequenceExample.FromString(serialized).context.feature
    assert context["LR/6x8/image/height"].int64_list.value == [6]
    # MediaSequence's own key for flow as an image.
    assert context["FORWARD_FLOW/image/format"].bytes_list.value == [b"PNG"]
    assert context["LR/6x8/FORWARD_FLOW/image/width"].int64_list.value == [8]
