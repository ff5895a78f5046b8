"""A blessed, validated export becomes the next version of a directory that TF Serving polls, whole or not at all.

On this machine it is copied aside and renamed. A remote store shows a version while it is being copied there, so its
graph, without which it is no model, comes last, when the rest has been read back and compared.
"""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping

from pipeline import verdicts
from stat_tf import digests, errors, files, processes, versions

# No number, so TF Serving passes over it.
_ASIDE = ".push-"


@dataclasses.dataclass(frozen=True)
class Pushed:
    """What was pushed: the version, its directory, and the SHA-256 of its files."""

    version: int
    directory: str
    model_digest: str


def push(model: str, blessing_dir: str, validation_dir: str, push_dir: str) -> Pushed:
    """Copies an export to the next version's directory.

    Nothing locks a remote `push_dir`: of two pushes there at once, one may delete what the other is copying.

    Args:
      model: `EXPORT/VERSION`.
      blessing_dir: What `pipeline.bless` wrote of it.
      validation_dir: What `pipeline.validate_export` wrote of it.
      push_dir: The directory of versions; made if missing. Any of the four may be remote.

    Returns:
      The newest version, which is that model: the one just made, or, if it was there before, that.

    Raises:
      UserError: The model is not blessed or validated, or not the one that was, or was not compared with the newest
        version; or it cannot be copied.
    """
    versions.check_base(push_dir, "push_dir")
    try:
        contents = digests.of_files(model)
    except OSError as error:
        raise errors.UserError(f"{model} cannot be read ({error.strerror}): give --model an export.") from error
    if versions.GRAPH_NAME not in contents:
        raise errors.UserError(f"{model} has no {versions.GRAPH_NAME}: give --model a version, EXPORT/VERSION.")
    digest = digests.of_all(contents)
    compared_with = _check(model, digest, blessing_dir, validation_dir)
    remote = files.is_remote(push_dir)
    with contextlib.nullcontext() if remote else processes.locked(push_dir, "pipeline.push"):
        try:
            newest, following = versions.newest(push_dir), versions.following(push_dir)
            _sweep(push_dir, contents)
            there = os.path.join(push_dir, str(newest))
            served = digests.of(there) if newest else ""
            if served == digest:
                return Pushed(newest, there, digest)
            if served != compared_with:
                raise errors.UserError(
                    f"{blessing_dir} compares {model} with {'another model' if compared_with else 'no pushed model'}, "
                    f"and {f'version {newest}' if newest else 'none'} is the newest in {push_dir}: evaluate and bless "
                    "it again."
                )
            directory = os.path.join(push_dir, str(following))
            (_copy_graph_last if remote else _copy_and_rename)(model, contents, directory)
            return Pushed(following, directory, digest)
        except OSError as error:
            raise errors.UserError(
                f"{model} cannot be copied to {push_dir} ({error.strerror or errors.brief(error)}); nothing has "
                "changed there."
            ) from error


def _check(model: str, digest: str, blessing_dir: str, validation_dir: str) -> str:
    """Checks that a model may be pushed; returns the digest of the one that it was compared with, "" for none."""
    verdict = verdicts.load(blessing_dir, verdicts.BLESSING)
    validation = verdicts.load(validation_dir, verdicts.VALIDATION)
    if not verdict["blessed"]:
        raise errors.UserError(f"{model} is not blessed: {' '.join(verdict['reasons'])}")
    if validation["verdict"] != "pass":
        raise errors.UserError(f"{model} did not pass its validation: {' '.join(validation['problems'])}")
    for found, directory, command in (
        (verdict["model_digest"], blessing_dir, "bless"),
        (validation["model_digest"], validation_dir, "validate_export"),
    ):
        if found != digest:
            raise errors.UserError(
                f"{directory} is about another model than {model}, or this has changed since: run "
                f"python -m pipeline.{command} on it."
            )
    return verdict["pushed_digest"]


def _sweep(push_dir: str, contents: Mapping[str, str]) -> None:
    """Deletes what pushes that were killed have left.

    Of a remote directory these are numbers without a graph; one that holds anything but files of an export, named as
    in `contents`, is somebody else's and stays.
    """
    if not files.is_remote(push_dir):
        for name in os.listdir(push_dir):
            if name.startswith(_ASIDE):  # of a push that was killed: this one has the lock
                shutil.rmtree(os.path.join(push_dir, name), ignore_errors=True)
        return
    for number in versions.numbers(push_dir):
        directory = os.path.join(push_dir, str(number))
        # Where files are renamed, the graph may have been written aside.
        if (
            files.is_dir(directory)
            and not versions.is_whole(push_dir, number)
            and all(name.removesuffix(".tmp") in contents for name in files.walk(directory))
        ):
            files.remove_tree(directory)


def _copy_and_rename(model: str, contents: Mapping[str, str], directory: str) -> None:
    """Makes a version's directory on this machine."""
    aside = tempfile.mkdtemp(prefix=_ASIDE, dir=os.path.dirname(directory))
    try:
        copied = os.path.join(aside, "model")
        _copy(model, contents, copied)
        _compare(copied, contents)
        os.rename(copied, directory)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _copy_graph_last(model: str, contents: Mapping[str, str], directory: str) -> None:
    """Makes a version's directory in a remote store."""
    rest = {name: digest for name, digest in contents.items() if name != versions.GRAPH_NAME}
    try:
        _copy(model, rest, directory)
        _compare(directory, rest)
        graph = files.read_bytes(os.path.join(model, versions.GRAPH_NAME))
        if hashlib.sha256(graph).hexdigest() != contents[versions.GRAPH_NAME]:
            raise OSError(f"{model} has changed meanwhile")
    except BaseException:
        with contextlib.suppress(OSError, errors.UserError):  # the next push deletes it
            files.remove_tree(directory)
        raise
    # Should this fail, the store may have it nonetheless, and the version be served: it stays.
    files.write_bytes(os.path.join(directory, versions.GRAPH_NAME), graph)


def _copy(model: str, names: Iterable[str], directory: str) -> None:
    for name in names:
        files.copy(os.path.join(model, name), os.path.join(directory, name))


def _compare(directory: str, contents: Mapping[str, str]) -> None:
    if digests.of_files(directory) != contents:
        raise OSError("what has arrived there differs from it")


def write(output: str, pushed: Pushed) -> None:
    """Notes what was pushed, whole or not at all.

    Raises:
      UserError: The directory cannot be written to.
    """
    verdicts.write(output, verdicts.PUSHED, dataclasses.asdict(pushed))
