"""Degradation against NumPy and OpenCV."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from stat_tf.data import degrade

SEED = (3, 4)


def clip(height, width, count=2):
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(6, 8), (12, 16), (18, 24), (24, 32)])
@pytest.mark.parametrize("source", [(96, 128), (100, 133), (24, 32)])
def test_area_average_equals_opencv(size, source):
    frames = clip(*source)
    made = degrade.degrade(frames, degrade.Degradation(size, lens_blur=0, noise=0), SEED).numpy()
    expected = np.stack([cv2.resize(f.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) for f in frames])
    assert made.dtype == np.uint8 and made.shape == (2, *size, 3)
    assert np.abs(made - expected).max() <= 0.51


def test_lens_blur_equals_a_gaussian_of_the_stated_width_in_lr_pixels():
    frames = clip(96, 128)
    made = degrade.degrade(frames, degrade.Degradation((12, 16), lens_blur=0.5, noise=0), SEED).numpy()
    blurred = [cv2.GaussianBlur(f.astype(np.float32), (25, 25), 4.0, borderType=cv2.BORDER_REFLECT101) for f in frames]
    expected = np.stack([cv2.resize(f, (16, 12), interpolation=cv2.INTER_AREA) for f in blurred])
    assert np.abs(made - expected).max() <= 0.6


def test_blur_wider_than_the_frame_allows_still_works():
    made = degrade.degrade(clip(12, 16), degrade.Degradation((6, 8), lens_blur=5.0, noise=0), SEED)
    assert made.shape == (2, 6, 8, 3)


def test_noise_has_the_stated_deviation_and_depends_on_the_seed_alone():
    gray = np.full((200, 24, 32, 3), 128, np.uint8)
    options = degrade.Degradation((12, 16), lens_blur=0, noise=5.0)
    noisy = degrade.degrade(gray, options, SEED).numpy().astype(np.float64)
    assert abs(noisy.mean() - 128) < 0.1
    # Rounding adds 1/12 to the variance.
    assert abs(noisy.std() - np.sqrt(25 + 1 / 12)) < 0.05
    np.testing.assert_array_equal(noisy, degrade.degrade(gray, options, SEED))
    assert not np.array_equal(noisy, degrade.degrade(gray, options, (3, 5)))
    # Frames differ from each other.
    assert not np.array_equal(noisy[0], noisy[1])


def test_noise_is_clipped_at_black_and_white():
    options = degrade.Degradation((12, 16), lens_blur=0, noise=30.0)
    for level in (0, 255):
        made = degrade.degrade(np.full((4, 24, 32, 3), level, np.uint8), options, SEED).numpy()
        assert abs(int(np.median(made)) - level) <= 1 and made.std() > 0


def test_graph_and_eager_agree():
    frames, options = clip(96, 128), degrade.Degradation()
    traced = tf.function(lambda f: degrade.degrade(f, options, SEED))
    np.testing.assert_array_equal(traced(frames), degrade.degrade(frames, options, SEED))


def test_frames_smaller_than_lr_are_refused():
    with pytest.raises(ValueError, match="8x8 cannot be degraded to the larger 12x16"):
        degrade.degrade(clip(8, 8), degrade.Degradation(), SEED)
