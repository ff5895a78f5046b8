"""What a job found out, on its way from the workers to the launcher: one small file."""

import json
from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from pipeline import staging

_NAME = "summary.jsonl"


class _WriteLines(beam.DoFn):
    def __init__(self, path: str):
        self._path = path

    def process(self, element: tuple[None, Iterable[tuple[str, object]]]) -> Iterator[str]:
        lines = sorted(json.dumps(entry, sort_keys=True) for entry in element[1])
        with (
            staging.writing(self._path),
            FileSystems.create(self._path, compression_type=CompressionTypes.UNCOMPRESSED) as file,
        ):
            file.write("".join(line + "\n" for line in lines).encode())
        yield self._path


def write(found: Iterable[beam.PCollection], place: str) -> beam.PCollection:
    """Writes (kind, JSON value) pairs, of which one process can hold all, to a staging directory.

    Returns:
      The file's path, when it is written; nothing if nothing was found.
    """
    return (
        tuple(found)
        | "Found" >> beam.Flatten()
        | "Together" >> beam.Map(lambda entry: (None, entry))
        | "OneSummary" >> beam.GroupByKey()
        | "WriteSummary" >> beam.ParDo(_WriteLines(FileSystems.join(place, _NAME)))
    )


def read(place: str) -> list[tuple[str, object]]:
    """Reads what `write` wrote, sorted; nothing if nothing was found."""
    path = FileSystems.join(place, _NAME)
    if not FileSystems.exists(path):
        return []
    with FileSystems.open(path) as file:
        return [tuple(json.loads(line)) for line in file.read().decode().splitlines()]


def delete(place: str) -> None:
    """Deletes what `write` wrote, if it is there."""
    staging.delete_file(FileSystems.join(place, _NAME))
