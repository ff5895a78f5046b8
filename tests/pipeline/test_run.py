"""`python -m pipeline.run` as users start, stop, kill and repeat it, from rendered videos on."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from stat_tf import processes

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EPOCHS = 25


@pytest.fixture
def flags(tmp_path):
    config = tmp_path / "config"
    config.mkdir()
    training = "--backbone=resnet18\n--width=0.125\n--student_input=native\n--eval_split=\n--batch_size=8\n"
    for stage in ("teacher", "student", "stat"):
        (config / f"{stage}.flags").write_text(f"{training}--stage={stage}\n--epochs={EPOCHS}\n")
    (config / "videos.flags").write_text("--train_clips_per_class=1\n--test_clips_per_class=1\n")
    (config / "build.flags").write_text("--layout=folders\n--hr_size=24x32\n--num_segments=2\n--num_snippets=1\n")
    return [f"--config={config}", f"--output={tmp_path / 'out'}", "--novalidate_examples"]


def command(flags):
    return [sys.executable, "-m", "pipeline.run", *flags]


def complete(flags):
    return subprocess.run(command(flags), cwd=ROOT, capture_output=True, text=True, timeout=300)


def start_and_wait(flags, condition, log):
    process = subprocess.Popen(command(flags), cwd=ROOT, stdout=log, stderr=log)
    deadline = time.monotonic() + 280
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, pathlib.Path(log.name).read_text()
        time.sleep(0.05)
    return process


def epochs_of(root):
    (path,) = list(root.glob("teacher/*/run/history.jsonl")) or [None]
    return [json.loads(line)["epoch"] for line in path.read_text().splitlines()] if path else []


def training_of(run_dir):
    """The process that trains there."""
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"--run_dir={run_dir}" in (entry / "cmdline").read_text().split("\0"):
                return int(entry.name)
        except OSError:
            pass  # it has ended meanwhile
    raise AssertionError(f"nothing trains in {run_dir}")


@pytest.mark.slow
def test_killed_run_goes_on_amid_its_training(flags, tmp_path):
    root = tmp_path / "out"
    with open(tmp_path / "log", "w") as log:
        killed = start_and_wait(flags, lambda: len(epochs_of(root)) >= 2, log)
        (run_dir,) = root.glob("teacher/*/run")
        killed.kill()
        killed.wait()
        # The training lives on, alone; nobody else may start one in its place.
        second = complete(flags)
        assert second.returncode == 1
        assert second.stderr.startswith("error: Another python -m pipeline.run, or a command that it began, is at work")
        shown = complete([*flags, "--show"]).stdout
        assert "> teacher" in shown and f"of {EPOCHS} is over" in shown

        os.kill(training_of(run_dir), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while processes.is_locked(str(root)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        done = len(epochs_of(root))
        assert 2 <= done < EPOCHS and not list(root.glob("teacher/*/manifest.json"))

    with open(tmp_path / "again", "w") as log:
        again = start_and_wait(flags, lambda: list(root.glob("teacher/*/manifest.json")), log)
        again.terminate()
        assert again.wait(timeout=60) == 128 + signal.SIGTERM
    said = (tmp_path / "again").read_text()
    assert "examples (ExampleGen): done" in said
    assert f"teacher (TeacherTrainer): to do, begun, epoch {done} of {EPOCHS} is over; goes on there" in said
    assert f"epoch {done}/{EPOCHS}" not in said and f"epoch {EPOCHS}/{EPOCHS}" in said
    assert said.endswith("Stopped; the same command goes on from here.\n")
    assert epochs_of(root) == list(range(1, EPOCHS + 1))
    made = json.loads(next(root.glob("teacher/*/manifest.json")).read_text())
    assert made["metrics"]["epochs"] == EPOCHS and list(made["lineage"]) == ["videos", "examples"]


def test_failing_component_ends_the_run_with_its_sentence(flags, tmp_path):
    done = complete([*flags, f"--videos={tmp_path / 'none'}"])
    assert done.returncode == 1 and "Traceback" not in done.stderr
    said, ours = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "none" in said and ours.startswith("error: examples (ExampleGen) failed: python -m pipeline.build_dataset")
    assert not list((tmp_path / "out").rglob("manifest.json"))


def test_bad_settings_are_named_before_anything_runs(flags, tmp_path):
    done = complete([*flags, "--set=teacher:--run_dir=x"])
    assert done.returncode == 1
    assert done.stderr == "error: --run_dir of node teacher is decided by the pipeline: leave it out.\n"
    done = complete([*flags[:1], "--output=s3://bucket/out"])
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: --output=s3://bucket/out must be a path of this machine, since a run locks")
    assert not (tmp_path / "out").exists() and not (ROOT / "s3:").exists()
