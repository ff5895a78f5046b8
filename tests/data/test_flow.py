"""Optical flow against known motion, and its 8 bits against NumPy's formula."""

import cv2
import numpy as np
import pytest
import tensorflow as tf

from stat_tf.data import flow
from tests import media

MOTIONS = [((1.7, -0.9), 0.0, 1.0), ((-5.3, 2.6), 0.0, 1.0), ((0.0, 0.0), 2.0, 1.01), ((0.0, 0.0), -1.0, 0.98)]


def error(estimated, truth):
    """Mean end-point error."""
    return np.linalg.norm(estimated - truth, axis=-1).mean()


@pytest.mark.parametrize("method", flow.METHODS)
@pytest.mark.parametrize(("velocity", "degrees", "zoom"), MOTIONS)
def test_known_motion_is_found(method, velocity, degrees, zoom):
    frames, truth = media.moving_pattern(2, velocity, degrees, zoom)
    field = flow.FlowEstimator(method)(*frames)
    assert field.dtype == np.float32 and field.shape == (96, 128, 2)
    assert error(field, truth) < 0.25


@pytest.mark.parametrize("method", flow.METHODS)
def test_right_and_down_are_positive(method):
    frames, _ = media.moving_pattern(2, (3.0, 1.0))
    x, y = flow.FlowEstimator(method)(*frames).mean((0, 1))
    assert x == pytest.approx(3, abs=0.3) and y == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("method", flow.METHODS)
@pytest.mark.parametrize("size", [(6, 8), (9, 12), (12, 16), (18, 24), (24, 32)])
def test_motion_of_small_frames_is_found(method, size):
    frames, truth = media.moving_pattern(2, (6.0, -3.0))
    small = [cv2.resize(frame, size[::-1], interpolation=cv2.INTER_AREA) for frame in frames]
    motion = truth[0, 0] * size[0] / 96
    field = flow.FlowEstimator(method)(*small)
    assert field.shape == (*size, 2)
    assert error(field, motion) < 0.5 * np.hypot(*motion)


@pytest.mark.parametrize("method", flow.METHODS)
@pytest.mark.parametrize("size", [(1, 1), (3, 4), (100, 5)])
def test_frames_of_any_size_have_flow(method, size):
    frames, _ = media.moving_pattern(2, (1.0, 0.0), size=size)
    field = flow.FlowEstimator(method)(*frames)
    assert field.shape == (*size, 2) and field.dtype == np.float32 and np.isfinite(field).all()


@pytest.mark.parametrize("method", flow.METHODS)
def test_what_was_estimated_before_and_the_threads_do_not_matter(method):
    frames, _ = media.moving_pattern(3, (2.0, 1.0))
    small = [cv2.resize(frame, (16, 12), interpolation=cv2.INTER_AREA) for frame in frames]
    fresh, fresh_small = flow.FlowEstimator(method)(*frames[:2]), flow.FlowEstimator(method)(*small[:2])
    used = flow.FlowEstimator(method)
    threads = cv2.getNumThreads()
    try:
        for number in (1, 4):
            cv2.setNumThreads(number)
            used(small[1], small[2])
            used(frames[2], frames[0])
            np.testing.assert_array_equal(used(*frames[:2]), fresh)
            np.testing.assert_array_equal(used(*small[:2]), fresh_small)
    finally:
        cv2.setNumThreads(threads)


@pytest.mark.parametrize("method", flow.METHODS)
def test_mirrored_flow_is_the_flow_of_the_mirrored_frames(method):
    frames, _ = media.moving_pattern(2, (3.0, 2.0))
    estimator = flow.FlowEstimator(method)
    mirrored = flow.mirror(tf.constant(flow.quantize(estimator(*frames), 20.0))).numpy()
    expected = flow.quantize(estimator(*frames[:, :, ::-1]), 20.0)
    assert np.abs(mirrored.astype(int) - expected).mean() < 1.5


def test_mirror_reverses_columns_and_negates_x():
    levels = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 2), np.uint8)
    mirrored = flow.mirror(tf.constant(levels))
    assert mirrored.dtype == tf.uint8
    np.testing.assert_array_equal(mirrored[..., 0], 255 - levels[..., ::-1, 0])
    np.testing.assert_array_equal(mirrored[..., 1], levels[..., ::-1, 1])
    np.testing.assert_array_equal(flow.mirror(mirrored), levels)


@pytest.mark.parametrize("bound", [20.0, 15.0, (2.5, 1.875), (20 * 16 / 149, 20 * 12 / 112)])
def test_quantisation_is_the_usual_formula(bound):
    motion = np.random.default_rng(0).normal(0, 10, (50, 40, 2)).astype(np.float32)
    levels = flow.quantize(motion, bound)
    limit = np.broadcast_to(np.array(bound), 2)
    exact = np.clip(255 * (motion.astype(np.float64) + limit) / (2 * limit), 0, 255)
    assert levels.dtype == np.uint8 and levels.min() == 0 and levels.max() == 255
    assert np.abs(levels - exact).max() <= 0.5001
    restored = flow.dequantize(levels, bound)
    assert restored.dtype == np.float32
    assert (np.abs(restored - np.clip(motion, -limit, limit)) <= limit / 255 * 1.001).all()


@pytest.mark.parametrize("bound", [20.0, 0.7, (2.5, 1.875), (20 * 16 / 149, 20 * 12 / 112)])
def test_no_motion_is_128_and_the_bound_is_reached(bound):
    assert (flow.quantize(np.zeros((2, 2), np.float32), bound) == 128).all()
    limit = np.broadcast_to(np.array(bound, np.float32), 2)
    for factor, level in ((1, 255), (3, 255), (-1, 0), (-3, 0)):
        assert (flow.quantize(factor * limit, bound) == level).all()
    np.testing.assert_allclose(flow.dequantize(np.array([255, 255], np.uint8), bound), limit, rtol=1e-5)


def test_bound_is_the_same_motion_on_every_grid():
    assert flow.bounds(20.0, (96, 128), (96, 128)) == (20.0, 20.0)
    assert flow.bounds(20.0, (96, 128), (12, 16)) == (2.5, 2.5)
    assert flow.bounds(20.0, (112, 149), (12, 16)) == pytest.approx((20 * 16 / 149, 20 * 12 / 112))


def plain(value):
    return np.full((2, 3, 3), value, np.uint8)


def brightening(before, after):
    """An estimator whose "motion" tells both frames: x the first's level, y the second's."""
    return np.stack([before[..., 0], after[..., 0]], -1).astype(np.float32)


def test_fields_of_a_snippet_come_in_order_and_each_is_estimated_once():
    calls = []

    def estimator(before, after):
        calls.append(before[0, 0, 0])
        return brightening(before, after)

    pictures = {index: plain(index) for index in (2, 3, 4, 8, 9)}
    fields = flow.snippet_flow(estimator, pictures, [3, 2, 2, 9, 8], 10)
    assert fields.dtype == np.float32 and fields.shape == (5, 2, 3, 2)
    assert fields[:, 0, 0].tolist() == [[3, 4], [2, 3], [2, 3], [8, 9], [8, 9]]
    assert sorted(calls) == [2, 3, 8]


def test_the_only_frame_of_a_video_does_not_move():
    assert not flow.snippet_flow(brightening, {0: plain(7)}, [0, 0], 1).any()


def test_lr_motion_is_that_of_the_stored_frames_and_of_others_made_for_it():
    # Two snippets of frames 2, 3 and 3, 4 of ten; the stored frames' levels tell their place.
    stored = np.stack([plain(value) for value in (102, 103, 113, 114)])
    pictures = {index: plain(index) for index in (2, 3, 4, 5)}
    made = []

    def degrade(frames):
        made.append(frames[:, 0, 0, 0].tolist())
        return frames + np.uint8(200)

    fields = flow.degraded_flow(brightening, stored, pictures, [2, 3, 3, 4], 10, 2, degrade)
    # In the first snippet, frame 4 is none of its own.
    assert fields[:, 0, 0].tolist() == [[102, 103], [103, 204], [113, 114], [114, 205]]
    assert made == [[4, 5]]
    fields = flow.degraded_flow(brightening, stored[:2], pictures, [2, 3], 4, 2, degrade)  # nothing else is needed
    assert fields[:, 0, 0].tolist() == [[102, 103], [102, 103]] and len(made) == 1
