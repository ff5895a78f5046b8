"""`python -m pipeline.build_dataset` in processes of its own, and what becomes of them."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[1]
FRAMES = ("--hr_size=24x32", "--lr_size=12x16", "--num_segments=2", "--num_snippets=2")  # small and few


def start(*arguments, **kwargs):
    """Starts the command; its output is kept as text."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline.build_dataset", *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **kwargs,
    )


def run(*arguments, **kwargs):
    """Runs the command; returns its exit code and what it wrote to stdout and stderr."""
    process = start(*arguments, **kwargs)
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def contents(directory):
    """The bytes of a directory's files, by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def children_of(process):
    """Ids of the processes that a process has started and that run."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"PPid:\t{process}\n" in (entry / "status").read_text():
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
