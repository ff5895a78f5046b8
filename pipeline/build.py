"""The dataset job: a listing of clips in, a dataset directory out."""

import collections
import dataclasses
import json
import operator
import os
import shlex

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipeline import clips_to_records, decoder, job, shards, staging
from pipeline.beam_options import Execution
from pipeline.clips_to_records import ClipTask, RecordSettings
from pipeline.job import Summary
from pipeline.sources import checks, files, unlabeled
from pipeline.sources.clip import Listing
from stat_tf import errors
from stat_tf.data import info, record, sizes


@dataclasses.dataclass(frozen=True)
class BuildConfig:
    """How to build.

    Attributes:
      videos: Directory that the clips' paths start from.
      output: The dataset directory to write.
      settings: What a record holds.
      num_shards: Shards a split; None for a number that suits the size.
      max_rejected: Largest fraction of the clips that may be left out, 0-1.
      fail_on_duplicates: Whether files of test that are in another split too fail the build, or are only reported.
      overwrite: Whether to replace a dataset that is there.
      clip_timeout: Seconds that reading a clip may take; see `decoder.Decoder`.
    """

    videos: str
    output: str
    settings: RecordSettings
    num_shards: int | None = None
    max_rejected: float = 0.05
    fail_on_duplicates: bool = True
    overwrite: bool = False
    clip_timeout: float = decoder.TIMEOUT


def _write_rejected(summary: Summary, path: str) -> None:
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as file:
        file.write("".join(json.dumps(clip, sort_keys=True) + "\n" for clip in summary.rejected).encode())


def _judge_duplicates(duplicates: list[dict[str, list[str]]], fail: bool) -> list[str]:
    """Decides about files that are in several splits; returns warnings.

    Raises:
      UserError: `fail`, and a file is in test and in what is trained on.
    """
    warnings = []
    leaks = [" = ".join(found["ids"]) for found in duplicates if "test" in found["splits"]]
    if leaks:
        message = f"Files of the same content in different splits: {checks.some(leaks)}."
        if fail:
            raise errors.UserError(f"{message} Take one out, or give --duplicates=warn to keep both.")
        warnings.append(message)
    harmless = [" = ".join(found["ids"]) for found in duplicates if "test" not in found["splits"]]
    if harmless:
        warnings.append(f"Files of the same content in train and unlabeled: {checks.some(harmless)}.")
    return warnings


def _judge(listing: Listing, summary: Summary, config: BuildConfig) -> list[str]:
    """Decides whether the dataset may be published; returns warnings.

    Raises:
      UserError: Too many clips were rejected, all of them, or a file is in test and in another split.
    """
    warnings = _judge_duplicates(summary.duplicates, config.fail_on_duplicates)
    count, num_clips = len(summary.rejected), summary.num_clips
    if count:
        reason, times = collections.Counter(clip["reason"] for clip in summary.rejected).most_common(1)[0]
        example = next(clip["id"] for clip in summary.rejected if clip["reason"] == reason)
        kind = "clips" if any(clip.clip_seconds for clip in listing.clips) else "videos"
        message = f"{count} of {num_clips} {kind} cannot be used, most often ({times}) because {reason}, as {example}"
        if count == num_clips or count > config.max_rejected * num_clips:
            listed = _failed_list(config.output)
            with staging.writing(listed):
                _write_rejected(summary, listed)
            raise errors.UserError(
                f"{message}; --max_rejected allows {config.max_rejected:.0%}. There is no dataset; {listed} lists them."
            )
        warnings.append(f"{message}.")
    return warnings


def _describe(listing: Listing, summary: Summary, config: BuildConfig, warnings: list[str]) -> info.DatasetInfo:
    rejected = {clip["id"] for clip in summary.rejected}
    settings = config.settings
    splits = [split for split in info.SPLITS if any(clip.split == split for clip in listing.clips)]
    stored = {
        split: tuple(info.Shard(**s) for s in summary.shards if s["name"].startswith(f"{split}-")) for split in splits
    }
    counts = {}
    for split in splits:
        if split == unlabeled.SPLIT:  # a video that was cut is many clips
            counts[split] = {"": sum(shard.num_clips for shard in stored[split])}
            if not counts[split][""]:
                warnings = [*warnings, f"None of the videos in {split} can be used."]
            continue
        kept = collections.Counter(c.label for c in listing.clips if c.split == split and c.path not in rejected)
        counts[split] = {name: kept[name] for name in listing.classes}
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
        shards=stored,
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
            file = os.fsencode(clip.file).decode(errors="backslashreplace")
            clip = dataclasses.replace(clip, path=escaped, file=file)
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
        too many clips cannot be used, or test holds a file of another split.
    """
    warnings = checks.check(listing)
    with staging.writing(config.output):
        staging.recover(config.output)
        staging.check_output(config.output, config.overwrite)
    listing, misnamed = _set_aside_misnamed(listing, config.videos)
    label_index = {name: index for index, name in enumerate(listing.classes)}
    aside = {fields["id"] for fields in misnamed}
    clips = [clip for clip in listing.clips if clip.path not in aside]
    hashed = {unlabeled.SPLIT} if any(clip.clip_seconds for clip in clips) else set()
    by_shard = shards.assign_shards(
        (clip for clip in clips if clip.split not in hashed), config.settings, config.num_shards
    )
    dealt = [(clip, shard) for shard, members in by_shard.items() for clip in members]
    dealt += [(clip, "") for clip in clips if clip.split in hashed]
    tasks = [ClipTask(clip, label_index.get(clip.label, record.UNLABELED), shard) for clip, shard in dealt]
    # Neighbours cost alike (long videos of one class, say): mix them, always in the same way.
    tasks.sort(key=lambda task: clips_to_records.noise_seed(task.clip.path).tolist())
    with staging.directory(config.output) as place:
        summary = job.run(
            *(tasks, list(by_shard), place, execution),
            videos=config.videos,
            settings=config.settings,
            num_shards=config.num_shards,
            clip_timeout=config.clip_timeout,
        )
        summary.rejected = sorted([*misnamed, *summary.rejected], key=operator.itemgetter("id"))
        warnings += _judge(listing, summary, config)
        description = _describe(listing, summary, config, warnings)
        finished = FileSystems.join(place, "dataset")
        with staging.writing(place):
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
        listed = FileSystems.join(output, info.REJECTED_NAME)
        lines.append(f"rejected: {description.num_rejected} clips, listed in {listed}")
    lr_sizes = ", ".join(map(sizes.text, description.lr_sizes))
    lines.append(f"stored: HR frames of {sizes.text(description.hr_size)}, LR frames of {lr_sizes}")
    if description.flow:
        lines.append(
            f"stored: their optical flow ({description.flow.method}, up to {description.flow.bound:g} HR pixels)"
        )
    data_dir = shlex.quote(output)
    if set(description.shards) != {unlabeled.SPLIT}:
        lines.append(f"The dataset is in {output}. To train a teacher from it:")
        lines.append(f"  python -m stat_tf.train --stage=teacher --data_dir={data_dir} --run_dir=RUN")
    else:
        lines.append(
            f"The dataset is in {output}. It has no labels; a teacher and a student need another to train from."
        )
    if unlabeled.SPLIT in description.shards:
        lines.append("To go on training a student with its teacher from the clips without labels:")
        lines.append(
            f"  python -m stat_tf.train --stage=unsupervised --data_dir={data_dir} --teacher_run=TEACHER "
            "--init_run=STUDENT --run_dir=RUN"
        )
    return "\n".join(lines)
