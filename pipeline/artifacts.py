"""The kinds of artifacts that the components hand on: what tells two of a kind apart, and what is worth knowing."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from typing import Any

from pipeline import verdicts
from pipeline.graph import ArtifactType
from stat_tf import digests, versions
from stat_tf.data import info
from stat_tf.training.circumstances import CIRCUMSTANCES

# What `pipeline.validate_examples` writes.
_REPORT_NAME = "report.json"


def listing(directory: str) -> str:
    """Digest of the names, sizes and times of change of a directory's files: as good as their contents, and at once.

    Raises:
      OSError: There is no such directory, or it cannot be read.
    """
    return _listed(directory, lambda status: (status.st_size, status.st_mtime_ns))


def _listed(directory: str, what) -> str:
    if not os.path.isdir(directory):
        raise FileNotFoundError(f"there is no directory {directory}")
    whole = hashlib.sha256()
    for folder, folders, names in os.walk(directory, onerror=_heed, followlinks=True):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            whole.update(f"{os.path.relpath(path, directory)}\0{_told(path, what)}\n".encode(errors="replace"))
    return whole.hexdigest()


def _heed(error: OSError) -> None:
    """Of directories that cannot be read, those pass over that hold nobody's videos, as where a dataset is built."""
    if not os.path.basename(error.filename).startswith((".", "lost+found")):
        raise error


def _told(path: str, what) -> Any:
    try:
        return what(os.stat(path))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # a link to nowhere: a video that cannot be read, but one
            return "missing"
        raise


def _read(directory: str, name: str) -> dict[str, Any]:
    path = os.path.join(directory, name)
    with open(path, encoding="utf-8") as file:
        fields = json.load(file)
    if not isinstance(fields, dict):
        raise ValueError(f"{path} holds no object")
    return fields


def _contents(directory: str, names: Iterable[str]) -> str:
    """That of some of a directory's files or directories."""
    return _digest([(name, digests.of(os.path.join(directory, name))) for name in names])


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _videos_metrics(directory: str) -> dict[str, Any]:
    return {"videos": sum(name.endswith(".mp4") for _, _, names in os.walk(directory) for name in names)}


def _examples_content(directory: str) -> str:
    """That of the description of a dataset or of teacher signals, which has each shard's checksum.

    The shards must be there, and of their sizes.
    """
    path = os.path.join(directory, info.FILE_NAME)
    with open(path, encoding="utf-8") as file:
        description = info.DatasetInfo.from_json(file.read(), path)
    for shards in description.shards.values():
        for shard in shards:
            size = os.stat(os.path.join(directory, shard.name)).st_size
            if size != shard.num_bytes:
                raise ValueError(f"{shard.name} has {size} bytes of {shard.num_bytes}")
    return digests.of(path)


def _examples_metrics(directory: str) -> dict[str, Any]:
    fields = _read(directory, info.FILE_NAME)
    clips = {split: sum(counts.values()) for split, counts in fields["counts"].items()}
    return {"clips": clips, "classes": len(fields["classes"]), "rejected": fields["num_rejected"]}


def _history(directory: str) -> list[dict[str, Any]]:
    try:
        with open(os.path.join(directory, "history.jsonl"), encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except FileNotFoundError:
        return []


def _run_content(directory: str) -> str:
    """That of the best weights and of what they are weights of: what other runs, evaluation and export read."""
    config = {name: value for name, value in _read(directory, "config.json").items() if name not in CIRCUMSTANCES}
    return _digest([config, digests.of(os.path.join(directory, "checkpoints", "best"))])


def _run_metrics(directory: str) -> dict[str, Any]:
    last = _history(directory)[-1]
    shown = {"loss": "loss", "prec@1": "prec@1 in training", "val_prec@1": "val_prec@1"}
    return {"epochs": last["epoch"]} | {shown[name]: last[name] for name in shown if name in last}


def _run_progress(directory: str) -> str:
    try:
        return f"epoch {len(_history(directory))} of {_read(directory, 'config.json')['epochs']} is over"
    except (OSError, ValueError, LookupError):
        return ""


def _validation_metrics(directory: str) -> dict[str, Any]:
    validation = verdicts.load(directory, verdicts.VALIDATION)
    return {name: validation[name] for name in ("verdict", "latency_ms")}


def _evaluation_content(directory: str) -> str:
    """That of the verdict, and of what each network got right."""
    networks = sorted(name for name in os.listdir(directory) if os.path.isdir(os.path.join(directory, name)))
    results = [os.path.join(name, file) for name in networks for file in ("metrics.json", "predictions.csv")]
    return _contents(directory, [verdicts.BLESSING, *results])


def _evaluation_metrics(directory: str) -> dict[str, Any]:
    blessing = verdicts.load(directory, verdicts.BLESSING)
    return {name: blessing[name] for name in ("blessed", "prec@1")}


def _pushed_content(directory: str) -> str:
    """That of the pushed version, wherever it is served from, as long as it is the newest there."""
    pushed = verdicts.load(directory, verdicts.PUSHED)
    push_dir = os.path.dirname(pushed["directory"])
    if versions.newest(push_dir) != pushed["version"]:
        raise ValueError(f"version {pushed['version']} is not the newest in {push_dir}")
    if digests.of(pushed["directory"]) != pushed["model_digest"]:
        raise ValueError(f"{pushed['directory']} is no longer what was pushed")
    return pushed["model_digest"]


def _pushed_metrics(directory: str) -> dict[str, Any]:
    pushed = verdicts.load(directory, verdicts.PUSHED)
    return {name: pushed[name] for name in ("directory", "version")}


def version_dir(model: str) -> str:
    """The version of an export or a directory that is served from; "" where there is none."""
    newest = versions.newest(model)
    return os.path.join(model, str(newest)) if newest else ""


def _model_content(directory: str) -> str:
    return digests.of(version_dir(directory) or directory)


def _file(name: str) -> Callable[[str], str]:
    """The content of artifacts in which one file says it all."""
    return lambda directory: digests.of(os.path.join(directory, name))


VIDEOS = ArtifactType("videos", lambda directory: _listed(directory, lambda status: status.st_size), _videos_metrics)
EXAMPLES = ArtifactType("examples", _examples_content, _examples_metrics)
EXAMPLE_REPORT = ArtifactType("report", _file(_REPORT_NAME))
RUN = ArtifactType("run", _run_content, _run_metrics, _run_progress)
SIGNALS = ArtifactType("signals", _examples_content, _examples_metrics)
MODEL = ArtifactType("model", _model_content)
VALIDATION = ArtifactType("validation", _file(verdicts.VALIDATION), _validation_metrics)
EVALUATION = ArtifactType("evaluation", _evaluation_content, _evaluation_metrics)
FIGURES = ArtifactType("figures", digests.of)
PUSHED_MODEL = ArtifactType("pushed", _pushed_content, _pushed_metrics)
