"""Mixup of clips (Zhang et al., mixup: Beyond Empirical Risk Minimization): HR and LR views alike.

Partners are drawn before anything is decoded, so that each clip's blend depends on the global batch alone,
and not on which process decodes it.
"""

from collections.abc import Callable

import tensorflow as tf

_VIEWS = ("hr", "lr")

Clip = dict[str, tf.Tensor]


def pair(clips: tf.data.Dataset, batch_size: int, alpha: float, seed: tf.Tensor) -> tf.data.Dataset:
    """Gives each clip of an epoch another of its batch as a partner, and a share.

    Args:
      clips: (position in the epoch, int64; serialized record), in order, from a batch's start on.
      batch_size: Clips of a global batch.
      alpha: Of the distribution Beta(alpha, alpha) that the shares are drawn from; above 0.
      seed: int64 [2], decides with a batch's number shares and partners.

    Returns:
      The same clips as (position, (record, partner's position, partner's record, share)). A share, float32
      in 0.5-1, is how much of the blend is the clip itself. A clip may be its own partner.
    """

    def pair_batch(positions, records):
        size = tf.size(positions)
        batch_seed = tf.random.fold_in(seed, positions[0] // batch_size)
        partner_seed, first_seed, second_seed = tf.unstack(tf.random.split(batch_seed, 3))
        partners = tf.random.experimental.stateless_shuffle(tf.range(size), partner_seed)
        first = tf.random.stateless_gamma([size], first_seed, alpha)
        second = tf.random.stateless_gamma([size], second_seed, alpha)
        total = first + second
        # Both gammas of a small alpha may vanish; the clip is then left as it is.
        share = tf.where(total > 1e-30, tf.maximum(first, second) / tf.maximum(total, 1e-30), 1.0)
        paired = (records, tf.gather(positions, partners), tf.gather(records, partners), share)
        return tf.data.Dataset.from_tensor_slices((positions, paired))

    return clips.batch(batch_size).flat_map(pair_batch)


def load_pair(load: Callable[[tf.Tensor, tf.Tensor], Clip], position: tf.Tensor, paired: tuple[tf.Tensor, ...]) -> Clip:
    """Loads a clip and its partner, and blends them.

    Args:
      load: Makes a clip of its position and its record.
      position: The clip's.
      paired: As of `pair`.

    Returns:
      As `blend`.
    """
    serialized, partner_position, partner, share = paired
    return blend(load(position, serialized), load(partner_position, partner), share)


def blend(clip: Clip, partner: Clip, share: tf.Tensor) -> Clip:
    """Blends two clips; teacher and student see the same blend.

    Args:
      clip: `label` (int64) and the views `hr` and `lr` (uint8), either or both; other values pass through.
      partner: The other clip.
      share: How much of the views is the clip's own, float32.

    Returns:
      The clip with its views blended, and `partner_label` (int64) and `share`.
    """

    def blended(view):
        own, other = tf.cast(clip[view], tf.float32), tf.cast(partner[view], tf.float32)
        return tf.cast(tf.round(share * own + (1.0 - share) * other), tf.uint8)

    views = {view: blended(view) for view in _VIEWS if view in clip}
    return clip | views | {"partner_label": partner["label"], "share": share}
