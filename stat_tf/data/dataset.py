"""TFRecord shards to batches of HR and LR clips, of frames or of optical flow.

What an epoch holds is a pure function of the seed and the epoch: the order of shards and clips,
the snippets drawn, each clip's augmentation and noise. That is what makes runs repeatable and a
resumed run equal to one that was never stopped.
"""

import contextlib
import functools
import hashlib
import math
import os
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from stat_tf import errors, files, stores
from stat_tf.data import augment, degrade, record, shares, sizes
from stat_tf.data import info as info_lib
from stat_tf.data import views as views_lib

VIEWS = views_lib.VIEWS
# Memory for the shuffle buffer, which holds whole records.
_SHUFFLE_BYTES = 512 * 2**20


def steps_per_epoch(info: info_lib.DatasetInfo, splits: Sequence[str], batch_size: int) -> int:
    """Batches in an epoch of one split or several; the last, smaller one counts too."""
    return math.ceil(info.num_clips(*splits) / batch_size)


def check(
    data_dir: str,
    info: info_lib.DatasetInfo,
    split: str,
    *,
    num_segments: int,
    num_frames: int,
    lr_size: Sequence[int],
    stream: str = "rgb",
    labeled: bool = True,
    mend: str = "",
) -> None:
    """Checks, before anything trains, that a dataset is whole and fits what is asked of it.

    Args:
      data_dir: The dataset directory.
      info: Its description.
      split: The split that will be read.
      num_segments: K asked for.
      num_frames: T asked for.
      lr_size: (height, width) of the LR frames asked for.
      stream: One of `streams.STREAMS`.
      labeled: Whether every clip needs a label.
      mend: What to do where the split has no clips, a sentence.

    Raises:
      UserError: What does not fit, and how to mend it.
    """
    if not info.num_clips(split):
        present = ", ".join(name for name in info.shards if info.num_clips(name)) or "none"
        raise errors.UserError(f"{data_dir} has no clips in split {split!r}; its splits: {present}. {mend}".rstrip())
    if labeled and (unlabeled := info.counts[split].get("", 0)):
        raise errors.UserError(
            f"Split {split!r} of {data_dir} has {unlabeled} clips without a label, which this needs: "
            "build it with unlabelled clips in split unlabeled, and use that in stages unsupervised and stat alone."
        )
    for name, asked, stored in (
        ("--num_segments", num_segments, info.num_segments),
        ("--num_frames", num_frames, info.num_frames),
    ):
        if asked != stored:
            raise errors.UserError(
                f"{data_dir} was built with {name}={stored}, not {asked}: use {stored}, or build it again with {asked}."
            )
    if tuple(lr_size) not in info.lr_sizes:
        stored = " and ".join(map(sizes.text, info.lr_sizes))
        raise errors.UserError(
            f"{data_dir} holds LR frames of {stored}, not {sizes.text(lr_size)}: "
            f"use --lr_size={sizes.text(info.lr_sizes[0])}, or build it again with the size wanted."
        )
    if stream not in info.streams:
        raise errors.UserError(
            f"{data_dir} holds no optical flow: build it again with --streams=rgb,flow, or use --stream=rgb."
        )
    for shard in info.shards[split]:
        path = os.path.join(data_dir, shard.name)
        size = files.size(path)
        if size != shard.num_bytes:
            found = "is missing" if size is None else f"has {size} bytes instead of {shard.num_bytes}"
            raise errors.UserError(f"Shard {path} {found}: copy it anew or build the dataset again.")


# What a damaged or missing shard raises, then what a remote store does that refuses or does not answer.
_READ_ERRORS = (
    *(tf.errors.DataLossError, tf.errors.InvalidArgumentError, tf.errors.NotFoundError),
    *(tf.errors.PermissionDeniedError, tf.errors.UnavailableError, tf.errors.UnknownError),
    *(tf.errors.FailedPreconditionError, tf.errors.InternalError, tf.errors.DeadlineExceededError),
)


def _damaged_shards(data_dir: str, info: info_lib.DatasetInfo) -> Iterator[str]:
    for shards in info.shards.values():
        for shard in shards:
            path = os.path.join(data_dir, shard.name)
            digest = hashlib.sha256()
            stores.check(path)
            try:
                with tf.io.gfile.GFile(path, "rb") as file:
                    while chunk := file.read(2**20):
                        digest.update(chunk)
            except tf.errors.OpError:
                yield path
                continue
            if digest.hexdigest() != shard.sha256:
                yield path


@contextlib.contextmanager
def explain_read_errors(data_dir: str, info: info_lib.DatasetInfo) -> Iterator[None]:
    """Turns TensorFlow's read errors, which name no file, into a `UserError` that does.

    A remote store may also have ceased to answer, of which the checks below tell.

    Args:
      data_dir: The dataset directory.
      info: Its description, whose checksums tell which shard is damaged.

    Raises:
      UserError: A shard was damaged or removed. An error with another cause passes through.
    """
    try:
        yield
    except _READ_ERRORS as error:
        damaged = list(_damaged_shards(data_dir, info))
        if not damaged:
            raise
        raise errors.UserError(
            f"Shard {damaged[0]} is damaged: its checksum is not the one in {info_lib.FILE_NAME}. "
            "Copy it anew or build the dataset again."
        ) from error


def _shards(info: info_lib.DatasetInfo, splits: Sequence[str]) -> list[info_lib.Shard]:
    return [shard for split in splits for shard in info.shards[split]]


def _shard_paths(data_dir: str, info: info_lib.DatasetInfo, splits: Sequence[str]) -> list[str]:
    return [os.path.join(data_dir, shard.name) for shard in _shards(info, splits)]


def _shuffle_buffer(info: info_lib.DatasetInfo, splits: Sequence[str]) -> int:
    num_clips = info.num_clips(*splits)
    clip_bytes = sum(shard.num_bytes for shard in _shards(info, splits)) / num_clips
    return int(min(num_clips, max(1, _SHUFFLE_BYTES // clip_bytes)))


def training_dataset(
    data_dir: str,
    info: info_lib.DatasetInfo,
    splits: Sequence[str] = ("train",),
    *,
    batch_size: int,
    augmentation: augment.Augmentation,
    degradation: degrade.Degradation,
    seed: int,
    start_epoch: int = 0,
    start_batch: int = 0,
    num_epochs: int = 1,
    stream: str = "rgb",
    views: Sequence[str] = VIEWS,
    labeled: bool = True,
    share: shares.Share | None = None,
) -> tf.data.Dataset:
    """Shuffled, augmented batches of epochs `start_epoch` to `num_epochs - 1`, one after another.

    Args:
      data_dir: The dataset directory.
      info: Its description.
      splits: Which splits to read, mixed with one another.
      batch_size: Clips a batch, over all replicas; an epoch's last batch may be smaller.
      augmentation: How HR frames are cropped, moved, mirrored and recoloured.
      degradation: How the LR frames are made from them; of flow, only the LR size counts.
      seed: With the epoch, fixes all that is random.
      start_epoch: The first epoch, for a run that goes on.
      start_batch: How many of its batches are left out; their clips are read, but not decoded.
      num_epochs: The epoch before which to stop.
      stream: One of `streams.STREAMS`. LR flow is the stored one, cropped and mirrored as the HR flow is.
      views: Which of "hr" and "lr" the batches hold; what is not asked for is not computed.
      labeled: Whether to read labels; if not, every clip is as one without.
      share: This process's replicas, to each of which its part of every batch is dealt in turn; None for one
        device, to which all of it goes.

    Returns:
      Batches of `id` (string [B]), `label` (int64 [B], `record.UNLABELED` where there is none),
      `hr` (uint8 [B, K, T, *crop_size, C]) and `lr` (uint8 [B, K, T, *lr_size, C]), C = 3, or 2 for flow;
      with a share also `position` (int64 [B], in the global batch) and `weight` (float32 [B], as of `Share.deal`).
    """
    look = views_lib.draw(info, augmentation=augmentation, degradation=degradation, stream=stream, views=views)

    def load(serialized, seed):
        seen = look(serialized, seed)
        label = seen["label"] if labeled else tf.constant(record.UNLABELED, tf.int64)
        return {"id": seen["id"], "label": label} | {view: seen[view] for view in views}

    return epochs(
        data_dir,
        info,
        splits,
        load,
        batch_size=batch_size,
        seed=seed,
        start_epoch=start_epoch,
        start_batch=start_batch,
        num_epochs=num_epochs,
        share=share,
    )


def epochs(
    data_dir: str,
    info: info_lib.DatasetInfo,
    splits: Sequence[str],
    load: Callable[[tf.Tensor, tf.Tensor], dict[str, tf.Tensor]],
    *,
    batch_size: int,
    seed: int,
    start_epoch: int = 0,
    start_batch: int = 0,
    num_epochs: int = 1,
    share: shares.Share | None = None,
) -> tf.data.Dataset:
    """Shuffled batches of epochs, whatever is read of a record; the arguments are `training_dataset`'s.

    Args:
      data_dir: The dataset directory.
      info: Its description.
      splits: Which splits to read.
      load: From a serialized record and a seed, int64 [2], of its clip and epoch alone, to a clip.
      batch_size: Clips a batch.
      seed: With the epoch, fixes all that is random.
      start_epoch: The first epoch.
      start_batch: How many of its batches are left out.
      num_epochs: The epoch before which to stop.
      share: This process's replicas.
    """

    def load_at(epoch, position, serialized):
        clip_seed = tf.random.fold_in(tf.random.fold_in(tf.constant([seed, 0], tf.int64), epoch), position)
        return load(serialized, clip_seed)

    paths = tf.constant(_shard_paths(data_dir, info, splits))

    def one_epoch(epoch):
        order_seed = tf.stack([tf.constant(seed, tf.int64), epoch])
        files = tf.data.Dataset.from_tensor_slices(tf.random.experimental.stateless_shuffle(paths, order_seed))
        clips = files.interleave(tf.data.TFRecordDataset, cycle_length=min(16, paths.shape[0]))
        skipped = tf.where(epoch == start_epoch, tf.constant(start_batch, tf.int64), 0)
        clips = clips.shuffle(
            _shuffle_buffer(info, splits), seed=epoch + 1000003 * seed, reshuffle_each_iteration=False
        )
        # Counted before: what clips and batches look like depends on their position in the whole epoch.
        clips = clips.enumerate().skip(skipped * batch_size)
        load_clip = functools.partial(load_at, epoch)
        return _batches(clips, load_clip, info.num_clips(*splits), batch_size=batch_size, share=share)

    return _finish(tf.data.Dataset.range(start_epoch, num_epochs).flat_map(one_epoch))


def evaluation_dataset(
    data_dir: str,
    info: info_lib.DatasetInfo,
    split: str,
    *,
    batch_size: int,
    crop_size: Sequence[int],
    lr_size: Sequence[int],
    stream: str = "rgb",
    snippet: int | None = None,
    views: Sequence[str] = VIEWS,
    share: shares.Share | None = None,
) -> tf.data.Dataset:
    """Each clip once, in the shards' order: one snippet a segment, stored LR frames, whole HR frames.

    Args:
      data_dir: The dataset directory.
      info: Its description.
      split: Which split to read.
      batch_size: Clips a batch; the last may be smaller.
      crop_size: (height, width) to which the whole HR frame is resized.
      lr_size: (height, width) of the LR frames, one of the stored sizes.
      stream: One of `streams.STREAMS`.
      snippet: Which of each segment's S snippets, from 0; None for the centre one.
      views: Which of "hr" and "lr" the batches hold; what is not asked for is not decoded.
      share: As of `training_dataset`.

    Returns:
      Batches as of `training_dataset`.
    """
    prefixes = views_lib.image_prefixes(info, stream, lr_size)
    snippets = tf.fill([info.num_segments], info.num_snippets // 2 if snippet is None else snippet)

    def images(encoded, view):
        chosen = views_lib.choose(encoded, snippets, info)
        decoded = views_lib.decode(chosen, info.hr_size if view == "hr" else lr_size, stream=stream, view=view)
        if view == "hr" and tuple(crop_size) != tuple(info.hr_size):
            resized = tf.image.resize(decoded, crop_size, antialias=True)
            decoded = tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)
        return views_lib.to_clip(decoded, info)

    def load(position, serialized):
        del position  # nothing is random here
        clip = record.parse(serialized, {view: prefixes[view] for view in views}, times=prefixes[views[0]])
        return {"id": clip["id"], "label": clip["label"]} | {view: images(clip[view], view) for view in views}

    clips = tf.data.TFRecordDataset(_shard_paths(data_dir, info, (split,))).enumerate()
    return _finish(_batches(clips, load, info.num_clips(split), batch_size=batch_size, share=share))


def _batches(
    clips: tf.data.Dataset, load: Callable, num_clips: int, *, batch_size: int, share: shares.Share | None
) -> tf.data.Dataset:
    """Loads and batches an epoch of (position in the epoch, serialized record)."""
    if share is None:
        return clips.map(load, tf.data.AUTOTUNE).batch(batch_size)

    def load_with_position(position, serialized):
        return load(position, serialized) | {"position": position % batch_size}

    chosen = share.choose(clips, num_clips, batch_size)
    return share.deal(chosen.map(load_with_position, tf.data.AUTOTUNE), batch_size)


def _finish(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    return dataset.with_options(options).prefetch(tf.data.AUTOTUNE)
