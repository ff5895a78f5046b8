"""The Beam job of a build: clips in; shards, and a summary of what was found on the way, out."""

import dataclasses
import operator
from collections.abc import Callable, Iterable

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from pipeline import clips_to_records, cut_videos, failures, progress, shards, staging, task_files
from pipeline import summary as summary_lib
from pipeline.beam_options import Execution, running
from pipeline.clips_to_records import ClipTask, RecordSettings
from pipeline.sources import unlabeled


@dataclasses.dataclass
class Summary:
    """What the job found out, read back from its one small file: shards by name, the rest in no order."""

    shards: list[dict] = dataclasses.field(default_factory=list)
    rejected: list[dict] = dataclasses.field(default_factory=list)
    duplicates: list[dict[str, list[str]]] = dataclasses.field(default_factory=list)
    fingerprint: str = ""
    oddities: list[tuple[str, int, str]] = dataclasses.field(default_factory=list)  # kind, clips, the first one's id

    @property
    def num_clips(self) -> int:
        """Clips that were found, be they stored or rejected."""
        return sum(shard["num_clips"] for shard in self.shards) + len(self.rejected)


def _digest_sum(digests: Iterable[str]) -> str:
    """One digest for many, whatever their order."""
    return f"{sum(int(digest, 16) for digest in digests) % (1 << 256):064x}"


def _number_and_first(found: Iterable[tuple[int, str]]) -> tuple[int, str]:
    """Of clips, or of some at a time: how many, and the first one's id."""
    numbers, ids = zip(*found, strict=True)
    return sum(numbers), min(ids)


def _across_splits(element: tuple[str, Iterable[tuple[str, str]]]) -> list[dict[str, list[str]]]:
    members = sorted(element[1])
    splits = sorted({split for split, _ in members})
    return [{"splits": splits, "ids": [path for _, path in members]}] if len(splits) > 1 else []


@dataclasses.dataclass(frozen=True)
class _Read:
    """What the videos gave, as `clips_to_records` yields it by kind."""

    records: beam.PCollection
    rejected: beam.PCollection
    contents: beam.PCollection
    fingerprints: beam.PCollection
    oddities: beam.PCollection
    every_shard: beam.PCollection


_FOUND = (clips_to_records.REJECTED, clips_to_records.CONTENTS, clips_to_records.FINGERPRINTS)


def _divide(found: beam.PCollection, step: str, *kinds: str) -> list[beam.PCollection]:
    """Divides the (kind, value) pairs that a step yields; Beam's own tagged outputs all become one on Dask."""
    return [
        found | f"{step} {kind}" >> beam.FlatMap(lambda pair, kind=kind: [pair[1]] if pair[0] == kind else [])
        for kind in kinds
    ]


def _read_whole(tasks: beam.PCollection, convert: beam.DoFn, every_shard: beam.PCollection) -> _Read:
    """Reads clips, each a video of its own."""
    found = tasks | "ClipToRecord" >> beam.ParDo(convert)
    return _Read(*_divide(found, "Clip", clips_to_records.RECORDS, *_FOUND, clips_to_records.ODDITIES), every_shard)


def _read_cut(
    tasks: beam.PCollection,
    long: beam.PCollection,
    convert: beam.DoFn,
    cut: beam.DoFn,
    every_shard: beam.PCollection,
    num_shards: Callable[[int], int],
) -> _Read:
    """Reads clips, some of them long videos that are cut first.

    How many clips those make is known only then, so that their split is spread over its shards here.

    Args:
      tasks: The clips that are videos of their own.
      long: The videos to cut, all of the split unlabeled.
      convert: Clips to records.
      cut: Long videos to runs of clips.
      every_shard: (name, None) of the other splits' shards.
      num_shards: How many shards the split has, given how many clips the videos make.
    """
    split = unlabeled.SPLIT
    found = long | "CutVideo" >> beam.ParDo(cut)
    runs, rejected, contents, fingerprints = _divide(found, "Cut", cut_videos.RUNS, *_FOUND)
    count = (
        runs
        | "PartsOfRun" >> beam.Map(lambda task: len(task.run.parts))
        | "NumParts" >> beam.CombineGlobally(sum)
        | "NumShards" >> beam.Map(num_shards)
    )
    # The runs of one video would stay together, and one worker with them, without another shuffle.
    tasks = (tasks, runs | "SpreadRuns" >> beam.Reshuffle()) | "WithRuns" >> beam.Flatten()
    read = _read_whole(tasks, convert, every_shard)
    records = read.records | "HashToShard" >> beam.Map(
        lambda named, count: (named[0] or shards.hashed_shard(named[1].clip_id, split, count), named[1]),
        count=beam.pvalue.AsSingleton(count),
    )
    names = count | "UnlabeledShards" >> beam.FlatMap(
        lambda count: [(shards.shard_name(split, index, count), None) for index in range(count)]
    )
    merged = {
        "rejected": (read.rejected, rejected),
        "contents": (read.contents, contents),
        "fingerprints": (read.fingerprints, fingerprints),
        "every_shard": (every_shard, names),
    }
    merged = {name: both | f"All {name}" >> beam.Flatten() for name, both in merged.items()}
    return _Read(records, oddities=read.oddities, **merged)


def read_summary(place: str) -> Summary:
    """Reads what a finished job found out from its staging directory.

    Raises:
      UserError: The job has written nothing there.
    """
    summary = Summary()
    for kind, value in summary_lib.read(place):
        if kind == "fingerprint":
            summary.fingerprint = value
        else:
            getattr(summary, kind).append(value)
    summary.shards.sort(key=operator.itemgetter("name"))
    return summary


def _delete(place: str) -> None:
    summary_lib.delete(place)  # first: nobody is to take for a finished job what a deletion has left
    staging.delete(place)


def run(
    tasks: list[ClipTask],
    shard_names: list[str],
    place: str,
    execution: Execution,
    *,
    videos: str,
    settings: RecordSettings,
    num_shards: int | None,
    clip_timeout: float,
    finish: beam.DoFn | None = None,
) -> Summary | None:
    """Runs the pipeline: clips -> records -> shards, and what was found on the way -> the summary.

    Args:
      tasks: The clips, and the long videos to cut.
      shard_names: The shards that the tasks name.
      place: The staging directory; finished shards go to its folder "dataset".
      execution: Where to run.
      videos: Directory that the clips' paths start from.
      settings: What a record holds.
      num_shards: Shards of a split of which videos are cut; None for a number that suits the size.
      clip_timeout: Seconds that reading a clip may take.
      finish: What the job is to do last, on a worker, with the summary's path; yields the staging directory, which is
        deleted then. None to leave all that to the caller.

    Returns:
      What was found; None with `finish`, when the job may still have to run.

    Raises:
      UserError: The disk is full, a worker process died, or the job has ended without a result.
    """
    count = progress.directory(place, execution.is_local)
    convert = clips_to_records.ClipToRecord(settings, videos, FileSystems.join(place, "clips"), count, clip_timeout)
    write = shards.WriteShard(FileSystems.join(place, "shards"), FileSystems.join(place, "dataset"))
    long = [task for task in tasks if task.clip.clip_seconds]
    whole = [task for task in tasks if not task.clip.clip_seconds]
    with staging.writing(place):
        whole_files, long_files = (
            task_files.write(some, FileSystems.join(place, "tasks"), name)
            for some, name in ((whole, "clips"), (long, "videos"))
        )
    with (
        failures.explained(),
        progress.shown(count, len(tasks)),
        running(execution, ends_itself=bool(finish)) as pipeline,
    ):
        clips = task_files.read(pipeline, whole_files, "Clips")
        # A shard all of whose clips are rejected is written too, empty.
        every_shard = pipeline | "ShardNames" >> beam.Create([(name, None) for name in shard_names])
        if long:
            cut = cut_videos.CutVideo(videos, count, clip_timeout)
            num_whole = sum(not task.shard for task in whole)
            read = _read_cut(
                *(clips, task_files.read(pipeline, long_files, "LongVideos"), convert, cut, every_shard),
                lambda parts: shards.num_shards_of(parts + num_whole, settings, num_shards),
            )
        else:
            read = _read_whole(clips, convert, every_shard)
        written = (
            (read.records, read.every_shard)
            | "WithEmptyShards" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "OnlyRecords" >> beam.MapTuple(lambda name, staged: (name, [one for one in staged if one]))
            | "WriteShards" >> beam.ParDo(write)
        )
        duplicates = read.contents | "ByContent" >> beam.GroupByKey() | beam.FlatMap(_across_splits)
        fingerprint = read.fingerprints | "Fingerprint" >> beam.CombineGlobally(_digest_sum)
        oddities = read.oddities | "NumOddities" >> beam.CombinePerKey(_number_and_first)
        summary = summary_lib.write(
            (
                written | "Shards" >> beam.Map(lambda shard: ("shards", dataclasses.asdict(shard))),
                read.rejected | "Rejected" >> beam.Map(lambda fields: ("rejected", fields)),
                duplicates | "Duplicates" >> beam.Map(lambda found: ("duplicates", found)),
                fingerprint | "OneFingerprint" >> beam.Map(lambda digest: ("fingerprint", digest)),
                oddities | "Oddities" >> beam.MapTuple(lambda kind, found: ("oddities", (kind, *found))),
            ),
            place,
        )
        if finish:
            # Fused, a second try of one of these steps would be one of those before it too, after what it has deleted.
            _ = (
                summary
                | "SummaryIsWritten" >> beam.Reshuffle()
                | "Finish" >> beam.ParDo(finish)
                | "IsFinished" >> beam.Reshuffle()
                | "DeleteStaging" >> beam.Map(_delete)
            )
    return None if finish else read_summary(place)
