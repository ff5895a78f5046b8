"""What a job found out, on its way from the workers to the launcher: one small file."""

import json
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from pipeline import shard_files, staging
from pipeline.sources import files
from stat_tf import errors

_NAME = "summary.jsonl"


class _WriteLines(beam.DoFn):
    def __init__(self, path: str):
        self._path = path

    def process(self, element: tuple[None, Iterable[tuple[str, object] | None]]) -> Iterator[str]:
        lines = sorted(json.dumps(entry, sort_keys=True) for entry in element[1] if entry is not None)
        with staging.writing(self._path):
            files.write(self._path, "".join(line + "\n" for line in lines).encode())
        yield self._path


def write(found: Iterable[beam.PCollection], place: str) -> beam.PCollection:
    """Writes (kind, JSON value) pairs, of which one process can hold all, to a staging directory.

    Returns:
      The file's path, when it is written, be it that nothing was found.
    """
    found = tuple(found)
    nothing = found[0].pipeline | "Nothing" >> beam.Create([None])
    return (
        (*found, nothing)
        | "Found" >> beam.Flatten()
        | "Together" >> beam.Map(lambda entry: (None, entry))
        | "OneSummary" >> beam.GroupByKey()
        | "WriteSummary" >> beam.ParDo(_WriteLines(FileSystems.join(place, _NAME)))
    )


def read(place: str) -> list[tuple[str, object]]:
    """Reads what `write` wrote, sorted.

    Raises:
      UserError: There is no such file, or it cannot be read.
    """
    path = FileSystems.join(place, _NAME)
    try:
        if files.exists(path):
            with files.opened(path) as file:
                return [tuple(json.loads(line)) for line in file.read().decode().splitlines()]
    except OSError as error:
        raise shard_files.unreadable(path, error) from error
    raise errors.UserError(
        f"The job has ended without its last file, {path}: it was cancelled, or its workers see another {place} "
        "than this machine does. Give paths that all machines share."
    )


def delete(place: str) -> None:
    """Deletes what `write` wrote, if it is there."""
    staging.delete_file(FileSystems.join(place, _NAME))
