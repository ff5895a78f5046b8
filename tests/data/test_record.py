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
        "lr_frames": [b"\x89PNGone", b"\x89PNGtwo"],
        "timestamps": [0, 40000],
        "hr_size": (96, 128),
        "lr_size": (12, 16),
        "frame_rate": 25.0,
    }
    return record.ClipRecord(**(fields | changes))


def test_parse_returns_what_encode_was_given():
    parsed = record.parse(tf.constant(record.encode(make_record())))
    assert parsed["id"].numpy() == b"jump/a.avi" and parsed["path"].numpy() == b"jump/a.avi"
    assert parsed["label"].numpy() == 3
    assert parsed["hr_encoded"].numpy().tolist() == [b"\xff\xd8one", b"\xff\xd8two"]
    assert parsed["lr_encoded"].numpy().tolist() == [b"\x89PNGone", b"\x89PNGtwo"]
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
    parsed = record.parse(record.encode(make_record(label="", label_index=record.UNLABELED)))
    assert parsed["label"].numpy() == record.UNLABELED == -1


def test_names_beyond_ascii_survive():
    parsed = record.parse(record.encode(make_record(clip_id="été/#1 (ü).avi")))
    assert parsed["id"].numpy().decode() == "été/#1 (ü).avi"


def test_unequal_numbers_of_frames_are_an_error():
    with pytest.raises(ValueError, match="2 HR frames, 1 LR frames and 2 timestamps"):
        record.encode(make_record(lr_frames=[b"one"]))
