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


def flow_ramp(height, width, count=2):
    """x is the column, y the row, in steps of 4."""
    rows, columns = np.mgrid[:height, :width] * 4
    return np.repeat(np.stack([columns, rows], -1).astype(np.uint8)[None], count, 0)


def test_flow_is_cropped_as_tensorflow_resizes_a_slice():
    """On the HR grid a box has whole pixels: slicing and `tf.image.resize` give the same, but for what lies beyond."""
    for scale, size in ((0.5, (24, 32)), (0.75, (24, 32)), (1.0, (13, 17))):
        options = augment.Augmentation(size, scales=(scale,), flip=False)
        seed = tf.constant([7, 7])
        top, left, height, width = augment.random_crop((24, 32), options, tf.random.split(seed, 3)[0]).numpy()
        part = flow_ramp(24, 32)[:, top : top + height, left : left + width]
        expected = tf.image.resize(part, size, antialias=True)
        made = augment.augment_flow(flow_ramp(24, 32), (24, 32), size, options, seed)
        inside = (slice(None), slice(2, -2), slice(2, -2)) if scale < 1 else ...
        assert np.abs(made.numpy() - expected.numpy())[inside].max() <= 0.501


def test_lr_flow_is_cropped_where_the_hr_frame_is():
    """An LR ramp that says which HR pixel is at its place: after cropping it says so still."""
    options = augment.Augmentation((24, 32), scales=(0.5, 0.75, 1.0), flip=False)
    rows, columns = np.mgrid[:12, :16] * 2 + 0.5  # the HR position of each LR pixel's centre
    field = np.stack([columns, rows], -1)[None] * 4
    for draw in range(20):
        seed = tf.constant([draw, 3])
        top, left, height, width = augment.random_crop((24, 32), options, tf.random.split(seed, 3)[0]).numpy()
        made = augment.augment_flow(field.astype(np.uint8), (24, 32), (12, 16), options, seed).numpy()[0] / 4
        expected_row = top + (np.arange(12) + 0.5) * height / 12 - 0.5
        expected_column = left + (np.arange(16) + 0.5) * width / 16 - 0.5
        # At the frame's border there is nothing to interpolate with.
        assert np.abs(made[1:-1, :, 1] - expected_row[1:-1, None]).max() < 0.5
        assert np.abs(made[:, 1:-1, 0] - expected_column[None, 1:-1]).max() < 0.5


def test_mirrored_flow_points_the_other_way():
    options = augment.Augmentation((24, 32), scales=(1.0,))
    field = flow_ramp(24, 32)
    mirrored = np.stack([255 - field[:, :, ::-1, 0], field[:, :, ::-1, 1]], -1)
    seen = set()
    for draw in range(40):
        made = augment.augment_flow(field, (24, 32), (24, 32), options, (draw, 0)).numpy()
        is_mirrored = np.array_equal(made, mirrored)
        assert is_mirrored or np.array_equal(made, field)
        frames = augment.augment(ramp(), options, (draw, 0)).numpy()
        assert np.array_equal(frames, ramp()[:, :, ::-1]) == is_mirrored
        seen.add(is_mirrored)
    assert seen == {True, False}
