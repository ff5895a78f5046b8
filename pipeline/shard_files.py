"""Finished shards as files, here or in a store: there and whole, or not to be read now."""

import hashlib

from pipeline.sources import files
from stat_tf import errors


def unreadable(path: str, error: Exception) -> errors.UserError:
    """What ends the job: the shard may be sound, but a store does not answer now, or a file may not be read."""
    return errors.UserError(
        f"{path} cannot be read ({errors.brief(error)}): check that it may be read, and give the command again."
    )


def digest(path: str) -> tuple[str, int] | None:
    """A shard's SHA-256, hexadecimal, and its number of bytes; None where there is no such file.

    Raises:
      UserError: It cannot be read.
    """
    try:
        if not files.exists(path):
            return None
        with files.opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
    except Exception as error:  # clients of stores raise errors of many kinds
        raise unreadable(path, error) from error
