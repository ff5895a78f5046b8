"""The dataset job: a listing of clips in, a dataset directory out."""

import collections
import dataclasses
import json
import operator
import os
import shlex
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipeline import clips_to_records, progress, shards, staging
from pipeline.beam_options import Execution
from pipeline.clips_to_records import ClipTask, RecordSettings
from pipeline.sources import checks, files
from pipeline.sources.clip import Listing
from stat_tf import errors
from stat_tf.data import info, record, sizes

_SUMMARY = "summary.jsonl"


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """How to build.

    Attributes:
      videos: Directory that the clips' paths start from.
      output: The dataset directory to write.
      settings: What a record holds.
      num_shards: Shards a split; None for a number that suits the size.
      max_rejected: Largest fraction of the clips that may be left out, 0-1.
      fail_on_duplicates: Whether equal files in two splits fail the build, or are only reported.
      overwrite: Whether to replace a dataset that is there.
    """

    videos: str
    output: str
    settings: RecordSettings
    num_shards: int | None = None
    max_rejected: float = 0.05
    fail_on_duplicates: bool = True
    overwrite: bool = False


@dataclasses.dataclass
class _Summary:
    """What the job found out, read back from its one small file."""

    shards: list[dict] = dataclasses.field(default_factory=list)
    rejected: list[dict] = dataclasses.field(default_factory=list)
    duplicates: list[list[str]] = dataclasses.field(default_factory=list)
    fingerprint: str = ""


class _WriteSummary(beam.DoFn):
    def __init__(self, path: str):
        self._path = path

    def process(self, element: tuple[None, Iterable[tuple[str, object]]]):
        lines = sorted(json.dumps(entry, sort_keys=True) for entry in element[1])
        with FileSystems.create(self._path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
            file.write("".join(line + "\n" for line in lines).encode())


def _digest_sum(digests: Iterable[str]) -> str:
    """One digest for many, whatever their order."""
    return f"{sum(int(digest, 16) for digest in digests) % (1 << 256):064x}"


def _across_splits(element: tuple[str, Iterable[tuple[str, str]]]) -> list[list[str]]:
    members = sorted(element[1])
    return [[path for _, path in members]] if len({split for split, _ in members}) > 1 else []


def _run(tasks: list[ClipTask], shard_names: list[str], config: BuildConfig, place: str, execution: Execution) -> None:
    """Runs the pipeline: clips -> records -> shards, and what was found on the way -> the summary."""
    count = progress.directory(place, execution.is_local)
    convert = clips_to_records.ClipToRecord(config.settings, config.videos, FileSystems.join(place, "clips"), count)
    write = shards.WriteShard(FileSystems.join(place, "shards"), FileSystems.join(place, "dataset"))
    with progress.shown(count, len(tasks)), beam.Pipeline(execution.runner, execution.options) as pipeline:
        read = (
            pipeline
            | "Clips" >> beam.Create(tasks)
            | "Spread" >> beam.Reshuffle()
            | "ClipToRecord"
            >> beam.ParDo(convert).with_outputs(
                clips_to_records.REJECTED,
                clips_to_records.CONTENTS,
                clips_to_records.FINGERPRINTS,
                main="records",
            )
        )
        # A shard all of whose clips are rejected is written too, empty.
        every_shard = pipeline | "ShardNames" >> beam.Create([(name, None) for name in shard_names])
        written = (
            (read.records, every_shard)
            | "WithEmptyShards" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "OnlyRecords" >> beam.MapTuple(lambda name, staged: (name, [one for one in staged if one]))
            | "WriteShards" >> beam.ParDo(write)
        )
        duplicates = read[clips_to_records.CONTENTS] | "ByContent" >> beam.GroupByKey() | beam.FlatMap(_across_splits)
        fingerprint = read[clips_to_records.FINGERPRINTS] | "Fingerprint" >> beam.CombineGlobally(_digest_sum)
        _ = (
            (
                written | "Shards" >> beam.Map(lambda shard: ("shards", dataclasses.asdict(shard))),
                read[clips_to_records.REJECTED] | "Rejected" >> beam.Map(lambda fields: ("rejected", fields)),
                duplicates | "Duplicates" >> beam.Map(lambda ids: ("duplicates", ids)),
                fingerprint | "OneFingerprint" >> beam.Map(lambda digest: ("fingerprint", digest)),
            )
            | "Found" >> beam.Flatten()
            | "Together" >> beam.Map(lambda entry: (None, entry))
            | "OneSummary" >> beam.GroupByKey()
            | "WriteSummary" >> beam.ParDo(_WriteSummary(FileSystems.join(place, _SUMMARY)))
        )


def _read_summary(place: str) -> _Summary:
    summary = _Summary()
    with FileSystems.open(FileSystems.join(place, _SUMMARY)) as file:
        for line in file.read().decode().splitlines():
            kind, value = json.loads(line)
            if kind == "fingerprint":
                summary.fingerprint = value
            else:
                getattr(summary, kind).append(value)
    summary.shards.sort(key=operator.itemgetter("name"))
    return summary


def _write_rejected(summary: _Summary, path: str) -> None:
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write("".join(json.dumps(clip, sort_keys=True) + "\n" for clip in summary.rejected).encode())


def _judge(summary: _Summary, num_clips: int, config: BuildConfig) -> list[str]:
    """Decides whether the dataset may be published; returns warnings.

    Raises:
      UserError: Too many clips were rejected, all of them, or a file is in two splits.
    """
    warnings = []
    if summary.duplicates:
        equal = [" = ".join(ids) for ids in summary.duplicates]
        message = f"Files of the same content in different splits: {checks.some(equal)}."
        if config.fail_on_duplicates:
            raise errors.UserError(f"{message} Take one out, or give --duplicates=warn to keep both.")
        warnings.append(message)
    count = len(summary.rejected)
    if count:
        reason, times = collections.Counter(clip["reason"] for clip in summary.rejected).most_common(1)[0]
        example = next(clip["id"] for clip in summary.rejected if clip["reason"] == reason)
        message = f"{count} of {num_clips} videos cannot be used, most often ({times}) because {reason}, as {example}"
        if count == num_clips or count > config.max_rejected * num_clips:
            listed = _failed_list(config.output)
            _write_rejected(summary, listed)
            raise errors.UserError(
                f"{message}; --max_rejected allows {config.max_rejected:.0%}. There is no dataset; {listed} lists them."
            )
        warnings.append(f"{message}.")
    return warnings


def _describe(listing: Listing, summary: _Summary, config: BuildConfig, warnings: list[str]) -> info.DatasetInfo:
    rejected = {clip["id"] for clip in summary.rejected}
    settings = config.settings
    splits = [split for split in info.SPLITS if any(clip.split == split for clip in listing.clips)]
    counts = {}
    for split in splits:
        kept = collections.Counter(c.label for c in listing.clips if c.split == split and c.path not in rejected)
        counts[split] = {name: kept[name] for name in (listing.classes if split != "unlabeled" else ("",))}
        listed = {clip.label for clip in listing.clips if clip.split == split}
        emptied = [name for name in listed if not kept[name]]
        if emptied:
            warnings = [*warnings, f"Classes in {split} none of whose videos can be used: {checks.some(emptied)}."]
    return info.DatasetInfo(
        classes=listing.classes,
        num_segments=settings.num_segments,
        num_snippets=settings.num_snippets,
        num_frames=settings.num_frames,
        frame_stride=settings.frame_stride,
        hr_size=settings.hr_size,
        lr_sizes=settings.lr_sizes,
        lens_blur=settings.lens_blur,
        noise=settings.noise,
        shards={
            split: tuple(info.Shard(**s) for s in summary.shards if s["name"].startswith(f"{split}-"))
            for split in splits
        },
        counts=counts,
        num_rejected=len(rejected),
        source_fingerprint=summary.fingerprint,
        warnings=tuple(warnings),
        flow=settings.flow,
    )


def _set_aside_misnamed(listing: Listing, videos: str) -> tuple[Listing, list[dict]]:
    """Escapes the names that are not UTF-8, which no record can hold; also returns those clips as rejected."""
    clips, rejected = [], []
    for clip in listing.clips:
        if not files.is_utf8(clip.path):
            escaped = os.fsencode(clip.path).decode(errors="backslashreplace")
            clip = dataclasses.replace(clip, path=escaped)
            rejected.append(clips_to_records.rejection(clip, videos, "its name is not UTF-8"))
        clips.append(clip)
    return dataclasses.replace(listing, clips=tuple(clips)), rejected


def build(listing: Listing, config: BuildConfig, execution: Execution) -> info.DatasetInfo:
    """Builds a dataset directory; it appears whole or not at all.

    The shards' bytes depend on the videos, the listing, `config.settings` and `config.num_shards`
    alone: not on the runner, the number of workers or the order of anything.

    Args:
      listing: The clips.
      config: How to build.
      execution: Where to run.

    Returns:
      The description, as written to the dataset's `dataset.json`.

    Raises:
      UserError: The listing is wrong (see `checks.check`), the output is taken or cannot be written,
        too many videos cannot be used, or two splits hold the same file.
    """
    warnings = checks.check(listing)
    staging.recover(config.output)
    staging.check_output(config.output, config.overwrite)
    listing, misnamed = _set_aside_misnamed(listing, config.videos)
    label_index = {name: index for index, name in enumerate(listing.classes)}
    aside = {fields["id"] for fields in misnamed}
    clips = [clip for clip in listing.clips if clip.path not in aside]
    by_shard = shards.assign_shards(clips, config.settings, config.num_shards)
    tasks = [
        ClipTask(clip, label_index.get(clip.label, record.UNLABELED), shard)
        for shard, members in by_shard.items()
        for clip in members
    ]
    # Neighbours cost alike (long videos of one class, say): mix them, always in the same way.
    tasks.sort(key=lambda task: clips_to_records.noise_seed(task.clip.path).tolist())
    with staging.directory(config.output) as place:
        _run(tasks, list(by_shard), config, place, execution)
        summary = _read_summary(place)
        summary.rejected = sorted([*misnamed, *summary.rejected], key=operator.itemgetter("id"))
        warnings += _judge(summary, len(listing.clips), config)
        description = _describe(listing, summary, config, warnings)
        finished = FileSystems.join(place, "dataset")
        _write_rejected(summary, FileSystems.join(finished, info.REJECTED_NAME))
        with FileSystems.create(FileSystems.join(finished, info.FILE_NAME)) as file:
            file.write(description.to_json().encode())
        staging.publish(place, config.output)
    staging.delete_file(_failed_list(config.output))
    return description


def _failed_list(output: str) -> str:
    """Where the videos are listed for which a build failed; the next one that succeeds deletes it."""
    return f"{output.rstrip('/')}.{info.REJECTED_NAME}"


def report(description: info.DatasetInfo, output: str) -> str:
    """What a user wants to know when a build has ended."""
    lines = [f"warning: {warning}" for warning in description.warnings]
    for split in description.shards:
        lines.append(f"{split}: {description.num_clips(split)} clips in {len(description.shards[split])} files")
    if description.num_rejected:
        lines.append(
            f"rejected: {description.num_rejected} videos, listed in {FileSystems.join(output, info.REJECTED_NAME)}"
        )
    lr_sizes = ", ".join(map(sizes.text, description.lr_sizes))
    lines.append(f"stored: HR frames of {sizes.text(description.hr_size)}, LR frames of {lr_sizes}")
    if description.flow:
        lines.append(
            f"stored: their optical flow ({description.flow.method}, up to {description.flow.bound:g} HR pixels)"
        )
    lines.append(f"The dataset is in {output}. To train a teacher from it:")
    lines.append(f"  python -m stat_tf.train --stage=teacher --data_dir={shlex.quote(output)} --run_dir=RUN")
    return "\n".join(lines)
