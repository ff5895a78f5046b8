"""The clips to work on, in files: a job's description holds their names alone, whatever the number of clips.

In the description itself, a million clips would take minutes to pickle, and each worker would be sent them all.
"""

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from pipeline.clips_to_records import ClipTask
from pipeline.sources import files
from pipeline.sources.clip import Clip

_MOST_TASKS = 1000  # a file
_FILES = 64  # or more: Dask, which does not reshuffle, spreads files, not clips


def write(tasks: Sequence[ClipTask], directory: str, name: str) -> list[str]:
    """Writes tasks that no video was cut for yet.

    Args:
      tasks: The tasks.
      directory: Where to, for workers to read.
      name: What the files' names start with.

    Returns:
      The files' paths.
    """
    size = min(_MOST_TASKS, math.ceil(len(tasks) / _FILES))
    paths = []
    for start in range(0, len(tasks), max(size, 1)):
        lines = (json.dumps(dataclasses.asdict(task)) for task in tasks[start : start + size])
        paths.append(FileSystems.join(directory, f"{name}-{len(paths):05d}.jsonl"))
        files.write(paths[-1], "".join(line + "\n" for line in lines).encode())
    return paths


def _read(path: str) -> Iterator[ClipTask]:
    with files.opened(path) as file:
        for line in file.read().decode().splitlines():
            fields = json.loads(line)
            yield ClipTask(**fields | {"clip": Clip(**fields["clip"])})


def read(pipeline: beam.Pipeline, paths: Sequence[str], name: str) -> beam.PCollection:
    """Reads tasks back within a job, spread over its workers.

    Args:
      pipeline: The job.
      paths: From `write`.
      name: For the steps' labels.

    Returns:
      `ClipTask`s.
    """
    return (
        pipeline
        | f"{name}Files" >> beam.Create(paths)
        | f"Read{name}" >> beam.FlatMap(_read)
        # Without it, the worker that reads a file would decode all its clips.
        | f"Spread{name}" >> beam.Reshuffle()
    )
