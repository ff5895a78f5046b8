"""Processes of this machine, as /proc tells of them, and waiting for what they do."""

import pathlib
import time

PATIENCE = 300  # seconds, on a machine that may have other things to do


def children_of(process, command=""):
    """Ids of the processes that a process has started and that run; `command` is a part of their command line."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"PPid:\t{process}\n" in (entry / "status").read_text() and command in (entry / "cmdline").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return [child for child in found if is_running(child)]


def is_running(process):
    """Whether there is a process of that id that has not ended."""
    try:
        return "State:\tZ" not in pathlib.Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def wait_until(condition, what, pause=0.05):
    """Waits until `condition()`; fails with `what` when that takes too long."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(pause)
