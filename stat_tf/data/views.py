"""From a record's images to the HR and the LR view of a clip: which snippets, which crop, which noise.

The one implementation, used by training and by the job that stores views and what a teacher sees in them.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf

from stat_tf.data import augment, degrade, record
from stat_tf.data import info as info_lib
from stat_tf.streams import CHANNELS

VIEWS = ("hr", "lr")


def image_prefixes(info: info_lib.DatasetInfo, stream: str, lr_size: Sequence[int]) -> dict[str, str]:
    """Where a record keeps a stream's HR and LR images."""
    suffix = record.FLOW_PREFIX if stream == "flow" else ""
    return {"hr": suffix, "lr": record.lr_prefix(tuple(lr_size), info.lr_sizes) + suffix}


def choose(frames: tf.Tensor, snippets: tf.Tensor, info: info_lib.DatasetInfo) -> tf.Tensor:
    """Picks one snippet a segment: any [K*S*T], snippet numbers [K] -> [K*T]."""
    by_segment = tf.reshape(frames, [info.num_segments, info.num_snippets, info.num_frames])
    return tf.reshape(tf.gather(by_segment, snippets, axis=1, batch_dims=1), [-1])


def to_clip(frames: tf.Tensor, info: info_lib.DatasetInfo) -> tf.Tensor:
    """[K*T, H, W, C] -> [K, T, H, W, C]."""
    return tf.reshape(frames, [info.num_segments, info.num_frames, *frames.shape[1:]])


def decode(encoded: tf.Tensor, size: Sequence[int], *, stream: str = "rgb", view: str = "lr") -> tf.Tensor:
    """Decodes string [N] to uint8 [N, *size, C]: RGB, of HR frames JPEG, of LR frames PNG; or flow, PNG."""
    decode_image = _decode_jpeg if stream == "rgb" and view == "hr" else _decode_png

    def decode_one(image):
        return tf.ensure_shape(decode_image(image), [*size, 3])

    decoded = tf.map_fn(decode_one, encoded, fn_output_signature=tf.TensorSpec([*size, 3], tf.uint8))
    return decoded[..., : CHANNELS[stream]]


def draw(
    info: info_lib.DatasetInfo,
    *,
    augmentation: augment.Augmentation,
    degradation: degrade.Degradation,
    stream: str = "rgb",
    views: Sequence[str] = VIEWS,
) -> Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]]:
    """How training looks at a clip.

    Args:
      info: The dataset's description.
      augmentation: How HR frames are cropped, moved, mirrored and recoloured.
      degradation: How the LR frames are made from them; of flow, only the LR size counts.
      stream: One of `streams.STREAMS`. LR flow is the stored one, cropped and mirrored as the HR flow is.
      views: Which of "hr" and "lr" are wanted; what is not is not computed.

    Returns:
      A function of a serialized record and an integer seed [2], the same for the same seed, to `id` (string),
      `label` (int64), `timestamps` (int64 [K*T]) and the views, uint8 [K, T, H, W, C].
    """
    prefixes = image_prefixes(info, stream, degradation.lr_size)
    view_sizes = {"hr": augmentation.crop_size, "lr": degradation.lr_size}
    stored_sizes = {"hr": info.hr_size, "lr": degradation.lr_size}

    def rgb_views(clip, snippets, view_seed, noise_seed):
        frames = decode(choose(clip["hr"], snippets, info), info.hr_size, view="hr")
        frames = augment.augment(frames, augmentation, view_seed)
        return {view: frames if view == "hr" else degrade.degrade(frames, degradation, noise_seed) for view in views}

    def flow_views(clip, snippets, view_seed, noise_seed):
        del noise_seed  # the stored LR flow has the noise of the frames it was computed from
        return {
            view: augment.augment_flow(
                decode(choose(clip[view], snippets, info), stored_sizes[view], stream="flow"),
                info.hr_size,
                view_sizes[view],
                augmentation,
                view_seed,
            )
            for view in views
        }

    make_views, stored_views = (flow_views, views) if stream == "flow" else (rgb_views, ("hr",))

    def look(serialized, seed):
        clip = record.parse(serialized, {view: prefixes[view] for view in stored_views})
        snippet_seed, view_seed, noise_seed = tf.unstack(tf.random.split(seed, 3))
        snippets = tf.random.stateless_uniform([info.num_segments], snippet_seed, 0, info.num_snippets, tf.int32)
        made = make_views(clip, snippets, view_seed, noise_seed)
        seen = {"id": clip["id"], "label": clip["label"], "timestamps": choose(clip["timestamps"], snippets, info)}
        return seen | {view: to_clip(made[view], info) for view in views}

    return look


def _decode_jpeg(image: tf.Tensor) -> tf.Tensor:
    # The default method, INTEGER_FAST, is off by a grey level on average: half as much as the sensor's
    # noise, and LR frames made in training would differ by it from the stored ones.
    return tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE")


def _decode_png(image: tf.Tensor) -> tf.Tensor:
    return tf.io.decode_png(image, channels=3)
