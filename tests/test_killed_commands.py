"""Commands killed halfway and run again end with the same files as ones left alone.

Training and the dataset build have such tests beside their others.
"""

import pathlib
import signal
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from tests import datasets, runs

ROOT = pathlib.Path(__file__).parent.parent


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("killed")
    datasets.write_dataset(root / "data")
    runs.untrained(root / "data", root / "run")
    return root


def command(*arguments):
    return [sys.executable, "-m", *map(str, arguments)]


def complete(*arguments):
    done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def kill_when(condition, *arguments):
    """Starts a command and kills it as soon as the condition holds, which must be before its end."""
    process = subprocess.Popen(command(*arguments), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, "not caught halfway"
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def files(directory):
    """Contents by path of what a reader sees: names with a leading dot are nobody's business."""
    paths = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    return {
        str(path): (directory / path).read_bytes()
        for path in paths
        if not any(part.startswith(".") for part in path.parts)
    }


@pytest.mark.slow
def test_evaluation(trained):
    flags = ["stat_tf.evaluate", f"--run_dir={trained / 'run'}", f"--data_dir={trained / 'data'}"]
    complete(*flags, f"--output={trained / 'whole'}")
    killed = trained / "killed"
    kill_when(killed.exists, *flags, f"--output={killed}")
    assert not (killed / "metrics.json").exists()
    complete(*flags, f"--output={killed}")
    assert files(killed) == files(trained / "whole")


@pytest.mark.slow
def test_export(trained):
    flags = ["stat_tf.export", f"--run_dir={trained / 'run'}"]
    complete(*flags, f"--output={trained / 'export'}")
    killed = trained / "killed_export"
    kill_when(lambda: any(killed.glob(".export-*/model")), *flags, f"--output={killed}")
    assert not any(path.name.isdigit() for path in killed.iterdir())
    complete(*flags, f"--output={killed}")
    whole, again = files(trained / "export"), files(killed)
    assert whole.keys() == again.keys() and "1/saved_model.pb" in again
    # The graphs' bytes hold serial numbers of the process; the weights must be the same.
    for name in ("1/assets/labels.txt", "1/assets/model.json"):
        assert whole[name] == again[name]
    readers = [tf.train.load_checkpoint(str(path / "1/variables/variables")) for path in (trained / "export", killed)]
    names = readers[0].get_variable_to_shape_map()
    assert names == readers[1].get_variable_to_shape_map()
    for name in names:
        values = [reader.get_tensor(name) for reader in readers]
        assert values[0] == values[1] if isinstance(values[0], bytes) else (values[0] == values[1]).all()


@pytest.mark.slow
def test_rendering(tmp_path):
    flags = ["pipeline.synthetic", "--train_clips_per_class=1", "--test_clips_per_class=1", "--num_workers=2"]
    complete(*flags, f"--output={tmp_path / 'whole'}")
    killed = tmp_path / "killed"
    kill_when(lambda: any(killed.rglob("*.mp4")), *flags, f"--output={killed}")
    assert len(list(killed.rglob("*.mp4"))) < 16
    complete(*flags, f"--output={killed}")
    assert files(killed) == files(tmp_path / "whole")
