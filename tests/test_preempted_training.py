"""`python -m stat_tf.train` whose machine is taken away: killed at any step, or told to end in good time."""

import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from tests import datasets
from tests.training.test_resumption import assert_same_run

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Everything that has a state: momenta, a loss scale, dropout, random crops and colours.
FLAGS = ["--stage=teacher", "--backbone=resnet18", "--width=0.0625", "--init_from=none", "--dropout=0.3"]
FLAGS += ["--epochs=3", "--batch_size=4", "--accumulation_steps=2", "--warmup_epochs=1", "--learning_rate=0.01"]
FLAGS += ["--precision=float16", "--color_jitter=0.2", "--log_steps=1"]


def start(data, run_dir, *flags):
    command = [sys.executable, "-m", "stat_tf.train", *FLAGS, f"--data_dir={data}", f"--run_dir={run_dir}", *flags]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset and, in `whole`, a run on it of 3 epochs of 6 steps that nobody stopped."""
    root = tmp_path_factory.mktemp("root")
    datasets.write_dataset(root / "data", clips={"train": 23, "test": 6})
    finish(start(root / "data", root / "whole"))
    return root


def wait_for(process, condition):
    deadline = time.monotonic() + 240
    while not condition():
        if process.poll() is not None:
            return False
        assert time.monotonic() < deadline
        time.sleep(0.001)
    return True


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_run_killed_again_and_again_equals_one_never_killed(root):
    """Killed at random moments, every other time at the sight of a half-written checkpoint."""
    run_dir, chance, resumed, caught = root / "killed", random.Random(0), [], 0
    partial = run_dir / "checkpoints" / "partial"
    for attempt in range(6):
        before = set(partial.glob("*")) if partial.exists() else set()
        process = start(root / "data", run_dir, "--checkpoint_steps=1")
        glob = "*.tmp" if attempt % 2 else "epoch-????-step-??????"
        if wait_for(process, lambda glob=glob, before=before: set(partial.glob(glob)) - before):
            if glob != "*.tmp":
                time.sleep(chance.uniform(0, 0.25))
            process.send_signal(signal.SIGKILL)
        out, err = process.communicate(timeout=240)
        resumed += re.findall(r"Resuming .* after (.*)\.", out)
        caught += bool(list(partial.glob("*.tmp")))
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, err
    else:
        finish(start(root / "data", run_dir, "--checkpoint_steps=1"))
    assert sum("step" in place for place in resumed) >= 3, resumed
    assert caught, "no save was cut short"
    assert_same_run(root / "whole", run_dir)
    assert not list(run_dir.rglob("*.tmp"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_told_to_end_keeps_its_state_and_goes_on(root, number, code):
    run_dir = root / f"told {code}"
    process = start(root / "data", run_dir, "--checkpoint_steps=0")
    # The curves' first point is written in the first step.
    assert wait_for(process, lambda: any(path.stat().st_size > 100 for path in run_dir.glob("logs/train/*")))
    process.send_signal(number)
    if number == signal.SIGTERM:
        process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert "Traceback" not in err
    [line] = [line for line in err.splitlines() if "Stopped" in line]
    place = re.search(r"after (step \d of epoch \d|epoch \d) of 3 is kept", line)[1]
    rest = f"the state after {place} of 3 is kept in {run_dir}; the same command goes on there."
    assert line == f"Stopped by {number.name}: {rest}"
    out = finish(start(root / "data", run_dir, "--max_to_keep=1"))
    assert f"after {place} of 3" in out
    assert_same_run(root / "whole", run_dir)
    assert len(list((run_dir / "checkpoints/last").iterdir())) == 1


@pytest.mark.slow
def test_a_disk_that_refuses_ends_the_command_with_a_sentence(root, tmp_path):
    """A limit on the size of files stands in for a full disk; without it, the same command ends the run."""
    script = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (200000, 200000)); "
        "sys.argv = ['train', *sys.argv[1:]]; runpy.run_module('stat_tf.train', run_name='__main__')"
    )
    flags = [*FLAGS, f"--data_dir={root / 'data'}", f"--run_dir={tmp_path / 'run'}", "--checkpoint_steps=1"]
    done = subprocess.run(
        [sys.executable, "-c", script, *flags],
        cwd=ROOT,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert "cannot be written" in line and "run the same command again" in line
    assert not list((tmp_path / "run").rglob("*.tmp"))
    finish(start(root / "data", tmp_path / "run"))
    assert_same_run(root / "whole", tmp_path / "run")
