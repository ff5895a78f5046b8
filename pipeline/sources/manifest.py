"""A table of videos, CSV with a header or JSON lines: path, label, split and, where it is known, group."""

import csv
import io
import json
import os

from pipeline.sources import files
from pipeline.sources.clip import Clip, Listing
from stat_tf import errors
from stat_tf.data import info

_REQUIRED = ("path", "label", "split")


def _csv_rows(path: str, text: str) -> list[tuple[str, dict]]:
    reader = csv.DictReader(io.StringIO(text), restkey="surplus")
    rows = []
    for row in reader:
        if "surplus" in row or None in row.values():
            raise errors.UserError(f"{path} line {reader.line_num} has another number of columns than the header.")
        rows.append((f"{path} line {reader.line_num}", row))
    missing = [name for name in _REQUIRED if name not in (reader.fieldnames or ())]
    if missing:
        raise errors.UserError(f"{path} has no column {missing[0]}: its first line should name {', '.join(_REQUIRED)}.")
    return rows


def _jsonl_rows(path: str, text: str) -> list[tuple[str, dict]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{path} line {number}"
        try:
            row = json.loads(line)
        except ValueError as error:
            raise errors.UserError(f"{where} is not JSON: {error}.") from error
        if not isinstance(row, dict) or not all(isinstance(v, str | None) for v in row.values()):
            raise errors.UserError(f"{where} is not a JSON object of strings.")
        missing = [name for name in _REQUIRED if name not in row]
        if missing:
            raise errors.UserError(f"{where} has no {missing[0]}: each line needs {', '.join(_REQUIRED)}.")
        rows.append((where, row))
    return rows


def _clip(where: str, row: dict, videos: str) -> Clip:
    values = {name: (row.get(name) or "").strip() for name in (*_REQUIRED, "group")}
    path, label, split = values["path"], values["label"], values["split"]
    for value in values.values():
        files.check_name(value, where)
    if not path:
        raise errors.UserError(f"{where} has no path.")
    if split not in (*info.SPLITS, ""):
        raise errors.UserError(f"{where} has the split {split}: it should be one of {', '.join(info.SPLITS)}.")
    if label and not split:
        raise errors.UserError(f"{where} has the label {label} but no split.")
    if not label and split == "test":
        # As an unlabelled clip, it would be trained on.
        raise errors.UserError(f"{where} is a test clip without a label.")
    if not files.is_remote(path):
        if os.path.isabs(path) and not files.is_remote(videos):
            inside = os.path.relpath(path, os.path.abspath(videos))
            path = path if inside.startswith("..") else inside
        path = os.path.normpath(path).replace(os.sep, "/")
    elif path.startswith(videos.rstrip("/") + "/"):
        path = path.removeprefix(videos.rstrip("/") + "/")
    if not label or split == "unlabeled":
        return Clip(path, "", "unlabeled", values["group"])
    return Clip(path, label, split, values["group"])


def read(videos: str, manifest: str) -> Listing:
    """Reads a manifest.

    A clip without a label goes to the split "unlabeled", whether its split is empty, "unlabeled" or
    "train"; the label of a clip in that split is dropped. Other columns are passed over.

    Args:
      videos: Directory that relative paths start from.
      manifest: The .csv or .jsonl file.

    Returns:
      The clips, those missing on disk too; classes in alphabetical order.

    Raises:
      UserError: The file is missing, of another kind or empty; a column is missing; or a row is malformed, has
        an unknown split, holds what no name can, or is a test clip without a label. The line is named.
    """
    readers = {".csv": _csv_rows, ".jsonl": _jsonl_rows}
    suffix = os.path.splitext(manifest)[1].lower()
    if suffix not in readers:
        raise errors.UserError(f"{manifest} is neither a .csv nor a .jsonl file: check --annotations.")
    rows = readers[suffix](manifest, files.read_text(manifest, "annotations"))
    if not rows:
        raise errors.UserError(f"{manifest} lists no videos.")
    clips = tuple(_clip(where, row, videos) for where, row in rows)
    return Listing(tuple(sorted({clip.label for clip in clips if clip.label})), clips)
