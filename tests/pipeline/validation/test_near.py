"""Perceptual signatures of videos that are really encoded, and encoded anew."""

import cv2
import numpy as np
import pytest

from pipeline.validation import near
from stat_tf.data import video
from tests import media


def scene(seed, count=40, size=(96, 128), radius=14):
    """A smooth coloured background and a disc that wanders over it."""
    rng = np.random.default_rng(seed)
    background = cv2.GaussianBlur(rng.uniform(0, 255, (*size, 3)).astype(np.float32), (0, 0), 9)
    background = cv2.normalize(background, None, 0, 255, cv2.NORM_MINMAX)
    frames = []
    for time in range(count):
        frame = background.copy()
        x = size[1] * (0.5 + 0.4 * np.sin(0.15 * time + 5 * rng.bit_generator.seed_seq.entropy))
        y = size[0] * (0.5 + 0.4 * np.cos(0.11 * time))
        cv2.circle(frame, (int(x), int(y)), radius, (250, 240, 230), -1)
        frames.append(frame.astype(np.uint8))
    return np.stack(frames)


def signature(path):
    clip = video.read_clip(str(path), num_segments=8, num_snippets=1, num_frames=1, size=(96, 128))
    return near.signature([cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in clip.frames])


def is_found(one, other):
    return bool(set(near.bands(one)) & set(near.bands(other))) and near.alike(one, other)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return signature(media.encode_video(tmp_path_factory.mktemp("v") / "a.mp4", scene(1)))


@pytest.mark.parametrize("copy", ["smaller", "another codec", "brighter"])
def test_video_encoded_anew_is_found(original, tmp_path, copy):
    frames = scene(1)
    if copy == "smaller":
        small = np.stack([cv2.resize(frame, (64, 48), interpolation=cv2.INTER_AREA) for frame in frames])
        path = media.encode_video(tmp_path / "b.mp4", small, options={"crf": "32"})
    elif copy == "another codec":
        path = media.encode_video(tmp_path / "b.avi", frames, codec="mpeg4")
    else:
        brighter = np.clip(frames * 1.15 + 8, 0, 255).astype(np.uint8)
        path = media.encode_video(tmp_path / "b.mp4", brighter, options={"crf": "28"})
    assert signature(path) != original
    assert is_found(original, signature(path))


def test_another_scene_is_not_found(original, tmp_path):
    others = [signature(media.encode_video(tmp_path / f"{seed}.mp4", scene(seed))) for seed in (2, 3, 4)]
    assert not any(near.alike(original, other) for other in others)


def test_another_action_before_the_same_background_is_not_taken_for_a_copy(tmp_path):
    frames = scene(1, 80, radius=3)
    first, later = (
        signature(media.encode_video(tmp_path / f"{start}.mp4", frames[start : start + 40])) for start in (0, 40)
    )
    appearance = [np.frombuffer(item, np.uint8).astype(float) for item in (first, later)]
    assert np.corrcoef(appearance)[0, 1] > 0.98  # they do look much alike
    assert not near.alike(first, later)


def test_signatures_hold_the_area_means_of_frames_spread_over_the_clip():
    greys = [np.full((16, 18), 10 * number, np.uint8) for number in range(24)]
    frames = np.frombuffer(near.signature(greys), np.uint8).reshape(8, 8, 9)
    np.testing.assert_array_equal(frames[:, 0, 0], 10 * np.arange(1, 24, 3))
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (16, 18), np.uint8)
    frame = np.frombuffer(near.signature([grey]), np.uint8).reshape(8, 9)
    np.testing.assert_allclose(frame, grey.reshape(8, 2, 9, 2).mean((1, 3)), atol=0.51)


def test_clips_of_different_numbers_of_frames_are_not_compared():
    grey = np.arange(72, dtype=np.uint8).reshape(8, 9)
    assert not near.alike(near.signature([grey]), near.signature([grey, grey]))
    assert near.alike(near.signature([grey, grey]), near.signature([grey, grey]))
