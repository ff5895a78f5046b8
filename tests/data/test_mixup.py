"""Mixup: HR and LR of a clip get the same partner and the same share."""

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from stat_tf.data import mixup

CLIPS = 2000


def make_batch(clips=CLIPS):
    """Clip n has the HR value n // 8 and the LR value 255 less that."""
    values = (np.arange(clips) % 2000 // 8).astype(np.uint8)
    hr = np.broadcast_to(values[:, None, None, None, None, None], (clips, 1, 1, 1, 2, 3))
    return {
        "id": tf.constant([str(n) for n in range(clips)]),
        "label": tf.constant(np.arange(clips), tf.int64),
        "hr": tf.constant(hr),
        "lr": tf.constant(255 - hr[:, :, :, :, :1]),
    }


def mix(batch, alpha=0.7, seed=(1, 2)):
    mixed = mixup.mix(batch, alpha, tf.constant(seed, tf.int64))
    return {name: values.numpy() for name, values in mixed.items()}


def test_views_are_blended_by_share_with_the_clip_that_the_label_names():
    batch, mixed = make_batch(), mix(make_batch())
    hr, share, partner = batch["hr"].numpy()[:, 0, 0, 0], mixed["share"], mixed["partner_label"]
    expected = share[:, None, None] * hr + (1 - share[:, None, None]) * hr[partner]
    assert mixed["hr"].dtype == np.uint8
    np.testing.assert_allclose(mixed["hr"][:, 0, 0, 0], expected, atol=0.501)
    # The LR view has the same partner and share.
    np.testing.assert_allclose(mixed["lr"][:, 0, 0, 0], 255 - expected[:, :1], atol=0.501)


def test_what_is_no_view_stays():
    batch, mixed = make_batch(), mix(make_batch())
    np.testing.assert_array_equal(mixed["id"], batch["id"])
    np.testing.assert_array_equal(mixed["label"], batch["label"])
    assert sorted(mixed["partner_label"]) == list(range(CLIPS))


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_are_the_larger_parts_of_a_beta_distribution(alpha):
    share = mix(make_batch(), alpha)["share"]
    assert share.dtype == np.float32 and share.min() >= 0.5 and share.max() <= 1

    def distribution(x):
        # Of max(x, 1 - x).
        return scipy.stats.beta.cdf(x, alpha, alpha) - scipy.stats.beta.cdf(1 - x, alpha, alpha)

    points = np.array([0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
    np.testing.assert_allclose((share[:, None] <= points).mean(axis=0), distribution(points), atol=0.04)


def test_tiny_alpha_leaves_clips_as_they_are():
    batch, mixed = make_batch(), mix(make_batch(), alpha=1e-4)
    assert np.isfinite(mixed["share"]).all()
    assert (mixed["hr"] == batch["hr"].numpy()).mean() > 0.99


def test_seed_decides():
    one, again, other = mix(make_batch()), mix(make_batch()), mix(make_batch(), seed=(1, 3))
    np.testing.assert_array_equal(one["hr"], again["hr"])
    assert (one["share"] != other["share"]).mean() > 0.99
    assert (one["partner_label"] != other["partner_label"]).mean() > 0.99


def test_last_batch_of_one_clip_is_its_own_partner():
    mixed = mix(make_batch(1))
    np.testing.assert_array_equal(mixed["hr"], make_batch(1)["hr"])
