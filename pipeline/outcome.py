"""The end of a build: what its job found is judged, the dataset described and moved to its place."""

import collections
import dataclasses
import json
import operator
from collections.abc import Iterator, Mapping

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from pipeline import decoder, job, shards, staging
from pipeline.clips_to_records import CUT_SHORT, STRETCHED, RecordSettings
from pipeline.job import Summary
from pipeline.sources import checks, files, unlabeled
from stat_tf import errors
from stat_tf.data import info


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


@dataclasses.dataclass(frozen=True)
class Listed:
    """What the end of a build has to know of its listing: little, whatever the number of clips.

    Attributes:
      classes: Class names; a label index is a position here.
      counts: Clips by (split, label); a video that is cut counts once.
      cut: Whether any video is cut.
      misnamed: As of `clips_to_records.rejection`, clips that were set aside before the job.
      warnings: Of the listing.
    """

    classes: tuple[str, ...]
    counts: Mapping[tuple[str, str], int]
    cut: bool
    misnamed: tuple[dict[str, str], ...]
    warnings: tuple[str, ...]


def _write_rejected(summary: Summary, path: str) -> None:
    files.write(path, "".join(json.dumps(clip, sort_keys=True) + "\n" for clip in summary.rejected).encode())


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


def _most_often(rejected: list[dict[str, str]]) -> str:
    """The reason that most clips were rejected for, and the first of these, as the end of a sentence."""
    reason, times = collections.Counter(clip["reason"] for clip in rejected).most_common(1)[0]
    example = next(clip["id"] for clip in rejected if clip["reason"] == reason)
    because = f"because {reason}, as {example}"
    if times == len(rejected):
        return because
    return f"most often ({times}) {because}" if times > 1 else f"each for another reason, one {because}"


def _judge(listed: Listed, summary: Summary, config: BuildConfig) -> list[str]:
    """Decides whether the dataset may be published; returns warnings.

    Raises:
      UserError: Too many clips were rejected, all of them, or a file is in test and in another split.
    """
    warnings = _judge_duplicates(summary.duplicates, config.fail_on_duplicates)
    count, num_clips = len(summary.rejected), summary.num_clips
    if count:
        kind = "clips" if listed.cut else "videos"
        message = f"{count} of {num_clips} {kind} cannot be used, {_most_often(summary.rejected)}"
        if count == num_clips or count > config.max_rejected * num_clips:
            path = failed_list(config.output)
            with staging.writing(path):
                _write_rejected(summary, path)
            raise errors.UserError(
                f"{message}; --max_rejected allows {config.max_rejected:.0%}. There is no dataset; {path} lists them."
            )
        warnings.append(f"{message}.")
    said = _sayings(config.settings)
    warnings += [
        f"{number} of {num_clips} clips {said[kind]}, as {first}." for kind, number, first in sorted(summary.oddities)
    ]
    return warnings


def _sayings(s: RecordSettings) -> dict[str, str]:
    """What is to be said of clips with an oddity."""
    return {
        STRETCHED: f"have fewer than the {s.num_places} frames of --num_segments={s.num_segments} "
        f"times --num_frames={s.num_frames}, and repeat some",
        CUT_SHORT: "are of videos with less than nine tenths of the frames that they state, and may be cut short",
    }


def _describe(listed: Listed, summary: Summary, config: BuildConfig, warnings: list[str]) -> info.DatasetInfo:
    settings = config.settings
    rejected = collections.Counter((clip["split"], clip["label"]) for clip in summary.rejected)
    splits = [split for split in info.SPLITS if any(split == one for one, _ in listed.counts)]
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
        named = {label: count for (one, label), count in listed.counts.items() if one == split}
        kept = {label: count - rejected[split, label] for label, count in named.items()}
        counts[split] = {label: kept.get(label, 0) for label in listed.classes}
        emptied = [label for label in kept if not kept[label]]
        if emptied:
            warnings = [*warnings, f"Classes in {split} none of whose videos can be used: {checks.some(emptied)}."]
    return info.DatasetInfo(
        classes=listed.classes,
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
        num_rejected=len(summary.rejected),
        source_fingerprint=summary.fingerprint,
        warnings=tuple(warnings),
        flow=settings.flow,
    )


def failed_list(output: str) -> str:
    """Where the videos are listed for which a build failed; the next one that succeeds deletes it."""
    return f"{output.rstrip('/')}.{info.REJECTED_NAME}"


def _check_complete(listed: Listed, summary: Summary, config: BuildConfig) -> None:
    """Checks that every clip that was listed is stored or rejected, in the shards that there are to be.

    How many clips a split of videos that were cut has is known by the job alone.

    Raises:
      UserError: A shard or a clip is missing, or is there twice.
    """
    rejected = collections.Counter(clip["split"] for clip in summary.rejected)
    aside = collections.Counter(clip["split"] for clip in listed.misnamed)
    for split in {split for split, _ in listed.counts}:
        wanted = sum(count for (one, _), count in listed.counts.items() if one == split)
        found = [shard for shard in summary.shards if shard["name"].startswith(f"{split}-")]
        stored = sum(shard["num_clips"] for shard in found)
        if listed.cut and split == unlabeled.SPLIT:
            num_shards, complete = len(found), stored + rejected[split] >= wanted
        else:
            num_shards = shards.num_shards_of(wanted - aside[split], config.settings, config.num_shards)
            complete = stored + rejected[split] == wanted
        names = [shards.shard_name(split, index, num_shards) for index in range(num_shards)]
        if not complete or [shard["name"] for shard in found] != names:
            raise errors.UserError(
                f"Of {wanted} videos in {split}, the job has stored {stored} clips in {len(found)} of {num_shards} "
                f"files and rejected {rejected[split]}: something is lost or doubled. {config.output} is as it was: "
                "build again."
            )


def _lost(description: info.DatasetInfo, directory: str) -> str:
    """The first shard that is not in a directory with the size that it is to have; "" if all are."""
    sizes = files.sizes(directory)
    every = (shard for split in description.shards.values() for shard in split)
    return next((shard.name for shard in every if sizes.get(shard.name) != shard.num_bytes), "")


def _is_published(description: info.DatasetInfo, output: str) -> bool:
    path = FileSystems.join(output, info.FILE_NAME)
    if not files.exists(path):
        return False
    with files.opened(path) as file:
        return file.read() == description.to_json().encode() and not _lost(description, output)


def finish(
    listed: Listed, summary: Summary, config: BuildConfig, place: str, *, again: bool = False
) -> info.DatasetInfo:
    """Publishes what a job has built, if it is good enough.

    Args:
      listed: Of the listing.
      summary: What the job found out.
      config: How to build.
      place: The staging directory.
      again: Whether an earlier try may have done it, and a dataset of this description be all there is to do. Not so
        of a build that is to replace a dataset, which may have its reasons.

    Returns:
      The description, as written to the dataset's `dataset.json`.

    Raises:
      UserError: Too many clips cannot be used, test holds a file of another split, what the job wrote is not all
        there, or the output cannot be written or has been taken since.
    """
    rejected = sorted([*listed.misnamed, *summary.rejected], key=operator.itemgetter("id"))
    summary = dataclasses.replace(summary, rejected=rejected)
    _check_complete(listed, summary, config)
    warnings = [*listed.warnings, *_judge(listed, summary, config)]
    description = _describe(listed, summary, config, warnings)
    with staging.writing(config.output):
        if again and _is_published(description, config.output):
            return description
    finished = FileSystems.join(place, "dataset")
    with staging.writing(finished):
        if lost := _lost(description, finished):
            raise errors.UserError(
                f"{FileSystems.join(finished, lost)} is not as the job wrote it, or gone; {config.output} is as it "
                "was: build again."
            )
        _write_rejected(summary, FileSystems.join(finished, info.REJECTED_NAME))
        files.write(FileSystems.join(finished, info.FILE_NAME), description.to_json().encode())
        staging.check_output(config.output, config.overwrite)  # once more: the job may have taken days
    staging.publish(place, config.output)
    staging.delete_old(failed_list(config.output))
    return description


class Finish(beam.DoFn):
    """`finish` as a job's last step but the deletion, on a worker; a runner may try it again.

    Yields the staging directory, of which nothing is needed any more.
    """

    def __init__(self, listed: Listed, config: BuildConfig, place: str):
        """Creates the function; the arguments are those of `finish`."""
        self._listed = listed
        self._config = config
        self._place = place

    def process(self, summary_path: str) -> Iterator[str]:
        finish(self._listed, job.read_summary(self._place), self._config, self._place, again=True)
        yield self._place
