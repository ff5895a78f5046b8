"""The dataset job: a listing of clips in, a dataset directory out."""

import collections
import dataclasses
import functools
import shlex

from apache_beam.io.filesystems import FileSystems

from pipeline import clips_to_records, job, outcome, shards, staging
from pipeline.beam_options import Execution
from pipeline.clips_to_records import ClipTask
from pipeline.outcome import BuildConfig, Listed
from pipeline.sources import checks, files, unlabeled
from pipeline.sources.clip import Listing
from stat_tf.data import info, record, sizes


def _set_aside_misnamed(listing: Listing, videos: str) -> tuple[Listing, list[dict]]:
    """Escapes the names that are not UTF-8, which no record can hold; also returns those clips as rejected."""
    clips, rejected = [], []
    for clip in listing.clips:
        if not files.is_utf8(clip.path):
            clip = dataclasses.replace(clip, path=files.shown(clip.path), file=files.shown(clip.file))
            rejected.append(clips_to_records.rejection(clip, videos, "its name is not UTF-8"))
        clips.append(clip)
    return dataclasses.replace(listing, clips=tuple(clips)), rejected


def build(listing: Listing, config: BuildConfig, execution: Execution) -> info.DatasetInfo | None:
    """Builds a dataset directory; it appears whole or not at all.

    The shards' bytes depend on the videos, the listing, `config.settings` and `config.num_shards`
    alone: not on the runner, the number of workers or the order of anything.

    Args:
      listing: The clips.
      config: How to build.
      execution: Where to run.

    Returns:
      The description, as written to the dataset's `dataset.json`; None where the job is but described, as a template,
      and finishes the dataset itself when it is run.

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
    counts = collections.Counter((clip.split, clip.label) for clip in listing.clips)
    listed = Listed(listing.classes, counts, bool(hashed), tuple(misnamed), tuple(warnings))
    run = functools.partial(
        job.run,
        *(tasks, list(by_shard)),
        execution=execution,
        videos=config.videos,
        settings=config.settings,
        num_shards=config.num_shards,
        clip_timeout=config.clip_timeout,
    )
    if execution.is_template:
        with staging.left_to_job(config.output) as place:
            run(place=place, finish=outcome.Finish(listed, config, place))
        return None
    with staging.directory(config.output) as place:
        return outcome.finish(listed, run(place=place), config, place)


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
