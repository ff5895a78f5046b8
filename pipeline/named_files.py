"""Files and directories that a component's flags name: what is in them counts, as the artifacts that it reads do."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import artifacts
from pipeline.graph import Call, arguments
from stat_tf import digests, files

# By whose file systems the commands read them, in a remote store. What a flag names that is not here is no file, even
# where there is one of that name.
_BY_BEAM = ("videos", "annotations", "unlabeled_videos")
_BY_TENSORFLOW = ("init_from", "flow_run_dir", "warmup_data_dir")
# What --init_from takes that is no file.
_NO_FILES = ("auto", "imagenet", "none")


def observe(call: Call) -> dict[str, Any]:
    """Digests of what the flags name: of a local file's contents, else of names, sizes and times.

    What is not there is left out: the command will say so.

    Raises:
      OSError: Something cannot be read.
      UserError: A remote store does not answer, or refuses.
    """
    given = call.parameters["flags"]
    found = {}
    for name in (*_BY_BEAM, *_BY_TENSORFLOW):
        path = given.get(name)
        if not path:
            continue
        if files.is_remote(path):
            found[f"files of --{name}"] = _remote(path, name, given)
        elif os.path.isdir(path):
            found[f"files of --{name}"] = artifacts.listing(path)
        elif os.path.isfile(path):
            found[f"contents of --{name}"] = digests.of(path)
    return found


def missing(flags: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, path) of flags that name a local file or directory that is not there."""
    for name in (*_BY_BEAM, *_BY_TENSORFLOW):
        path = flags.get(name)
        if path and path not in _NO_FILES and not files.is_remote(path) and not os.path.exists(path):
            yield name, path


def _remote(path: str, name: str, given: dict[str, Any]) -> str:
    entries = []
    with contextlib.suppress(FileNotFoundError):
        if name in _BY_BEAM:
            from pipeline.sources import files as beam_files

            # Beam looks for its own options among them.
            beam_files.connect(arguments(given), path)
            entries = beam_files.describe(path)
        else:
            entries = files.describe(path)
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
