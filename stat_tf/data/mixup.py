"""Mixup of clips (Zhang et al., mixup: Beyond Empirical Risk Minimization): HR and LR views alike."""

import tensorflow as tf

_VIEWS = ("hr", "lr")


def mix(batch: dict[str, tf.Tensor], alpha: float, seed: tf.Tensor) -> dict[str, tf.Tensor]:
    """Blends each clip with another of its batch; teacher and student see the same blend.

    Args:
      batch: `label` (int64 [B]) and the views `hr` and `lr` (uint8 [B, ...]), either or both; other
        values pass through.
      alpha: Of the distribution Beta(alpha, alpha) that the shares are drawn from; above 0.
      seed: int64 [2], decides shares and partners.

    Returns:
      The batch with its views blended, and `partner_label` (int64 [B]) and `share` (float32 [B], 0.5-1):
      the other clip's label, and how much of a view is the clip's own.
    """
    clips = tf.size(batch["label"])
    partner_seed, first_seed, second_seed = tf.unstack(tf.random.split(seed, 3))
    partners = tf.random.experimental.stateless_shuffle(tf.range(clips), partner_seed)
    first = tf.random.stateless_gamma([clips], first_seed, alpha)
    second = tf.random.stateless_gamma([clips], second_seed, alpha)
    total = first + second
    # Both gammas of a small alpha may vanish; the clip is then left as it is. The larger part is the clip's own.
    share = tf.where(total > 1e-30, tf.maximum(first, second) / tf.maximum(total, 1e-30), 1.0)

    def blend(frames):
        weights = tf.reshape(share, [-1] + [1] * (frames.shape.rank - 1))
        own, other = tf.cast(frames, tf.float32), tf.cast(tf.gather(frames, partners), tf.float32)
        return tf.cast(tf.round(weights * own + (1.0 - weights) * other), tf.uint8)

    blended = {view: blend(batch[view]) for view in _VIEWS if view in batch}
    return batch | blended | {"partner_label": tf.gather(batch["label"], partners), "share": share}
