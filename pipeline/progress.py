"""A progress bar for work done by other processes of this machine."""

import contextlib
import os
import threading
from collections.abc import Iterator

import tqdm


def directory(staging: str, wanted: bool) -> str | None:
    """Where processes count their clips, one byte each; None when no bar is wanted."""
    return os.path.join(staging, "progress") if wanted else None


@contextlib.contextmanager
def shown(path: str | None, total: int) -> Iterator[None]:
    """Shows how many of `total` clips the files in a directory count, until the block ends.

    Args:
      path: From `directory`; None shows nothing.
      total: Clips.
    """
    if path is None:
        yield
        return
    os.makedirs(path)
    done = threading.Event()
    with tqdm.tqdm(total=total, unit="clip", disable=None) as bar:

        def update():
            with os.scandir(path) as entries:
                bar.update(sum(entry.stat().st_size for entry in entries) - bar.n)

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
