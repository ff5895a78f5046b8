"""The signals job: a dataset and its teacher in, a directory of LR frames and teacher signals out."""

import dataclasses
import operator
import os
import shlex

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems
from apache_beam.ml.inference import base as inference

from pipeline import failures, progress, shards, signal_records, staging, summary
from pipeline.beam_options import Execution, running
from pipeline.signal_records import FAULT, RECORD, RUN, SourceShard
from pipeline.signals_plan import OF_FRAMES, Plan
from pipeline.sources import files
from stat_tf import errors
from stat_tf import signals as signals_lib
from stat_tf.data import info, sizes


def store(plan: Plan, execution: Execution) -> info.DatasetInfo:
    """Runs the job; the directory appears whole or not at all.

    The shards' bytes depend on the dataset's shards, the teacher and the plan alone, given processors of one kind:
    not on the runner, the number of workers or the order of anything.

    Args:
      plan: What to do.
      execution: Where to run.

    Returns:
      The description, as written to the directory's `dataset.json`.

    Raises:
      UserError: The job is a template, a shard of the dataset is damaged, the teacher's outputs are no numbers, or the
        output cannot be written.
    """
    output = plan.config.output
    with staging.directory(output) as place:
        _run(plan, place, execution)
        found = summary.read(place)
        if faults := [sentence for kind, sentence in found if kind == FAULT]:
            raise errors.UserError(f"{faults[0]} Nothing is written to {output}.")
        written = sorted((info.Shard(**shard) for _, shard in found), key=operator.attrgetter("name"))
        stored = {split: tuple(s for s in written if s.name.startswith(f"{split}-")) for split in plan.splits}
        description = dataclasses.replace(plan.description, shards=stored)
        finished = FileSystems.join(place, "dataset", info.FILE_NAME)
        with staging.writing(finished):
            files.write(finished, description.to_json().encode())
            staging.check_output(output, plan.config.overwrite)  # once more: the job may have taken hours
        staging.publish(place, output)
    return description


def _run(plan: Plan, place: str, execution: Execution) -> None:
    """Shards -> runs of clips -> views -> the teacher's signals -> records -> shards, and the summary."""
    count = progress.directory(place, execution.is_local)
    dataset, lr_size = plan.views.dataset, plan.views.degradation.lr_size
    sources = [
        SourceShard(split, os.path.join(plan.config.data_dir, shard.name), shard)
        for split in plan.splits
        for shard in dataset.shards[split]
    ]
    handler = signal_records.TeacherHandler(plan.config.teacher_run, plan.grids)
    staged = FileSystems.join(place, "clips")
    with (
        failures.explained(),
        progress.shown(count, dataset.num_clips(*plan.splits)),
        running(execution) as pipeline,
    ):
        verified = (
            pipeline
            | "Shards" >> beam.Create(sources)
            | "SpreadShards" >> beam.Reshuffle()
            | "VerifyShards" >> beam.ParDo(signal_records.VerifyShard())
        )
        # The clips of one shard would stay together, and one worker with them, without another shuffle.
        runs = _only(verified, RUN) | "SpreadRuns" >> beam.Reshuffle()
        taught = (
            runs
            | "OfTraining" >> beam.Filter(lambda run: run.split != OF_FRAMES)
            | "ReadClips" >> beam.FlatMap(signal_records.read_run)
            | "MakeViews" >> beam.ParDo(signal_records.MakeViews(plan.views))
            | "AskTeacher" >> inference.RunInference(handler)
            | "StageSignals" >> beam.ParDo(signal_records.StageSignals(lr_size, staged, count))
        )
        seen = (
            runs
            | "OfEvaluation" >> beam.Filter(lambda run: run.split == OF_FRAMES)
            | "ReadEvaluated" >> beam.FlatMap(signal_records.read_run)
            | "StageFrames" >> beam.ParDo(signal_records.StageFrames(dataset, lr_size, staged, count))
        )
        # A shard without a clip is written too.
        names = pipeline | "ShardNames" >> beam.Create([(source.shard.name, None) for source in sources])
        write = shards.WriteShard(FileSystems.join(place, "shards"), FileSystems.join(place, "dataset"))
        written = (
            (_only(taught, RECORD), _only(seen, RECORD), names)
            | "Records" >> beam.Flatten()
            | "ByShard" >> beam.GroupByKey()
            | "OnlyRecords" >> beam.MapTuple(lambda name, staged: (name, [one for one in staged if one]))
            | "WriteShards" >> beam.ParDo(write)
            | "Shard" >> beam.Map(lambda shard: ("shard", dataclasses.asdict(shard)))
        )
        faults = [_only(each, FAULT, bare=False) for each in (verified, taught)]
        _ = summary.write((written, *faults), place)


def _only(found: beam.PCollection, kind: str, *, bare: bool = True) -> beam.PCollection:
    """What is of a kind, among pairs of kind and value: the values, or the pairs."""
    label = f"{kind} of {found.producer.full_label}"
    # Without annotations, from which Beam would take the values to be of no type in particular, and refuse them.
    chosen = found | f"Choose {label}" >> beam.Filter(lambda pair: pair[0] == kind)
    return chosen | f"Bare {label}" >> beam.Map(operator.itemgetter(1)) if bare else chosen


def report(description: info.DatasetInfo, output: str, student_width: float) -> str:
    """What a user wants to know when the signals are stored; `student_width` is of the student to go on with."""
    lines = []
    for split, stored in description.shards.items():
        clips = description.num_clips(split)
        kilobytes = sum(shard.num_bytes for shard in stored) / 1000 / clips
        what = "LR frames" if split == OF_FRAMES else f"signals of {description.signals.num_views} views"
        lines.append(f"{split}: {what} of {clips} clips in {len(stored)} files, {kilobytes:.1f} kB a clip")
    height, width = description.lr_sizes[0]
    finer = [shape[-2:] for name, shape in description.signals.shapes.items() if name in signals_lib.MAP_NAMES]
    if finer := [sizes.text(grid) for grid in finer if grid[0] > height or grid[1] > width]:
        lines.append(
            f"Attention maps of {' and '.join(finer)} are finer than the LR frames and show outlines of what the "
            "teacher saw: give --student_input=native, of which none are, where these must not leave."
        )
    # What has to be the student's, and where the defaults ask for a split that is not there.
    flags = {"stage": "stat" if "train" in description.shards else "unsupervised", "signals": shlex.quote(output)}
    flags |= {"init_run": "STUDENT", "run_dir": "RUN"} | description.signals.student
    if student_width != 1:
        flags["width"] = f"{student_width:g}"
    if OF_FRAMES not in description.shards and flags["stage"] == "stat":
        flags["eval_split"] = ""
    as_wide = "" if student_width == 1 else ", as wide as the teacher,"
    lines.append(f"The signals are in {output}. To train a student{as_wide} from them:")
    lines.append("  python -m stat_tf.train " + " ".join(f"--{name}={value}" for name, value in flags.items()))
    return "\n".join(lines)
