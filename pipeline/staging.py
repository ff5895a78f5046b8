"""A directory that a job writes appears whole or not at all: it is built beside its place and moved there."""

import contextlib
import dataclasses
import errno
import fcntl
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from typing import TextIO

from apache_beam.io.filesystems import FileSystems

from pipeline import hdfs, stopping
from pipeline.sources import files
from stat_tf import errors, stores
from stat_tf.data import info

_MARK = ".building-"
_REPLACED = "replaced"
_LOCK = "lock"
_STOPPED = "the job is cancelled, and what was begun is deleted; give the command again."
_FULL = tuple(os.strerror(number).lower() for number in (errno.ENOSPC, errno.EDQUOT))


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of directory that a job writes.

    Attributes:
      noun: What it is called.
      last: The name of the file without which it is none: in an object store, the last to be written.
      others: Matches a slash and the path within the directory of every other file. Without `last`, they are what a
        killed job had moved there.
    """

    noun: str
    last: str
    others: re.Pattern


DATASET = Kind(
    "dataset",
    info.FILE_NAME,
    re.compile(rf"/(?:(?:{'|'.join(info.SPLITS)})-\d+-of-\d+\.tfrecord|{re.escape(info.REJECTED_NAME)})$"),
)


def _lock(place: str) -> TextIO | None:
    """Locks a staging directory until the returned file is closed or this process ends; None if another has it."""
    file = open(os.path.join(place, _LOCK), "w", encoding="utf-8")  # noqa: SIM115
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except OSError:
        pass  # A file system without locks: two builds at once are not told apart from one that was killed.
    return file


def _others(output: str) -> list[str]:
    """The staging directories beside an output, of builds that run or were killed; known of local outputs only."""
    if files.is_remote(output):
        return []
    parent, name = os.path.split(os.path.abspath(output))
    if not os.path.isdir(parent):
        return []
    found = (os.path.join(parent, entry) for entry in os.listdir(parent) if entry.startswith(name + _MARK))
    return [path for path in found if os.path.isdir(path)]


def _reason(error: Exception) -> str:
    """What an error says in words; those of Beam's file systems hold the number in their text alone."""
    number = getattr(error, "errno", None)
    if not number and (found := re.search(r"(?:\[Errno |Error\()(\d+)", str(error))):
        number = int(found[1])
    if isinstance(message := getattr(error, "message", None), str):  # of Beam's S3 client: the text without the tuple
        error = Exception(message)
    why = os.strerror(number) if number else errors.brief(error)
    return why.lower() if number or why.lower() in _FULL else why


def _is_refusal(error: Exception, place: str) -> bool:
    """Whether an error tells of a place that cannot be written; clients of stores raise errors of many kinds."""
    return isinstance(error, OSError) or (files.is_remote(place) and not isinstance(error, errors.UserError))


@contextlib.contextmanager
def writing(place: str) -> Iterator[None]:
    """Does what writes to a place.

    Args:
      place: A file or directory that the user knows, for the message.

    Raises:
      UserError: It cannot be written: it is not allowed, the disk is full, or a store refuses or does not answer.
    """
    try:
        yield
    except Exception as error:
        if not _is_refusal(error, place):
            raise
        why = _reason(error)
        mend = "make room, or give another --output" if why in _FULL else "check --output"
        raise errors.UserError(f"{place} cannot be written ({why}): {mend}.") from error


def delete_file(path: str) -> None:
    """Deletes a file, if there is one."""
    if hdfs.holds(path):
        hdfs.delete(path)
    elif files.exists(path):
        # Beam would read a local name such as a[1] as a pattern.
        FileSystems.delete([path]) if files.is_remote(path) else os.remove(path)


def delete_old(path: str) -> None:
    """Deletes a file of an earlier job, if there is one; where that is refused, what this one did stands."""
    try:
        delete_file(path)
    except Exception as error:  # clients of stores raise errors of many kinds
        print(f"warning: {path} cannot be deleted ({_reason(error)}): it is of an earlier job.", file=sys.stderr)


def recover(output: str) -> None:
    """Puts back the dataset that a build was replacing when it was killed between its two moves."""
    output = output.rstrip("/")
    for place in _others(output):
        replaced = os.path.join(place, _REPLACED)
        if _is_there(replaced) and not _is_there(output) and (lock := _lock(place)):
            with lock:
                os.rename(replaced, output)


def _names(output: str) -> list[str]:
    """What is in a directory: a local one's names, a remote one's files by their paths in it."""
    if not files.is_remote(output):
        return os.listdir(output)
    prefix = output.rstrip("/") + "/"
    return [path.removeprefix(prefix) for path in files.list_objects(output)]


def check_output(output: str, overwrite: bool, kind: Kind = DATASET) -> None:
    """Checks that a dataset, or another kind of directory, may be put there.

    Raises:
      UserError: There is one and `overwrite` is false, or something beside it in its directory; something of another
        kind is there; or Beam would read the path as a pattern.
    """
    if files.is_remote(output) and re.search(r"[*?\[]", output):
        raise errors.UserError(f"Beam reads *, ? and [ in {output} as a pattern: give another --output.")
    if files.is_remote(output) and "/" not in output.partition("://")[2].rstrip("/"):
        raise errors.UserError(f"{output} is all of a store: give --output a directory within.")
    if files.exists(FileSystems.join(output, kind.last)):
        if not overwrite:
            raise errors.UserError(f"{output} already holds a {kind.noun}: give --overwrite to replace it.")
        foreign = [name for name in _names(output) if name != kind.last and not kind.others.fullmatch(f"/{name}")]
        if foreign:
            raise errors.UserError(
                f"{output} holds {min(foreign)} beside its {kind.noun}, which --overwrite would delete: move it away, "
                "or give another --output."
            )
        return
    if files.is_remote(output):
        taken = not all(kind.others.fullmatch(f"/{name}") for name in _names(output))
    else:
        taken = os.path.exists(output) and (not os.path.isdir(output) or os.listdir(output))
    if taken:
        raise errors.UserError(f"{output} exists and is not a {kind.noun}: give another --output.")


def _output(place: str) -> str:
    """The output that a staging directory is of."""
    return place.rpartition(_MARK)[0]


def delete(place: str) -> None:
    """Deletes a staging directory.

    Raises:
      UserError: What was at the output before is in it, and nothing is at the output.
    """
    replaced = FileSystems.join(place, _REPLACED)
    if stores.has_directories(place) and _is_there(replaced) and not _is_there(_output(place)):
        raise errors.UserError(f"What was at {_output(place)} before is {replaced}: move it back.")
    if not files.is_remote(place):
        shutil.rmtree(place, ignore_errors=True)  # A killed build's worker may write one more file.
    elif hdfs.holds(place):
        hdfs.delete(place)
    else:
        FileSystems.delete([place + "/"])  # all names that start so, many at a time


def _clean_up(place: str) -> None:
    """Deletes a staging directory in the end of a job; where a store refuses, what came before is worth more."""
    try:
        delete(place)
    except errors.UserError as error:
        print(f"warning: {error}", file=sys.stderr)
    except Exception as error:
        mend = "delete it"
        if hdfs.holds(place):
            mend = f"move {FileSystems.join(place, _REPLACED)}, if it is there, back to {_output(place)}, then {mend}"
        print(f"warning: {place} cannot be deleted ({_reason(error)}): {mend}.", file=sys.stderr)


def _delete_killed(output: str, own: str) -> None:
    """Deletes what killed builds left behind; refuses to build where another build is at work."""
    for place in _others(output):
        if os.path.abspath(own) == place:
            continue
        lock = _lock(place)
        if not lock:
            raise errors.UserError(f"Another build is writing {output}: wait for its end, or give another --output.")
        with lock:
            delete(place)


def _new_place(output: str) -> str:
    # A name of its own: a killed build's processes may live on for a moment.
    return output + _MARK + uuid.uuid4().hex[:8]


def _make(place: str) -> None:
    for folder in ("tasks", "clips", "shards", "dataset"):
        FileSystems.mkdirs(FileSystems.join(place, folder))


@contextlib.contextmanager
def left_to_job(output: str) -> Iterator[str]:
    """Makes a directory to build in that outlives this process, for the job to `delete` in the end.

    Yields:
      Its path, beside the output. It is deleted if the block fails.

    Raises:
      UserError: It cannot be written.
      StoppedBySignal: SIGINT, SIGTERM or SIGHUP came.
    """
    place = _new_place(output.rstrip("/"))
    with stopping.in_order(_STOPPED):
        with writing(place):
            _make(place)
        try:
            yield place
        except BaseException:
            _clean_up(place)
            raise


@contextlib.contextmanager
def directory(output: str) -> Iterator[str]:
    """Makes the directory to build in, and deletes it in the end; those of killed builds too.

    Yields:
      Its path: beside the output, so that moving the dataset there costs nothing.

    Raises:
      UserError: It cannot be written, or another build of the same local output is running.
      StoppedBySignal: SIGINT, SIGTERM or SIGHUP came.
    """
    output = output.rstrip("/")
    place = _new_place(output)
    with stopping.in_order(_STOPPED), contextlib.ExitStack() as stack:
        stack.callback(_clean_up, place)
        with writing(place):
            _make(place)
            if not files.is_remote(place):
                stack.enter_context(_lock(place))
                _delete_killed(output, place)
        yield place


def publish(place: str, output: str, kind: Kind = DATASET) -> None:
    """Moves the finished dataset, or another kind of directory, to its place, and what was there away.

    A local output, or one in HDFS, is replaced in two renames. An object store knows only single objects: there,
    `kind.last` is the first to go and the last to come, so that no reader takes a part for the whole.

    Raises:
      UserError: The output cannot be written.
    """
    try:
        if stores.has_directories(output):
            _move_directory(place, output.rstrip("/"))
        else:
            _move_objects(place, output.rstrip("/"), kind.last)
    except Exception as error:
        if not _is_refusal(error, output):
            raise
        why = _reason(error)
        raise errors.UserError(f"The {kind.noun} cannot be moved to {output} ({why}): check --output.") from error


def _is_there(path: str) -> bool:
    """Whether a local path, be it a link that leads nowhere, or one of HDFS is there."""
    return hdfs.exists(path) if hdfs.holds(path) else os.path.lexists(path)


def _rename(source: str, target: str) -> None:
    (hdfs if hdfs.holds(source) else os).rename(source, target)


def _move_directory(place: str, output: str) -> None:
    finished, replaced = (FileSystems.join(place, name) for name in ("dataset", _REPLACED))
    try:
        if _is_there(output):
            _rename(output, replaced)
        _rename(finished, output)
    except BaseException:
        # HDFS may have done what it was asked to, though its answer was lost or a signal came.
        if _is_there(replaced) and not _is_there(output):
            _rename(replaced, output)
        raise


def _move_objects(place: str, output: str, last: str) -> None:
    finished = FileSystems.join(place, "dataset")
    description = FileSystems.join(output, last)
    if FileSystems.exists(description):
        FileSystems.delete([description])
    if old := files.list_objects(output):
        FileSystems.delete(old)
    names = [path.rpartition("/")[2] for path in files.list_objects(finished)]
    names = [name for name in names if name != last]
    # An object store moves by copying and deleting. Copied alone, all is still there for another try.
    for moved in (names, [last]):
        sources, targets = ([FileSystems.join(place, name) for name in moved] for place in (finished, output))
        FileSystems.copy(sources, targets)
