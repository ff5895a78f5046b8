"""HDFS by Beam's file system, over WebHDFS: made ready, and listed, for Beam lists one directory at a time there."""

import re

from apache_beam.io.filesystem import BeamIOError, FileMetadata
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import HadoopFileSystemOptions, PipelineOptions

from stat_tf import errors, stores

_OPTIONS = ("hdfs_host", "hdfs_port", "hdfs_user", "hdfs_full_urls")
_PATTERN = re.compile(r"[*?\[]")


def holds(path: str) -> bool:
    """Whether a path is of HDFS."""
    return stores.scheme(path) == "hdfs"


def check(options: PipelineOptions, path: str) -> None:
    """Checks that Beam can use HDFS, and that it answers.

    Args:
      options: Beam's options.
      path: A path of hdfs://.

    Raises:
      UserError: An option or a package is missing, or HDFS refuses or does not answer.
    """
    given = options.view_as(HadoopFileSystemOptions)
    missing = [f"--{name}" for name in _OPTIONS if not getattr(given, name)]
    if missing:
        raise errors.UserError(
            f"Beam reaches {path} over WebHDFS, the name node's web address: give {', '.join(missing)} too, as in "
            "--hdfs_host=namenode --hdfs_port=9870 --hdfs_user=me --hdfs_full_urls."
        )
    try:
        FileSystems.exists(path)
    except ImportError as error:
        raise errors.UserError(f"Jobs on Beam need a package for hdfs://: {stores.INSTALL}") from error
    except Exception as error:  # of the client's own, of requests, of Beam
        raise errors.UserError(
            f"HDFS does not answer at http://{given.hdfs_host}:{given.hdfs_port} ({errors.brief(error)}): check "
            "--hdfs_host and --hdfs_port, which are those of the name node's web address."
        ) from error


def children(directory: str) -> list[FileMetadata] | None:
    """The files and directories in a directory, the latter of no bytes; None where it is a file or not there.

    Raises:
      OSError: HDFS refuses or does not answer.
      UserError: Beam would read the path as a pattern.
    """
    if _PATTERN.search(directory):
        raise errors.UserError(f"Beam reads *, ? and [ in {directory} as a pattern: give it another name.")
    if not FileSystems.exists(directory):
        return None
    try:
        return FileSystems.match([directory.rstrip("/") + "/*"])[0].metadata_list
    except BeamIOError as error:
        # Beam tells nothing of a path but its bytes and time, and WebHDFS's client this alone.
        if "is not a directory" in str(error):
            return None
        raise


def tree(root: str) -> list[FileMetadata]:
    """The files below a directory, however deep; the file itself where it is one; [] where nothing is.

    Raises:
      OSError: HDFS refuses or does not answer.
      UserError: Beam would read a path as a pattern.
    """
    entries = children(root)
    if entries is None:
        return FileSystems.match([root])[0].metadata_list
    found = []
    for entry in entries:
        # A directory has no bytes; neither has an empty file.
        found += [entry] if entry.size_in_bytes else tree(entry.path)
    return found
