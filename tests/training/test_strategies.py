"""One device, two replicas and two worker processes: the same losses."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from stat_tf import errors
from stat_tf.training import checkpoints, strategies
from tests import datasets, runs

CLUSTER = {"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}


def test_workers_are_read_from_the_environment(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(CLUSTER))
    assert strategies.read_cluster() == (("a:1", "b:1"), 1)
    with_chief = {"cluster": {"chief": ["c:1"], "worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(with_chief))
    assert strategies.read_cluster() == (("c:1", "a:1", "b:1"), 2)
    monkeypatch.setenv("TF_CONFIG", json.dumps(with_chief | {"task": {"type": "chief", "index": 0}}))
    assert strategies.read_cluster().index == 0


@pytest.mark.parametrize(
    "config",
    [
        "worker 0",
        "[1]",
        '{"cluster": {"worker": ["a:1"]}}',
        json.dumps(CLUSTER | {"task": {"type": "worker", "index": 2}}),
        json.dumps(CLUSTER | {"task": {"type": "ps", "index": 0}}),
        json.dumps(CLUSTER | {"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}}),
        json.dumps(CLUSTER | {"cluster": {"worker": ["a", "b"]}}),
    ],
)
@pytest.mark.parametrize("name", ["auto", "multi_worker"])
def test_bad_cluster_is_one_sentence(config, name, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(errors.UserError, match="TF_CONFIG does not name workers"):
        strategies.make_strategy(name)


@pytest.mark.parametrize("config", ["", "{}", '{"cluster": {}}'])
def test_several_workers_need_a_cluster_and_others_do_not(config, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(errors.UserError, match="--strategy=multi_worker needs the workers' addresses in TF_CONFIG"):
        strategies.make_strategy("multi_worker")
    assert strategies.make_strategy("auto").num_replicas_in_sync == 1


def test_one_device_and_a_cluster_of_one_are_no_matter_of_workers(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(CLUSTER))
    assert strategies.make_strategy("one_device") is tf.distribute.get_strategy()
    alone = {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(alone))
    assert strategies.make_strategy("auto") is tf.distribute.get_strategy()


_ONE_AND_TWO_DEVICES = """
import json, sys
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from stat_tf import errors
from stat_tf.training import assembly, strategies
from tests import runs

data, output, changes = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
assert strategies.make_strategy("mirrored").num_replicas_in_sync == 2
try:
    runs.train(data, f"{output}/small", strategy="mirrored", batch_size=1)
except errors.UserError as error:
    assert "--batch_size=1 is too small for 2 devices" in str(error)
else:
    raise AssertionError("a device without a clip")
build = assembly.build
def build_frozen(config, info):
    model = build(config, info)
    runs.freeze_batch_norm(model)
    return model
assembly.build = build_frozen if changes.pop("frozen", False) else build
for strategy in ("one_device", "mirrored"):
    runs.train(data, f"{output}/{strategy}", strategy=strategy, dropout=0.5, clip_norm=0.5, **changes)
"""
# 12 steps, every third of a single clip.
TRAINED = {"epochs": 4, "stage": "stat"}
# Batches of unlike shares, and a loss scale (activations stay in float32 without `set_up_runtime`).
SCALED = {"epochs": 2, "batch_size": 3, "precision": "float16", "optimizer": "adamw", "learning_rate": 1e-3}
# Parts of a batch, in which only frozen batch normalisation is the same.
PARTS = {"epochs": 3, "accumulation_steps": 2, "stage": "stat", "frozen": True}
# Clips, labelled and not, with soft labels.
MIXED = {"epochs": 2, "stage": "stat", "train_splits": "train,unlabeled", "soft_label_weight": 0.5}


def history(run_dir):
    return [json.loads(line) for line in (run_dir / "history.jsonl").read_text().splitlines()]


def same(run_dir, other):
    ours, theirs = history(run_dir), history(other)
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs):
        assert one == pytest.approx(two, rel=1e-5, abs=1e-5)
    return True


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("changes", "steps"),
    [(TRAINED, [3, 6, 9, 12]), (SCALED, [3, 6]), (PARTS, [3, 6, 9]), (MIXED, [3, 6])],
    ids=["trained", "scaled", "parts", "mixed"],
)
def test_two_replicas_train_as_one_device_does(tmp_path, changes, steps):
    """Losses, precisions, evaluation and weights; trained batch norm, dropout, clipping, a last batch of one clip."""
    mixed = "train_splits" in changes
    clips = {"train": 6, "unlabeled": 3} if mixed else {"train": 9}
    datasets.write_dataset(tmp_path / "data", clips=clips | {"test": 5})
    if changes.get("stage") == "stat":
        runs.untrained(tmp_path / "data", tmp_path / "teacher", stage="teacher", student_input="upsample")
        changes = changes | {"teacher_run": str(tmp_path / "teacher")}
    # A process a case: TensorFlow does not start collectives afresh for another model.
    command = [sys.executable, "-c", _ONE_AND_TWO_DEVICES, str(tmp_path / "data"), str(tmp_path), json.dumps(changes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    assert same(tmp_path / "one_device", tmp_path / "mirrored")
    assert [epoch["step"] for epoch in history(tmp_path / "mirrored")] == steps
    assert len({round(epoch["loss"], 6) for epoch in history(tmp_path / "mirrored")}) == len(steps)
    one, two = (checkpoints.load_recognizer(str(tmp_path / name), "last")[0] for name in ("one_device", "mirrored"))
    for ours, theirs in zip(one.variables, two.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5, err_msg=ours.name)


def free_ports(count):
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in listeners]
    for listener in listeners:
        listener.close()
    return ports


def start_workers(tmp_path, *flags):
    """Two processes of `stat_tf.train`; each one's output goes to a file of its own."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = os.environ | {"TF_CONFIG": json.dumps(task), "TF_CPP_MIN_LOG_LEVEL": "3"}
        with open(tmp_path / f"worker-{index}.log", "w") as log:
            command = [sys.executable, "-m", "stat_tf.train", *flags[index]]
            processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
    return processes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "number", "code"),
    # TensorFlow, in which the chief waits, lets no handler of Python's run.
    [(0, signal.SIGINT, -signal.SIGINT), (1, signal.SIGINT, 130), (1, signal.SIGTERM, -signal.SIGTERM)],
)
def test_a_worker_that_waits_for_others_can_be_ended(tmp_path, index, number, code):
    datasets.write_dataset(tmp_path / "data")
    cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
    task = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
    flags = ["--stage=student", f"--data_dir={tmp_path}/data", f"--run_dir={tmp_path}/run", "--width=0.0625"]
    worker = subprocess.Popen(
        [sys.executable, "-m", "stat_tf.train", *flags],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TF_CONFIG": task, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    try:
        assert f"Worker {index} of 2" in worker.stderr.readline()
        time.sleep(5)  # until it waits
        worker.send_signal(number)
        assert worker.wait(30) == code
    finally:
        worker.kill()
    assert not (tmp_path / "run").exists()


def log_of(tmp_path, index):
    return (tmp_path / f"worker-{index}.log").read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_train_as_one_device_does_and_go_on_after_one_was_killed(tmp_path):
    # A last batch of unlike shares. (Of a single clip, normalised by itself, it would blow the rounding of sums up.)
    datasets.write_dataset(tmp_path / "data", clips={"train": 11, "test": 5})
    settings = {"width": 0.125, "student_input": "native", "dropout": 0.5, "batch_size": 4, "learning_rate": 0.001}
    settings |= {"data_dir": tmp_path / "data", "stage": "student", "backbone": "resnet18", "clip_norm": 0.5}
    settings |= {"epochs": 4, "warmup_epochs": 0, "decay_epochs": 2}
    flags = [f"--{name}={value}" for name, value in settings.items()]
    both = [*flags, f"--run_dir={tmp_path / 'workers'}", "--strategy=multi_worker"]
    processes = []
    try:
        # Other flags for the second: nobody waits for ever, and nothing is written.
        processes += start_workers(tmp_path, both, [*both, "--momentum=0.5"])
        assert [process.wait(timeout=240) for process in processes] == [1, 1], log_of(tmp_path, 0)
        assert "error: The workers have different settings" in log_of(tmp_path, 0) + log_of(tmp_path, 1)
        assert not (tmp_path / "workers").exists()

        processes += start_workers(tmp_path, both, both)
        deadline = time.monotonic() + 240
        while not (tmp_path / "workers" / "history.jsonl").exists():
            assert time.monotonic() < deadline and processes[-1].poll() is None, log_of(tmp_path, 1)
            time.sleep(0.002)
        processes[-1].send_signal(signal.SIGKILL)
        assert processes[-2].wait(timeout=120) == 1
        lines = log_of(tmp_path, 0).splitlines()
        assert lines[-1].startswith("error: Worker 0 stops: another of the 2 was lost"), lines
        assert "Traceback" not in "".join(lines)
        assert len(history(tmp_path / "workers")) < 4

        processes += start_workers(tmp_path, both, both)
        assert [process.wait(timeout=240) for process in processes[-2:]] == [0, 0], log_of(tmp_path, 0)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert "Resuming" in log_of(tmp_path, 0) and "is finished" in log_of(tmp_path, 0)
    # The other worker says that it waits, and no more.
    assert log_of(tmp_path, 1).count("\n") == 1, log_of(tmp_path, 1)
    [events] = {len(list((tmp_path / "workers" / "logs" / name).iterdir())) for name in ("train", "eval")}
    assert events == 2  # a file for each start of the chief
    command = [sys.executable, "-m", "stat_tf.train", *flags, f"--run_dir={tmp_path / 'one'}"]
    subprocess.run(command, check=True, timeout=240, capture_output=True)
    assert same(tmp_path / "one", tmp_path / "workers")
    # What several workers began, one device goes on with.
    shutil.rmtree(tmp_path / "workers" / "checkpoints" / "last" / "epoch-0004")
    command[-1] = f"--run_dir={tmp_path / 'workers'}"
    subprocess.run(command, check=True, timeout=240, capture_output=True)
    assert same(tmp_path / "one", tmp_path / "workers")
