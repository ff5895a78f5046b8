"""A shard to what is known of each of its clips, and what is wrong with them. The work of the validation job."""

import dataclasses
import os
from collections.abc import Iterator

import apache_beam as beam
import cv2
import tensorflow as tf
from apache_beam.metrics import Metrics

from pipeline import progress, shard_files
from pipeline.validation import checks, measures, schema
from stat_tf import errors, stores
from stat_tf.data import info as info_lib
from stat_tf.data import record

Member = tuple[str, str, int, str]
"""A clip in the job's results: its id, its shard, the byte it starts at there, and a detail."""

FACTS = "facts"
PROBLEMS = "problems"
SHARDS = "shards"

_MISSING = "is missing"
# Around a record: its length and that number's checksum before, its own checksum after.
_HEADER_BYTES = 12
_FOOTER_BYTES = 4


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of one clip.

    Attributes:
      clip_id: Its id.
      split: The split it is in.
      label: Its class, "" in the split unlabeled; None where the record does not say.
      group: Its group, or "".
      path: Its video.
      place: Where it is stored.
      measures: What its frames are like; None where they do not all decode.
    """

    clip_id: str
    split: str
    label: str | None
    group: str
    path: str
    place: checks.Place
    measures: measures.Measures | None

    def member(self, detail: str = "") -> Member:
        """Names the clip and its place."""
        return self.clip_id, self.place.shard, self.place.offset, detail


class ReadShard(beam.DoFn):
    """Reads (split, `info.Shard`).

    Yields pairs: `FACTS` and `Facts`; `PROBLEMS` and ((check, split, reason), (id, shard, offset, detail)); `SHARDS`
    and a dict of `name`, `split`, `num_clips` (as declared), `num_read` and `problem` ("" for none).
    """

    def __init__(self, data_dir: str, info: info_lib.DatasetInfo, thresholds: checks.Thresholds, progress: str | None):
        """Creates the function.

        Args:
          data_dir: The dataset directory.
          info: Its description.
          thresholds: When a clip is blank or frozen.
          progress: As of `progress.directory`.
        """
        self._data_dir = data_dir
        self._info = info
        self._thresholds = thresholds
        self._progress = progress
        self._num_clips = Metrics.counter("validate_examples", "clips")

    def setup(self):
        # A worker is one core. The variables matter only to a TensorFlow that has not yet run anything.
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
        os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")
        cv2.setNumThreads(1)
        stores.connect(self._data_dir)
        self._records = schema.RecordChecker(self._info)
        self._images = measures.ImageChecker(self._info)

    def process(self, element: tuple[str, info_lib.Shard]) -> Iterator:
        split, shard = element
        path = os.path.join(self._data_dir, shard.name)
        problem, num_read, offset = _integrity_problem(path, shard), 0, 0
        try:
            for serialized in () if problem == _MISSING else tf.data.TFRecordDataset(path):
                yield from self._read(serialized.numpy(), split, shard.name, num_read, offset)
                offset += _HEADER_BYTES + len(serialized.numpy()) + _FOOTER_BYTES
                num_read += 1
                self._num_clips.inc()
                progress.report(self._progress, done=1)
        except (tf.errors.DataLossError, tf.errors.OutOfRangeError) as error:
            problem = problem or f"cannot be read on ({errors.brief(error)})"
        except tf.errors.OpError as error:
            raise shard_files.unreadable(path, error) from error
        names = ("name", "split", "num_clips", "num_read", "problem")
        yield SHARDS, dict(zip(names, (shard.name, split, shard.num_clips, num_read, problem), strict=True))

    def _read(self, serialized: bytes, split: str, shard: str, number: int, offset: int) -> Iterator[tuple]:
        example = schema.parse(serialized)
        if example is None:
            found, facts = [schema.Problem("schema", "the record is no SequenceExample")], None
        else:
            problems, measured = self._images.check(example)
            found = [*self._records.check(example, split), *problems, *self._oddities(measured)]
            facts = Facts(
                clip_id=schema.text_of(example, record.CLIP_ID),
                split=split,
                label=self._records.label(example, split),
                group=schema.text_of(example, record.CLIP_GROUP),
                path=schema.text_of(example, record.CLIP_PATH),
                place=checks.Place(shard, offset),
                measures=measured,
            )
            yield FACTS, facts
        name = facts.clip_id if facts and facts.clip_id else f"record {number} of {shard}"
        for problem in found:
            member = name, shard, offset, problem.detail
            yield PROBLEMS, ((problem.check, split, problem.reason), member)

    def _oddities(self, measured: measures.Measures | None) -> Iterator[schema.Problem]:
        if not measured:
            return
        if measured.largest_contrast < self._thresholds.min_contrast * measures.UNIT:
            contrast = measured.largest_contrast / measures.UNIT
            yield schema.Problem("blank", "no frame has any contrast", f"at most {contrast:.1f} grey levels")
        elif self._num_times > 1 and measured.motion < self._thresholds.min_motion * measures.UNIT:
            motion = measured.motion / measures.UNIT
            yield schema.Problem("frozen", "all frames are the same picture", f"changes of {motion:.1f} grey levels")

    @property
    def _num_times(self) -> int:
        return self._info.num_segments * self._info.num_snippets * self._info.num_frames


def _integrity_problem(path: str, shard: info_lib.Shard) -> str:
    """What is wrong with a shard as a file; "" for nothing."""
    found = shard_files.digest(path)
    if found is None:
        return _MISSING
    digest, num_bytes = found
    if num_bytes != shard.num_bytes:
        return f"has {num_bytes} bytes instead of {shard.num_bytes}"
    return "" if digest == shard.sha256 else f"has another checksum than {info_lib.FILE_NAME} states"
