"""What all checkpoints of a run have in common: places, writing aside, `state.json`, damage."""

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from stat_tf import errors, files, stores

# What reading a truncated, overwritten or half-deleted checkpoint raises.
DAMAGE = (tf.errors.OpError, OSError, ValueError, LookupError, TypeError, RuntimeError)
STATE_NAME = "state.json"
_DIGEST = "sha256"


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
      history: One dict of metrics an epoch, in order; its "epoch" counts from 1.
      best_epoch: The epoch, counted from 1, whose checkpoint is the best; 0 before the first.
      best_value: Its prec@1 on the evaluation split; None where there is no such split.
      step: Steps done of the epoch that follows them.
    """

    history: tuple[dict[str, Any], ...] = ()
    best_epoch: int = 0
    best_value: float | None = None
    step: int = 0

    @property
    def epochs_done(self) -> int:
        """Complete epochs."""
        return len(self.history)

    def after_epoch(self, metrics: dict[str, Any], value: float | None) -> "Progress":
        """The progress after one more epoch.

        Args:
          metrics: What `history.jsonl` records of it.
          value: Its prec@1 on the evaluation split. Without one, the newest epoch is the best.
        """
        better = value is None or self.best_value is None or value > self.best_value
        epoch = self.epochs_done + 1
        return Progress(
            history=(*self.history, {"epoch": epoch, **metrics}),
            best_epoch=epoch if better else self.best_epoch,
            best_value=value if better else self.best_value,
        )

    def at_step(self, step: int) -> "Progress":
        """The progress when that many steps of the next epoch are done."""
        return dataclasses.replace(self, step=step)


def checkpoint_dir(run_dir: str, which: str) -> str:
    """Where a run keeps its "last", "best" or "partial" checkpoints."""
    return os.path.join(run_dir, "checkpoints", which)


def numbered(directory: str, pattern: str, last: str | None = STATE_NAME) -> list[tuple[int, ...]]:
    """The numbers in the names that match a pattern as a whole, ascending; none where there is no such directory.

    Args:
      directory: The directory of checkpoints.
      pattern: A regular expression with a group a number.
      last: The file of a checkpoint that is written last. In an object store, one without it is not counted: it is
        half-written or half-deleted. None counts all.
    """
    names = files.list_dir(directory) if files.is_dir(directory) else []
    matches = [match for match in (re.fullmatch(pattern, name) for name in names) if match]
    if last and not stores.has_directories(directory):
        matches = [match for match in matches if files.exists(os.path.join(directory, match.string, last))]
    return sorted(tuple(int(number) for number in match.groups()) for match in matches)


def prepare(directory: str) -> None:
    """Makes a directory of checkpoints and sweeps up what a killed process left half-written there.

    Raises:
      UserError: It cannot be made.
    """
    with explain_write_errors(directory):
        files.make_dirs(directory)
        for name in files.list_dir(directory) if files.is_dir(directory) else []:
            if name.endswith(".tmp"):
                files.remove_tree(os.path.join(directory, name))


def write(directory: str, write_parts: Callable[[str], None], progress: Progress | None = None) -> None:
    """Writes a checkpoint aside and renames it, so that one that has its final name is whole.

    An object store renames nothing at one stroke. There it is written in its place, and is a checkpoint only when the
    file that comes last is there (see `numbered`).

    Args:
      directory: Its final name. One that is there already is replaced.
      write_parts: Writes everything but `state.json` into the directory that it is given.
      progress: What `state.json` shall hold; None for no such file.

    Raises:
      UserError: It cannot be written; nothing is left of it.
    """
    in_place = not stores.has_directories(directory)
    aside = directory if in_place else f"{directory}.tmp"
    with explain_write_errors(directory):
        try:
            if in_place:
                delete(directory)
            files.make_dirs(aside)
            write_parts(aside)
            if progress is not None:
                fields = dataclasses.asdict(progress)
                text = json.dumps(fields | {_DIGEST: _digest(fields)}) + "\n"
                files.write_text(os.path.join(aside, STATE_NAME), text)
            if not in_place:
                delete(directory)  # a best one, whose process was killed before its `last` was in place
                files.rename(aside, directory)
        except BaseException:
            with contextlib.suppress(errors.UserError):  # a store that does not answer; the first error says so
                files.remove_tree(aside)
            raise


def delete(directory: str) -> None:
    """Deletes a checkpoint, if it is there; in an object store first what makes it one."""
    if not stores.has_directories(directory):
        for name in files.list_dir(directory) if files.is_dir(directory) else []:
            if name == STATE_NAME or name.endswith(".index"):
                files.remove(os.path.join(directory, name))
    files.remove_tree(directory)


def read_progress(directory: str) -> Progress:
    """Reads a checkpoint's `state.json`.

    Raises:
      ValueError: It is damaged. Other damage raises other errors of `DAMAGE`.
    """
    fields = json.loads(files.read_text(os.path.join(directory, STATE_NAME)))
    # Runs of older versions have none.
    if fields.pop(_DIGEST, None) not in (None, _digest(fields)):
        raise ValueError(f"{STATE_NAME} is not as it was written")
    return Progress(**{**fields, "history": tuple(fields["history"])})


def set_aside(directory: str, error: Exception) -> None:
    """Warns that a checkpoint is damaged and renames it to `NAME.damaged`.

    Raises:
      UserError: It may not be damaged: its store does not answer now.
    """
    stores.check(directory)
    warnings.warn(f"Set the damaged checkpoint {directory} aside: {errors.brief(error)}.", stacklevel=3)
    files.remove_tree(f"{directory}.damaged")
    files.rename(directory, f"{directory}.damaged")


@contextlib.contextmanager
def explain_write_errors(path: str) -> Iterator[None]:
    """Turns what a full or read-only disk raises into a `UserError`."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise errors.UserError(
            f"{path} cannot be written ({reason or errors.brief(error)}): "
            "mend that and run the same command again, which goes on from the last checkpoint."
        ) from error


def _digest(fields: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def other_architecture(directory: str, error: Exception) -> errors.UserError:
    """What to say of a checkpoint that is whole, but of other variables."""
    return errors.UserError(
        f"The checkpoint {directory} is of another architecture than asked for ({errors.brief(error)}): "
        "use the settings it was trained with, or another run directory."
    )
