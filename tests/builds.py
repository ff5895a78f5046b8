"""Small builds of datasets: `python -m pipeline.build_dataset` in a process of its own, and the same in this one."""

import pathlib
import subprocess
import sys

from pipeline import beam_options, build, sources
from pipeline.clips_to_records import RecordSettings
from pipeline.outcome import BuildConfig

ROOT = pathlib.Path(__file__).parents[1]
FRAMES = ("--hr_size=24x32", "--lr_size=12x16", "--num_segments=2", "--num_snippets=2")  # as `record_settings`


def record_settings(**changes) -> RecordSettings:
    """Two segments of two snippets of one frame, 24x32 and 12x16, degraded by default; `changes` by field name."""
    settings = {
        **{"num_segments": 2, "num_snippets": 2, "num_frames": 1, "frame_stride": 1},
        **{"hr_size": (24, 32), "lr_sizes": ((12, 16),), "jpeg_quality": 95, "lens_blur": 0.25, "noise": 2.0},
    }
    return RecordSettings(**settings | changes)


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


def build_here(videos, output, beam=("--direct_running_mode=in_memory",), **config):
    """Builds from folders, by default on one worker in this process; returns the dataset's contents."""
    listing = sources.read("folders", str(videos), None, None)
    config = BuildConfig(str(videos), str(output), record_settings(), **config)
    build.build(listing, config, beam_options.parse(list(beam), 0))
    return contents(output)


def contents(directory):
    """The bytes of a directory's files, by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}
