"""A progress bar for work done by other processes of this machine."""

import contextlib
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Iterator

import tqdm

from stat_tf import files

_ADDED = "+"


def directory(staging: str, wanted: bool) -> str | None:
    """Where processes count their clips (see `report`), on this machine; None when no bar is wanted."""
    if not wanted:
        return None
    if files.is_remote(staging):
        return os.path.join(tempfile.gettempdir(), f"stat_tf-progress-{uuid.uuid4().hex}")
    return os.path.join(staging, "progress")


def report(path: str | None, done: int = 0, added: int = 0) -> None:
    """Counts this process's clips.

    Args:
      path: From `directory`; None counts nothing.
      done: Clips that are finished.
      added: Clips found beyond those that `shown` was told of.
    """
    for name, number in ((str(os.getpid()), done), (f"{os.getpid()}{_ADDED}", added)):
        if path and number > 0:
            # A full disk is told of by those whose files matter.
            with contextlib.suppress(OSError), open(os.path.join(path, name), "ab") as file:
                file.write(b"." * number)


@contextlib.contextmanager
def shown(path: str | None, total: int) -> Iterator[None]:
    """Shows how many of `total` clips the files in a directory count, until the block ends.

    Args:
      path: From `directory`; None shows nothing.
      total: Clips that are known of; those found on the way are added.
    """
    if path is None:
        yield
        return
    with contextlib.suppress(OSError):
        os.makedirs(path)
    done = threading.Event()
    with tqdm.tqdm(total=total, unit="clip", disable=None) as bar:

        def update():
            counts = {False: 0, True: 0}
            with contextlib.suppress(OSError), os.scandir(path) as entries:
                for entry in entries:
                    counts[entry.name.endswith(_ADDED)] += entry.stat().st_size
            bar.total = total + counts[True]
            bar.update(counts[False] - bar.n)

        def watch():
            while not done.wait(0.5):
                update()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()
            update()
            shutil.rmtree(path, ignore_errors=True)
