"""What users get wrong, in the commands themselves: one sentence that names it, exit code 1, no traceback."""

import os
import pathlib
import subprocess
import sys

import pytest

from tests import datasets, media, runs

ROOT = pathlib.Path(__file__).parent.parent


def refused(*arguments, cwd=ROOT):
    """Runs a command that must fail; returns its one line on stderr."""
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_truncated_shard_stops_training_before_it_starts(tmp_path):
    info = datasets.write_dataset(tmp_path / "data")
    shard = tmp_path / "data" / info.shards["train"][0].name
    shard.write_bytes(shard.read_bytes()[:-100])
    flags = ["--stage=student", "--backbone=resnet18", "--width=0.0625", "--student_input=native"]
    message = refused("stat_tf.train", *flags, f"--data_dir={tmp_path / 'data'}", f"--run_dir={tmp_path / 'run'}")
    assert shard.name in message and f"instead of {info.shards['train'][0].num_bytes}" in message
    assert not (tmp_path / "run").exists()


def test_evaluation_on_another_lr_size(tmp_path):
    datasets.write_dataset(tmp_path / "data")
    datasets.write_dataset(tmp_path / "other", lr_sizes=((6, 8),))
    runs.untrained(tmp_path / "data", tmp_path / "run")
    message = refused("stat_tf.evaluate", f"--run_dir={tmp_path / 'run'}", f"--data_dir={tmp_path / 'other'}")
    assert "12x16" in message and "6x8" in message
    assert not (tmp_path / "run" / "eval-test").exists()


@pytest.mark.parametrize("command", ["stat_tf.train", "stat_tf.evaluate"])
def test_missing_dataset_directory(command, tmp_path):
    datasets.write_dataset(tmp_path / "data")
    runs.untrained(tmp_path / "data", tmp_path / "run")
    stage = ["--stage=student"] if command == "stat_tf.train" else []
    message = refused(command, *stage, f"--data_dir={tmp_path / 'none'}", f"--run_dir={tmp_path / 'run'}")
    assert f"no directory {tmp_path / 'none'}" in message


def test_broken_videos_beyond_what_is_allowed(tmp_path):
    videos = tmp_path / "videos"
    media.encode_video(videos / "train" / "run" / "good.mp4", media.numbered_frames(9))
    (videos / "train" / "run" / "text.avi").write_text("This is no video.\n")
    (videos / "train" / "run" / "zero.mp4").write_bytes(b"")
    flags = ["--layout=folders", f"--videos={videos}", f"--output={tmp_path / 'data'}", "--num_segments=2"]
    message = refused("pipeline.build_dataset", *flags)
    assert "2 of 3 videos" in message
    assert not (tmp_path / "data").exists()
    rejected = (tmp_path / "data.rejected.jsonl").read_text()
    assert "text.avi" in rejected and "zero.mp4" in rejected


@pytest.mark.parametrize(
    "command, places, named",
    [
        ("pipeline.synthetic", {"output": "s3://bucket/videos"}, "output"),
        ("pipeline.run", {"config": "configs", "output": "s3://bucket/out"}, "output"),
        ("pipeline.run", {"config": "s3://bucket/configs", "output": "out"}, "config"),
    ],
)
def test_remote_place_of_what_must_be_local(command, places, named, tmp_path):
    """It is not taken for a directory of that name here."""
    message = refused(command, *(f"--{name}={place}" for name, place in places.items()), cwd=tmp_path)
    assert message.startswith(f"error: --{named}={places[named]} must be a path of this machine, since ")
    assert list(tmp_path.iterdir()) == []
