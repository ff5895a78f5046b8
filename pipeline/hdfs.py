"""HDFS over WebHDFS. Beam reads files there; what else is to be done goes to the client that Beam reads with.

Beam's own view of HDFS takes whatever is refused for a file that is not there, lists one directory at a time without
telling files from directories, replaces no file, and holds all of a file in memory that it writes.
"""

import contextlib
import errno
import importlib.util
import os
import posixpath
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO

from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import HadoopFileSystemOptions, PipelineOptions

from stat_tf import errors, stores

if TYPE_CHECKING:
    import hdfs

_OPTIONS = ("hdfs_host", "hdfs_port", "hdfs_user", "hdfs_full_urls")
_ANSWERS_WITHIN = 20.0  # seconds


def holds(path: str) -> bool:
    """Whether a path is of HDFS."""
    return stores.scheme(path) == "hdfs"


def check(options: PipelineOptions, paths: Iterable[str]) -> None:
    """Checks that Beam can use HDFS, and that it answers.

    Args:
      options: Beam's options.
      paths: Paths of hdfs://, there or not.

    Raises:
      UserError: An option or a package is missing, the paths are not of one HDFS, or it refuses or does not answer.
    """
    paths = list(paths)
    if not paths:
        return
    given = options.view_as(HadoopFileSystemOptions)
    missing = [f"--{name}" for name in _OPTIONS if not getattr(given, name)]
    if missing:
        raise errors.UserError(
            f"Beam reaches {paths[0]} over WebHDFS, the name node's web address: give {', '.join(missing)} too, as in "
            "--hdfs_host=namenode --hdfs_port=9870 --hdfs_user=me --hdfs_full_urls."
        )
    if not importlib.util.find_spec("hdfs"):
        raise errors.UserError(f"Jobs on Beam need the package hdfs for {paths[0]}: {stores.INSTALL}")
    hosts = [_parts(path)[0] for path in paths]
    for path, host in zip(paths, hosts, strict=True):
        if not host:
            raise errors.UserError(f"{path} names no name node: give hdfs://host:port/path.")
        if host != hosts[0]:
            raise errors.UserError(
                f"A job on Beam knows one HDFS, that of --hdfs_host: {paths[0]} and {path} are of two."
            )
    _ask(f"http://{given.hdfs_host}:{given.hdfs_port}", given.hdfs_user, paths)


def _ask(address: str, user: str, paths: list[str]) -> None:
    import hdfs

    client = hdfs.InsecureClient(address, user=user, timeout=_ANSWERS_WITHIN)
    for path in paths:
        try:
            with contextlib.suppress(FileNotFoundError), explained(path):
                client.status(_parts(path)[1])
        except (OSError, LookupError, TypeError, ValueError) as error:  # of JSON that is not WebHDFS's, the latter
            raise errors.UserError(
                f"HDFS at {address} refuses {path} or does not answer ({errors.brief(error)}): check --hdfs_user, and "
                "--hdfs_host and --hdfs_port, which are those of the name node's web address."
            ) from error


def _parts(path: str) -> tuple[str, str]:
    """The name node of a path, and the path within HDFS."""
    host, _, inside = path.partition("://")[2].partition("/")
    return host, f"/{inside}"


@contextlib.contextmanager
def explained(path: str) -> Iterator[None]:
    """Turns the errors of the client, and of what Beam reads with it, into Python's.

    Raises:
      FileNotFoundError: HDFS says that there is no such thing.
      OSError: It refuses or does not answer.
    """
    import hdfs
    import urllib3

    try:
        yield
    except urllib3.exceptions.HTTPError as error:  # an answer that breaks off
        raise OSError(errors.brief(error)) from error
    except hdfs.HdfsError as error:
        said = error.args[0] if error.args else "no reason given"
        said = said.decode(errors="replace").strip() if isinstance(said, bytes) else said
        # Below a file: how Hadoop calls that has changed, what it says has not.
        if error.exception == "FileNotFoundException" or said.endswith("(is not a directory)"):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
        raise OSError(said) from error


@contextlib.contextmanager
def _client(path: str) -> Iterator[tuple["hdfs.Client", str]]:
    """The client by which Beam reads, for this process, and the path within HDFS; errors as of `explained`."""
    with explained(path):
        yield FileSystems.get_filesystem(path)._hdfs_client, _parts(path)[1]


def _status(path: str) -> dict | None:
    """WebHDFS's FileStatus; None where there is nothing."""
    with contextlib.suppress(FileNotFoundError), _client(path) as (client, inside):
        return client.status(inside)
    return None


def exists(path: str) -> bool:
    """Whether there is a file or a directory.

    Raises:
      OSError: HDFS refuses or does not answer.
    """
    return _status(path) is not None


def _metadata(path: str, status: dict) -> FileMetadata:
    return FileMetadata(path, status["length"], status["modificationTime"] / 1000)


def _list(directory: str) -> list[tuple[str, dict]]:
    """(path, WebHDFS's FileStatus) of what is in a directory; [] where it is gone."""
    with contextlib.suppress(FileNotFoundError), _client(directory) as (client, inside):
        return [(posixpath.join(directory, name), status) for name, status in client.list(inside, status=True)]
    return []


def children(directory: str) -> list[FileMetadata]:
    """The files in a directory, without those in directories below; [] where there is none.

    Raises:
      OSError: HDFS refuses or does not answer.
    """
    status = _status(directory)
    if not status or status["type"] == "FILE":
        return []
    return [_metadata(path, status) for path, status in _list(directory) if status["type"] == "FILE"]


def tree(root: str) -> list[FileMetadata]:
    """The files below a directory, however deep; the file itself where it is one; [] where nothing is.

    Raises:
      OSError: HDFS refuses or does not answer.
    """
    status = _status(root)
    return _below(root, status) if status else []


def _below(path: str, status: dict) -> list[FileMetadata]:
    if status["type"] == "FILE":
        return [_metadata(path, status)]
    return [entry for each in _list(path) for entry in _below(*each)]


def write(path: str, data: bytes | BinaryIO) -> None:
    """Writes a file, in place of the one that is there.

    Raises:
      OSError: HDFS refuses or does not answer.
    """
    with _client(path) as (client, inside):
        client.write(inside, data=data, overwrite=True)


def delete(path: str) -> None:
    """Deletes a file, or a directory with all that is in it, if it is there.

    Raises:
      OSError: HDFS refuses or does not answer.
    """
    with _client(path) as (client, inside):
        client.delete(inside, recursive=True)


def rename(source: str, target: str) -> None:
    """Moves a file or directory to where nothing is.

    Raises:
      FileExistsError: Something is there.
      OSError: HDFS refuses or does not answer.
    """
    if exists(target):
        raise _taken(target)
    try:
        with _client(source) as (client, inside):
            client.rename(inside, _parts(target)[1])
    except OSError:
        # Perhaps it is done, and the answer alone was lost.
        if exists(source) or not exists(target):
            raise
    # Where a directory has come to be there since, HDFS has moved it into that.
    strayed = posixpath.join(target, posixpath.basename(source))
    try:
        has_strayed = exists(strayed)
    except OSError:
        return  # It is done; that no more can be asked is no failure.
    if has_strayed:
        with _client(strayed) as (client, inside):
            client.rename(inside, _parts(source)[1])
        raise _taken(target)


def _taken(path: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)


def move(source: str, target: str) -> None:
    """Moves a file that several tries may make at once, all alike, to its place: the first of them stays.

    Raises:
      OSError: HDFS refuses or does not answer.
    """
    try:
        rename(source, target)
    except OSError:
        made, there = _status(source), _status(target)
        if not made or not there:
            raise
        if made["length"] == there["length"]:
            delete(source)
        else:  # of a try that broke off
            delete(target)
            rename(source, target)
