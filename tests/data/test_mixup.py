"""Mixup: HR and LR of a clip get the same partner and the same share."""

import functools

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from stat_tf.data import mixup

CLIPS = 2000


def load(position, record):
    """Clip n has the HR value n // 8 and the LR value 255 less that."""
    hr = tf.cast(tf.fill([1, 1, 1, 2, 3], position % 2000 // 8), tf.uint8)
    return {"id": record, "label": position, "hr": hr, "lr": 255 - hr[:, :, :, :1]}


def plain(clips=CLIPS):
    """(position, record) of an epoch."""
    return tf.data.Dataset.range(clips).map(lambda position: (position, tf.strings.as_string(position)))


def mix(clips=CLIPS, alpha=0.7, seed=(1, 2), batch_size=CLIPS, skip=0):
    paired = mixup.pair(plain(clips).skip(skip), batch_size, alpha, tf.constant(seed, tf.int64))
    made = paired.map(functools.partial(mixup.load_pair, load)).batch(clips)
    [mixed] = made.as_numpy_iterator()
    return mixed


def test_views_are_blended_by_share_with_the_clip_that_the_label_names():
    mixed = mix()
    hr = np.arange(CLIPS)[:, None, None] // 8
    share, partner = mixed["share"], mixed["partner_label"]
    expected = share[:, None, None] * hr + (1 - share[:, None, None]) * hr[partner]
    expected = np.broadcast_to(expected, [CLIPS, 2, 3])
    assert mixed["hr"].dtype == np.uint8
    np.testing.assert_allclose(mixed["hr"][:, 0, 0, 0], expected, atol=0.501)
    # The LR view has the same partner and share.
    np.testing.assert_allclose(mixed["lr"][:, 0, 0, 0], 255 - expected[:, :1], atol=0.501)


def test_what_is_no_view_stays():
    mixed = mix()
    np.testing.assert_array_equal(mixed["label"], np.arange(CLIPS))
    np.testing.assert_array_equal(mixed["id"].astype(int), np.arange(CLIPS))
    assert sorted(mixed["partner_label"]) == list(range(CLIPS))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_the_larger_parts_of_a_beta_distribution(alpha):
    share = mix(alpha=alpha)["share"]
    assert share.dtype == np.float32 and share.min() >= 0.5 and share.max() <= 1

    def distribution(x):
        # Of max(x, 1 - x).
        return scipy.stats.beta.cdf(x, alpha, alpha) - scipy.stats.beta.cdf(1 - x, alpha, alpha)

    points = np.array([0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
    np.testing.assert_allclose((share[:, None] <= points).mean(axis=0), distribution(points), atol=0.04)


def test_tiny_alpha_leaves_clips_as_they_are():
    mixed = mix(alpha=1e-4)
    assert np.isfinite(mixed["share"]).all()
    assert (mixed["hr"][:, 0, 0, 0, 0, 0] == np.arange(CLIPS) // 8).mean() > 0.99


def test_seed_decides():
    one, again, other = mix(), mix(), mix(seed=(1, 3))
    np.testing.assert_array_equal(one["hr"], again["hr"])
    assert (one["share"] != other["share"]).mean() > 0.99
    assert (one["partner_label"] != other["partner_label"]).mean() > 0.99


def test_partners_are_of_the_same_batch_and_a_later_start_changes_nothing():
    whole, rest = mix(10, batch_size=4), mix(10, batch_size=4, skip=4)
    np.testing.assert_array_equal(whole["partner_label"] // 4, whole["label"] // 4)
    for name, values in rest.items():
        np.testing.assert_array_equal(values, whole[name][4:], err_msg=name)


def test_last_batch_of_one_clip_is_its_own_partner():
    mixed = mix(1)
    assert mixed["partner_label"] == mixed["label"] == 0 and (mixed["hr"] == 0).all()
