"""The augmentation against hand-made crops, and its properties over many draws."""

import cv2
import numpy as np
import tensorflow as tf

from stat_tf.data import augment


def ramp(height=24, width=32, count=2):
    """Red is the row, green the column, in steps of 4: a pixel tells where it came from."""
    rows, columns = np.mgrid[:height, :width] * 4
    frame = np.stack([rows, columns, np.full_like(rows, 100)], -1).astype(np.uint8)
    return np.repeat(frame[None], count, 0)


def test_nothing_asked_nothing_changed():
    plain = augment.Augmentation((24, 32), scales=(1.0,), flip=False)
    np.testing.assert_array_equal(augment.augment(ramp(), plain, (1, 2)), ramp())


def test_flip_mirrors_half_of_the_clips_and_all_frames_of_a_clip():
    options = augment.Augmentation((24, 32), scales=(1.0,))
    mirrored = 0
    for draw in range(100):
        clip = augment.augment(ramp(), options, (draw, 0)).numpy()
        np.testing.assert_array_equal(clip[0], clip[1])
        is_mirrored = np.array_equal(clip, ramp()[:, :, ::-1])
        assert is_mirrored or np.array_equal(clip, ramp())
        mirrored += is_mirrored
    assert 30 < mirrored < 70


def test_crops_have_the_stated_scales_and_reach_every_place():
    options = augment.Augmentation((24, 32), scales=(1.0, 0.5), flip=False)
    sizes, places = set(), set()
    for draw in range(300):
        top, left, height, width = augment.random_crop((24, 32), options, (draw, 1)).numpy()
        assert 0 <= top <= 24 - height and 0 <= left <= 32 - width
        sizes.add((height, width))
        if height == 12:
            places.add(top)
    assert sizes == {(24, 32), (24, 16), (12, 32), (12, 16)}
    assert places == set(range(13))


def test_crop_is_the_part_of_the_frame_its_box_names():
    options = augment.Augmentation((24, 32), scales=(0.5,), flip=False)
    seed = tf.constant([7, 7])
    top, left, height, width = augment.random_crop((24, 32), options, tf.random.split(seed, 3)[0]).numpy()
    clip = augment.augment(ramp(), options, seed).numpy().astype(float)
    part = ramp()[0, top : top + height, left : left + width]
    expected = cv2.resize(part, (32, 24), interpolation=cv2.INTER_LINEAR)
    assert np.abs(clip - expected).max() <= 1


def test_distortion_is_at_most_one_step_of_the_scales():
    options = augment.Augmentation((24, 32), scales=(1.0, 0.75, 0.5))
    for draw in range(100):
        _, _, height, width = augment.random_crop((24, 32), options, (draw, 2)).numpy()
        assert abs(height / 24 - width / 32) < 0.26


def test_color_jitter_equals_its_formula_and_serves_all_frames_alike():
    frames = np.random.default_rng(0).uniform(60, 120, (2, 4, 5, 3)).astype(np.float32)
    made = augment.jitter_color(tf.constant(frames), 0.3, (1, 2)).numpy()
    saturation, contrast, brightness = tf.random.stateless_uniform([3], (1, 2), 0.7, 1.3).numpy()
    gray = frames @ np.array([0.2989, 0.587, 0.114], np.float32)
    colored = gray[..., None] + saturation * (frames - gray[..., None])
    expected = brightness * (gray.mean() + contrast * (colored - gray.mean()))
    np.testing.assert_allclose(made, expected, rtol=1e-4)
    same = augment.jitter_color(tf.constant(np.stack([frames[0]] * 2)), 0.3, (1, 2)).numpy()
    np.testing.assert_array_equal(same[0], same[1])


def test_crop_larger_than_its_target_is_averaged_not_picked_from():
    # A checkerboard of single pixels: every average is grey, every pixel is black or white.
    rows, columns = np.mgrid[:48, :64]
    board = np.repeat(((rows + columns) % 2 * 255).astype(np.uint8)[None, :, :, None], 3, -1)
    options = augment.Augmentation((16, 21), scales=(1.0,), flip=False)
    assert np.abs(augment.augment(board, options, (0, 0)).numpy().astype(int)[0, 2:-2, 2:-2] - 127).max() < 25
