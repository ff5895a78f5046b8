"""Records to TFRecord shards whose bytes depend on the records alone."""

import collections
import contextlib
import hashlib
import math
import tempfile
import uuid
from collections.abc import Iterable

import apache_beam as beam
import tensorflow as tf
from apache_beam.io.filesystems import FileSystems

from pipeline import staging
from pipeline.clips_to_records import RecordSettings, StagedRecord
from pipeline.sources import files as source_files
from pipeline.sources.clip import Clip
from stat_tf import errors, files
from stat_tf.data import info

_SHARD_BYTES = 150e6  # large enough to stream well, small enough to spread
_FEWEST_SHARDS = 4  # for a few readers to share
# Of a typical frame at JPEG quality 95, and of PNG on noise.
_HR_BYTES_PER_PIXEL = 0.5
_LR_BYTES_PER_PIXEL = 3.0
# Of PNG on flow, which is smooth; on LR, the noise makes it less so.
_HR_FLOW_BYTES_PER_PIXEL = 0.3
_LR_FLOW_BYTES_PER_PIXEL = 1.5


def _order(clip_id: str) -> bytes:
    """Sorts clips at random, but always alike: ids themselves would put classes side by side."""
    return hashlib.sha256(clip_id.encode()).digest()


def estimate_num_shards(num_clips: int, settings: RecordSettings) -> int:
    """How many shards to cut a split into, from its size as the settings let expect it."""
    hr_pixels, lr_pixels = math.prod(settings.hr_size), sum(map(math.prod, settings.lr_sizes))
    frame_bytes = hr_pixels * _HR_BYTES_PER_PIXEL + lr_pixels * _LR_BYTES_PER_PIXEL
    if settings.flow:
        frame_bytes += hr_pixels * _HR_FLOW_BYTES_PER_PIXEL + lr_pixels * _LR_FLOW_BYTES_PER_PIXEL
    clip_bytes = settings.num_segments * settings.num_snippets * settings.num_frames * frame_bytes
    return max(min(_FEWEST_SHARDS, num_clips), math.ceil(num_clips * clip_bytes / _SHARD_BYTES))


def num_shards_of(num_clips: int, settings: RecordSettings, num_shards: int | None) -> int:
    """Shards of a split: as many as asked for, but no more than it has clips; None for a number that suits the size."""
    return min(num_shards or estimate_num_shards(num_clips, settings), num_clips)


def shard_name(split: str, index: int, count: int) -> str:
    """The file name of one of `count` shards of a split."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord"


def hashed_shard(clip_id: str, split: str, count: int) -> str:
    """The shard of a clip of which nobody knows the rank among all: by the hash alone, so that shards are uneven."""
    return shard_name(split, int.from_bytes(_order(clip_id)[-8:]) % count, count)


def assign_shards(clips: Iterable[Clip], settings: RecordSettings, num_shards: int | None) -> dict[str, list[Clip]]:
    """Deals the clips of each split out to its shards, by the hash of their ids.

    Args:
      clips: All clips.
      settings: What a record holds; for the size.
      num_shards: Shards a split (no more than it has clips); None for a number that suits the size.

    Returns:
      Clips by shard file name. The clips' order does not matter.
    """
    by_split = collections.defaultdict(list)
    for clip in clips:
        by_split[clip.split].append(clip)
    shards = {}
    for split in info.SPLITS:
        members = sorted(by_split[split], key=lambda clip: _order(clip.path))
        count = num_shards_of(len(members), settings, num_shards)
        for index in range(count):
            # Ranks of hashes, not hashes themselves, so that shards differ by one clip at most.
            shards[shard_name(split, index, count)] = members[index::count]
    return shards


class WriteShard(beam.DoFn):
    """Writes (shard, [`StagedRecord`, ...]) in order of the ids' hashes; yields the shard's `info.Shard`."""

    def __init__(self, staging: str, destination: str):
        """Creates the function.

        Args:
          staging: Directory for unfinished shards.
          destination: Directory that a shard is moved to when it is whole.
        """
        self._staging = staging
        self._destination = destination

    def process(self, element: tuple[str, Iterable[StagedRecord]]) -> Iterable[info.Shard]:
        name, records = element
        # A runner may run this twice at once.
        unfinished = FileSystems.join(self._staging, f"{name}-{uuid.uuid4().hex}")
        with staging.writing(self._staging), contextlib.ExitStack() as stack:
            local = unfinished
            if files.is_remote(unfinished):  # TensorFlow may know nothing of the store that Beam writes to
                local = stack.enter_context(tempfile.NamedTemporaryFile()).name
            num_clips = _write_records(local, records)
            file = stack.enter_context(open(local, "rb"))
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            num_bytes = file.tell()
            if local != unfinished and not num_bytes:
                source_files.write(unfinished, b"")
            elif local != unfinished:
                file.seek(0)
                source_files.upload(file, unfinished)
            source_files.move(unfinished, FileSystems.join(self._destination, name))
        yield info.Shard(name, num_clips, num_bytes, digest)


def _write_records(path: str, records: Iterable[StagedRecord]) -> int:
    """Writes staged records to a local TFRecord file in the order of their ids' hashes; returns their number."""
    num_clips = 0
    try:
        with tf.io.TFRecordWriter(path) as writer:
            for staged in sorted(records, key=lambda staged: _order(staged.clip_id)):
                with source_files.opened(staged.path) as file:
                    writer.write(file.read())
                num_clips += 1
    except tf.errors.OpError as error:
        raise OSError(errors.brief(error).rpartition("; ")[2]) from error
    return num_clips
