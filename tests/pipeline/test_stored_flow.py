"""What the build stores of several LR sizes and of optical flow, from encoded videos of known motion."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from pipeline import beam_options, build, clips_to_records, shards, sources
from pipeline.sources.clip import Clip
from stat_tf.data import dataset, degrade, flow, info, record, video
from tests import builds, media

SETTINGS = builds.record_settings(num_snippets=1, num_frames=2, hr_size=(48, 64))
DIS = info.FlowInfo("dis", 20.0)
IMAGES = {"hr": "", "lr": "LR/", "hr_flow": "FORWARD_FLOW/", "lr_flow": "LR/FORWARD_FLOW/"}
NAME = "train/run/a.mp4"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    frames, _ = media.moving_pattern(24, (2.4, -1.2), size=(48, 64))
    media.encode_video(root / NAME, frames)
    return root


def serialize(videos, staging, name=NAME, **changes):
    """A clip's serialized record."""
    settings = dataclasses.replace(SETTINGS, **changes)
    convert = clips_to_records.ClipToRecord(settings, str(videos), str(staging), None)
    convert.setup()
    (_, (_, staged)), *_ = convert.process(clips_to_records.ClipTask(Clip(name, "run", "train"), 0, "shard"))
    with open(staged.path, "rb") as file:
        return file.read()


def images(serialized, prefix):
    return record.parse(serialized, {"images": prefix})["images"].numpy().tolist()


def decoded(serialized, prefix):
    return np.stack([tf.io.decode_png(image).numpy() for image in images(serialized, prefix)])


def source_of(videos, **changes):
    s = dataclasses.replace(SETTINGS, **changes)
    shape = {"num_segments": s.num_segments, "num_snippets": s.num_snippets, "num_frames": s.num_frames}
    return video.read_clip(str(videos / NAME), **shape, frame_stride=s.frame_stride, size=s.hr_size, with_motion=True)


def test_each_size_is_what_a_build_of_it_alone_stores_with_and_without_flow(videos, tmp_path):
    together = serialize(videos, tmp_path, lr_sizes=((12, 16), (6, 8)), flow=DIS)
    for size, prefix in (((12, 16), "LR/"), ((6, 8), "LR/6x8/")):
        alone = serialize(videos, tmp_path, lr_sizes=(size,))
        assert images(together, "") == images(alone, "")
        assert images(together, prefix) == images(alone, "LR/")
        with_flow = serialize(videos, tmp_path, lr_sizes=(size,), flow=DIS)
        assert images(together, prefix + "FORWARD_FLOW/") == images(with_flow, "LR/FORWARD_FLOW/")
        assert images(together, "FORWARD_FLOW/") == images(with_flow, "FORWARD_FLOW/")


def test_rgb_alone_stores_no_flow(videos, tmp_path):
    example = tf.train.SequenceExample.FromString(serialize(videos, tmp_path))
    assert not [key for key in example.feature_lists.feature_list if "FLOW" in key]


@pytest.mark.parametrize("method", flow.METHODS)
@pytest.mark.parametrize(
    ("velocity", "degrees", "zoom"), [((4.7, -2.3), 0.0, 1.0), ((-6.4, 1.5), 0.0, 1.0), ((0.0, 0.0), 2.0, 1.01)]
)
def test_known_motion_comes_back_from_the_dataset(tmp_path, method, velocity, degrees, zoom):
    frames, truth = media.moving_pattern(16, velocity, degrees, zoom)
    media.encode_video(tmp_path / "v" / NAME, frames)
    settings = dataclasses.replace(SETTINGS, hr_size=(96, 128), flow=info.FlowInfo(method, 20.0))
    listing = sources.read("folders", str(tmp_path / "v"), None, 1)
    config = build.BuildConfig(str(tmp_path / "v"), str(tmp_path / "data"), settings)
    description = build.build(listing, config, beam_options.parse([], 1))
    assert info.load(str(tmp_path / "data")).flow == info.FlowInfo(method, 20.0)
    (batch,) = dataset.evaluation_dataset(
        str(tmp_path / "data"),
        description,
        "train",
        batch_size=1,
        crop_size=(96, 128),
        lr_size=(12, 16),
        stream="flow",
    )
    hr = flow.dequantize(batch["hr"].numpy(), 20.0)
    assert hr.shape == (1, 2, 2, 96, 128, 2)
    hr_error = np.linalg.norm(hr - truth, axis=-1).mean()
    assert hr_error < 0.5
    lr = flow.dequantize(batch["lr"].numpy(), 2.5)
    lr_truth = truth.reshape(12, 8, 16, 8, 2).mean((1, 3)) / 8
    lr_error = np.linalg.norm(lr - lr_truth, axis=-1).mean()
    print(f"{method} {velocity} {degrees}: mean end-point error {hr_error:.3f} HR, {lr_error:.3f} LR pixels")
    assert lr_error < 0.2


def test_hr_flow_is_that_of_the_frames_before_jpeg(videos, tmp_path):
    changes = {"num_frames": 3, "frame_stride": 2}
    serialized = serialize(videos, tmp_path, flow=DIS, jpeg_quality=1, **changes)
    source = source_of(videos, **changes)
    estimator, pictures = flow.FlowEstimator("dis"), source.pictures
    fields = np.stack([estimator(pictures[i], pictures[i + 1]) for i in source.indices])
    stored = decoded(serialized, "FORWARD_FLOW/")
    np.testing.assert_array_equal(stored[..., :2], flow.quantize(fields, 20.0))
    assert not stored[..., 2].any()


@pytest.mark.parametrize("stride", [1, 2])
def test_lr_flow_is_that_of_the_stored_lr_frames(videos, tmp_path, stride):
    serialized = serialize(videos, tmp_path, flow=DIS, noise=6.0, frame_stride=stride)
    stored = decoded(serialized, "LR/")
    source = source_of(videos, frame_stride=stride)
    camera = degrade.Degradation((12, 16), 0.25, 6.0)
    # The frames beyond each snippet, in the video's order, with noise of their own.
    beyond = [i + 1 for i in source.indices if i + 1 not in source.indices]
    made = degrade.degrade(
        np.stack([source.pictures[i] for i in beyond]), camera, clips_to_records.noise_seed(NAME, draw=1)
    ).numpy()
    successors = [stored[1], made[0], stored[3], made[1]] if stride == 1 else made
    estimator = flow.FlowEstimator("dis")
    fields = np.stack([estimator(*pair) for pair in zip(stored, successors, strict=True)])
    expected = flow.quantize(fields, flow.bounds(20.0, (48, 64), (12, 16)))
    np.testing.assert_array_equal(decoded(serialized, "LR/FORWARD_FLOW/")[..., :2], expected)


def test_noise_of_the_frames_beyond_is_drawn_apart_from_the_stored_frames():
    first, second = clips_to_records.noise_seed("a"), clips_to_records.noise_seed("a", draw=1)
    assert first.shape == second.shape == (2,) and (first != second).all()
    assert (second != clips_to_records.noise_seed("b", draw=1)).all()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_videos_too_short_for_their_places_have_flow(tmp_path, count):
    frames, _ = media.moving_pattern(count, (2.0, 0.0), size=(48, 64))
    media.encode_video(tmp_path / "v" / NAME, frames)
    serialized = serialize(tmp_path / "v", tmp_path, flow=DIS, num_snippets=2)
    stored = decoded(serialized, "FORWARD_FLOW/")
    assert stored.shape == (8, 48, 64, 3) and decoded(serialized, "LR/FORWARD_FLOW/").shape == (8, 12, 16, 3)
    motion = flow.dequantize(stored[..., :2], 20.0).mean((1, 2))
    np.testing.assert_allclose(motion, np.broadcast_to([0.0 if count == 1 else 2.0, 0.0], (8, 2)), atol=0.3)


def test_flow_and_further_sizes_make_for_more_shards():
    many = 100000
    plain = shards.estimate_num_shards(many, SETTINGS)
    sizes = shards.estimate_num_shards(many, dataclasses.replace(SETTINGS, lr_sizes=((12, 16), (24, 32))))
    with_flow = shards.estimate_num_shards(many, dataclasses.replace(SETTINGS, flow=DIS))
    assert sizes > plain and with_flow > plain
