"""A blessed, validated export becomes the next version of a directory that TF Serving polls, whole or not at all."""

import dataclasses
import os
import shutil
import tempfile

from pipeline import verdicts
from stat_tf import digests, errors, processes, versions

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

    Args:
      model: `EXPORT/VERSION`.
      blessing_dir: What `pipeline.bless` wrote of it.
      validation_dir: What `pipeline.validate_export` wrote of it.
      push_dir: The directory of versions; made if missing.

    Returns:
      The newest version, which is that model: the one just made, or, if it was there before, that.

    Raises:
      UserError: The model is not blessed or validated, or not the one that was; or it cannot be copied.
    """
    try:
        digest = digests.of(model)
    except OSError as error:
        raise errors.UserError(f"{model} cannot be read ({error.strerror}): give --model an export.") from error
    _check(model, digest, blessing_dir, validation_dir)
    with processes.locked(push_dir, "pipeline.push"):
        newest = versions.newest(push_dir)
        there = os.path.join(push_dir, str(newest))
        if newest and digests.of(there) == digest:
            return Pushed(newest, there, digest)
        try:
            return _copy(model, digest, push_dir, newest + 1)
        except OSError as error:
            raise errors.UserError(
                f"{model} cannot be copied to {push_dir} ({error.strerror or errors.brief(error)}); nothing has "
                "changed there."
            ) from error


def _check(model: str, digest: str, blessing_dir: str, validation_dir: str) -> None:
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


def _copy(model: str, digest: str, push_dir: str, version: int) -> Pushed:
    for name in os.listdir(push_dir):
        if name.startswith(_ASIDE):  # of a push that was killed: this one has the lock
            shutil.rmtree(os.path.join(push_dir, name), ignore_errors=True)
    aside = tempfile.mkdtemp(prefix=_ASIDE, dir=push_dir)
    try:
        copied = shutil.copytree(model, os.path.join(aside, "model"))
        if digests.of(copied) != digest:
            raise OSError(f"{model} has changed while it was copied")
        directory = os.path.join(push_dir, str(version))
        os.rename(copied, directory)
        return Pushed(version, directory, digest)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write(output: str, pushed: Pushed) -> None:
    """Notes what was pushed, whole or not at all.

    Raises:
      UserError: The directory cannot be written to.
    """
    verdicts.write(output, verdicts.PUSHED, dataclasses.asdict(pushed))
