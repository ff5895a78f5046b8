"""The whole job, from videos to predictions, with every path in S3: against a server on loopback, by real commands."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from pipeline import named_files
from pipeline.graph import Call
from stat_tf import digests
from stat_tf.training import checkpoints
from tests import media, s3

ROOT = pathlib.Path(__file__).parent.parent
STORE = f"s3://{s3.BUCKET}"
CLASSES = ("jump", "run")
TRAIN = ["--stage=teacher", "--backbone=resnet18", "--width=0.125", "--init_from=none", "--batch_size=2", "--epochs=2"]
TRAIN += ["--checkpoint_steps=1", "--log_steps=1", "--warmup_epochs=0", "--learning_rate=0.01", "--eval_split="]
TRAIN += ["--deterministic"]


class Store:
    """The server's bucket, and what commands that use it have printed."""

    def __init__(self, environment):
        self.environment = environment
        self.client = s3.client(environment)
        self.printed = ""

    def start(self, *arguments, **changes):
        return subprocess.Popen(
            [sys.executable, "-m", *arguments],
            cwd=ROOT,
            env=self.environment | changes,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments, code=0, **changes):
        """Runs a command to its end, which is its exit code; returns what it prints on stdout and stderr."""
        process = self.start(*arguments, **changes)
        out, err = process.communicate(timeout=400)
        self.printed += out + err
        assert process.returncode == code, err
        for noise in ("Traceback", "virtual method", "terminate called"):
            assert noise not in err
        return out, err

    def names(self, prefix=""):
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=s3.BUCKET, Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key):
        return self.client.get_object(Bucket=s3.BUCKET, Key=key)["Body"].read()

    def put(self, key, data):
        self.client.put_object(Bucket=s3.BUCKET, Key=key, Body=data)

    def download(self, prefix, directory):
        for key in self.names(f"{prefix}/"):
            path = directory / key.removeprefix(f"{prefix}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.read(key))


@pytest.fixture(scope="module")
def store():
    with s3.serve() as environment:
        yield Store(environment)


def upload_videos(store, directory):
    rng = np.random.default_rng(0)
    for split, number in (("train", 4), ("test", 2)):
        for clip in range(number):
            frames = rng.integers(0, 256, (9, 48, 64, 3), np.uint8)
            name = f"{split}/{CLASSES[clip % 2]}/{clip}.mp4"
            store.put(f"videos/{name}", media.encode_video(directory / name, frames).read_bytes())


def train_killed_and_resumed(store):
    """Trains, is killed at the first checkpoint amid an epoch, and again to the end over what a kill can leave."""
    command = ["stat_tf.train", *TRAIN, f"--data_dir={STORE}/data", f"--run_dir={STORE}/run"]
    process = store.start(*command)
    partial = "run/checkpoints/partial/epoch-0001-step-000001"
    deadline = time.monotonic() + 240
    while f"{partial}/state.json" not in store.names(partial):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    store.printed += "".join(process.communicate())
    assert not store.names("run/checkpoints/last"), "not caught amid the first epoch"
    store.put("run/checkpoints/partial/epoch-0001-step-000099/training.index", b"half")
    store.put("run/checkpoints/last/epoch-0009/recognizer.index", b"half")
    store.put("run/checkpoints/best/epoch-0009/recognizer.data-00000-of-00001", b"half")
    out, err = store.run(*command)
    assert f"Resuming {STORE}/run after step" in out and "damaged" not in err
    assert all(line.startswith("epoch ") for line in err.splitlines()), err


def push(store, copy):
    """Pushes the export, which is as `copy` then, past what a push that was killed has left."""
    store.download("export/1", copy)
    approved = {
        "model_digest": digests.of(str(copy)),
        "pushed_digest": "",
        "blessed": True,
        "reasons": [],
        "verdict": "pass",
        "problems": [],
    }
    for name in ("blessing", "validation"):
        store.put(f"verdicts/{name}.json", json.dumps(approved))
    store.put("served/1/variables/variables.index", b"half")
    out, err = store.run(
        *("pipeline.push", f"--model={STORE}/export/1", f"--blessing={STORE}/verdicts"),
        *(f"--validation={STORE}/verdicts", f"--push_dir={STORE}/served", f"--output={STORE}/pushed"),
    )
    assert out == f"Version 2 of {STORE}/served is {STORE}/export/1.\n" and err == ""
    assert json.loads(store.read("pushed/pushed.json"))["directory"] == f"{STORE}/served/2"
    store.download("served", copy.parent / "served")
    assert [path.name for path in (copy.parent / "served").iterdir()] == ["2"]
    assert digests.of(str(copy.parent / "served" / "2")) == digests.of(str(copy))


@pytest.mark.slow
def test_changed_video_in_s3_is_seen_by_the_pipeline(store, monkeypatch):
    for name, value in store.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)

    def observed():
        call = Call({}, {"flags": {"layout": "folders", "videos": f"{STORE}/watched"}}, {}, "")
        return named_files.observe(call)["files of --videos"]

    store.put("watched/train/a/1.mp4", b"1")
    before = observed()
    store.put("watched-too/2.mp4", b"1")
    assert observed() == before
    store.put("watched/train/a/2.mp4", b"1")
    after = observed()
    assert after != before
    store.put("watched/train/a/2.mp4", b"12")
    assert observed() != after


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_videos_to_predictions_with_every_path_in_s3(store, tmp_path):
    upload_videos(store, tmp_path / "videos")
    out, err = store.run(
        "pipeline.build_dataset", "--layout=folders", f"--videos={STORE}/videos", f"--output={STORE}/data",
        "--hr_size=24x32", "--num_segments=2", "--num_shards=2",
    )  # fmt: skip
    assert "train: 4 clips in 2 files" in out and err == ""
    assert not (ROOT / "s3:").exists(), "a path in S3 was taken for one of this machine"
    assert not [key for key in store.names() if ".building" in key], "something is left of the building"
    assert store.read("data/rejected.jsonl") == b""

    out, err = store.run("pipeline.validate_examples", f"--data_dir={STORE}/data", f"--output={STORE}/report")
    assert f"The report is in {STORE}/report/report.html" in out and {"report/report.json", "report/report.html"} <= {
        *store.names()
    }

    train_killed_and_resumed(store)
    # The same training, on a copy of the dataset, with nothing in its way.
    store.download("data", tmp_path / "data")
    store.download("run", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "best" / "epoch-0009")
    store.run("stat_tf.train", *TRAIN, f"--data_dir={tmp_path / 'data'}", f"--run_dir={tmp_path / 'whole'}")
    resumed, whole = (checkpoints.load_recognizer(str(tmp_path / name))[0] for name in ("run", "whole"))
    for ours, theirs in zip(resumed.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    events = list((tmp_path / "run" / "logs" / "train").iterdir())
    steps = {event.step for path in events for event in tf.compat.v1.train.summary_iterator(str(path))}
    assert len(events) >= 2 and {1, 2, 3, 4} <= steps

    out, err = store.run("stat_tf.export", f"--run_dir={STORE}/run", f"--output={STORE}/export")
    assert f"Written: {STORE}/export/1" in out and err == ""
    push(store, tmp_path / "export")
    store.run("stat_tf.evaluate", f"--model={STORE}/served", f"--data_dir={STORE}/data", f"--output={STORE}/of-served")
    measured = json.loads(store.read("of-served/metrics.json"))
    assert (measured["model"], measured["num_clips"]) == (f"{STORE}/served/2", 2)
    assert measured["model_digest"] == digests.of(str(tmp_path / "export"))
    videos = f"{STORE}/videos/test/run/1.mp4,{STORE}/videos/none.mp4"
    out, err = store.run("stat_tf.predict", f"--model={STORE}/served", f"--videos={videos}", "--format=jsonl", code=1)
    assert {entry["class"] for entry in json.loads(out)["top"]} == set(CLASSES)
    assert err == f"error: {STORE}/videos/none.mp4 cannot be used as a video: no such file or directory.\n"

    store.run(
        *("pipeline.teacher_signals", f"--data_dir={STORE}/data", f"--teacher_run={STORE}/run"),
        *(f"--output={STORE}/signals", "--num_views=1"),
    )
    train_from_signals = ["--stage=student" if flag == "--stage=teacher" else flag for flag in TRAIN]
    train_from_signals += [f"--signals={STORE}/signals", f"--run_dir={STORE}/student"]
    out, err = store.run("stat_tf.train", *train_from_signals)
    assert "Stage student is finished" in out

    secret = store.environment["AWS_SECRET_ACCESS_KEY"]
    assert secret not in store.printed
    assert not [key for key in store.names() if secret.encode() in store.read(key)]


BUILD = ("pipeline.build_dataset", "--layout=folders", "--output=/dev/null/none", "--videos")
EVALUATE = ("stat_tf.evaluate", "--run_dir=none", "--data_dir")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, path, changes, said",
    [
        (BUILD, f"{STORE}/none", {"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, f"{STORE} cannot be used (An error occ"),
        (BUILD, "s3://no-bucket/x", {}, "s3://no-bucket cannot be used (An error occurred (NoSuchBucket)"),
        (EVALUATE, f"{STORE}/none", {"AWS_SECRET_ACCESS_KEY": "wrong-secret"}, f"{STORE} cannot be used (An error occ"),
        (EVALUATE, f"{STORE}/none", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, f"{STORE} cannot be used (Could not"),
    ],
    ids=["build: wrong key", "build: no bucket", "evaluate: wrong key", "evaluate: no server"],
)
def test_store_that_refuses_is_one_sentence(store, arguments, path, changes, said):
    """Of a job on Beam and of a command on TensorFlow; neither shows a secret."""
    out, err = store.run(*arguments[:-1], f"{arguments[-1]}={path}", code=1, **changes)
    assert out == "" and err.startswith(f"error: {said}") and err.count("\n") == 1, err
    assert "wrong-secret" not in err and store.environment["AWS_SECRET_ACCESS_KEY"] not in err
