"""`python -m stat_tf.train` as users run it: real processes, killed ones among them."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from tests import datasets, runs

ENVIRONMENT = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}


def command(*flags):
    return [sys.executable, "-m", "stat_tf.train", *map(str, flags)]


def run(*flags):
    return subprocess.run(command(*flags), capture_output=True, text=True, timeout=300, env=ENVIRONMENT)


def fails_in_a_sentence(done, message):
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    return True


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset and a flag file, `small.flags`, that trains the smallest network on it."""
    root = tmp_path_factory.mktemp("root")
    datasets.write_dataset(root / "data", clips={"train": 10, "test": 4})
    (root / "data.flags").write_text(f"# The clips.\n--data_dir={root}/data\n--color_jitter=0.2\n")
    (root / "small.flags").write_text(
        f"--flagfile={root}/data.flags\n"
        "--backbone=resnet18\n--width=0.0625\n--student_input=native\n--dropout=0.3\n"
        "--batch_size=4\n--epochs=1\n--warmup_epochs=1\n--learning_rate=0.01\n--init_from=none\n"
    )
    return root


def test_misspelt_flag_in_a_nested_flag_file_is_named(root):
    (root / "misspelt.flags").write_text("--learning_rat=0.1\n")
    (root / "outer.flags").write_text(f"--flagfile={root}/small.flags\n--flagfile={root}/misspelt.flags\n")
    done = run("--stage=student", f"--run_dir={root}/misspelt", f"--flagfile={root}/outer.flags")
    assert done.returncode == 1
    assert "Unknown command line flag 'learning_rat'" in done.stderr and "Traceback" not in done.stderr
    assert not (root / "misspelt").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--stage=student", "--lr_size=6x8"], "holds LR frames of 12x16, not 6x8"),
        (["--stage=student", "--data_dir=nowhere"], "There is no directory nowhere"),
        (["--stage=stat"], "--stage=stat needs --teacher_run"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(root, flags, message):
    done = run(f"--flagfile={root}/small.flags", f"--run_dir={root}/bad", *flags)
    assert fails_in_a_sentence(done, message)
    assert not (root / "bad").exists()


def contents(run_dir):
    """Every variable of the last checkpoint by name, and the text of the history."""
    [*_, last] = sorted((run_dir / "checkpoints" / "last").iterdir())
    arrays = {}
    for part in ("recognizer", "optimizer"):
        reader = tf.train.load_checkpoint(str(last / part))
        for name in reader.get_variable_to_shape_map():
            arrays[part, name] = reader.get_tensor(name)
    best = [path.name for path in (run_dir / "checkpoints" / "best").iterdir()]
    return last.name, arrays, best, (run_dir / "history.jsonl").read_text()


def kill_when(process, condition):
    deadline = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()


def start(log, *flags):
    return subprocess.Popen(command(*flags), stdout=log, stderr=log, env=ENVIRONMENT)


# Each stage's flags (the teacher's bring a loss scale, which has to be resumed too), and the file at whose
# sight it is killed: amid an epoch's steps, or a checkpoint's writing.
STAGES = {
    "teacher": ["--precision=float16", "--accumulation_steps=2"],
    "student": [],
    "stat": ["--epochs=3", "--weights=rolling", "--rolling_period=1"],
}
KILLED_AT = {"teacher": "epoch-0001", "student": "epoch-0001", "stat": "epoch-0002.tmp"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_and_resumed_stages_equal_ones_never_killed(root):
    """Two chains of teacher, student and stat side by side: one left alone, one killed in every stage."""
    outputs = {}
    for stage, extra in STAGES.items():
        flags = [f"--flagfile={root}/small.flags", "--epochs=2", "--log_steps=1", f"--stage={stage}", *extra]
        chains = {}
        for name in ("whole", "killed"):
            others = [f"--teacher_run={root}/{name}/teacher", f"--init_run={root}/{name}/student"]
            chains[name] = [*flags, *(others if stage == "stat" else []), f"--run_dir={root}/{name}/{stage}"]
        with open(root / f"whole-{stage}.log", "w+") as log, open(root / "killed.log", "w") as killed_log:
            whole = start(log, *chains["whole"])
            last = root / "killed" / stage / "checkpoints" / "last"
            kill_when(start(killed_log, *chains["killed"]), (last / KILLED_AT[stage]).exists)
            assert len(list(last.glob("epoch-????"))) < (3 if stage == "stat" else 2), "killed too late"
            outputs[stage] = run(*chains["killed"])
            assert outputs[stage].returncode == 0, outputs[stage].stderr
            assert "Resuming" in outputs[stage].stdout
            assert whole.wait(240) == 0, (root / f"whole-{stage}.log").read_text()

        expected, found = (contents(root / name / stage) for name in ("whole", "killed"))
        assert expected[0] == found[0] == ("epoch-0003" if stage == "stat" else "epoch-0002")
        assert expected[2:] == found[2:]
        assert expected[1].keys() == found[1].keys()
        for key, values in expected[1].items():
            np.testing.assert_array_equal(values, found[1][key], err_msg=f"{stage} {key}")
    assert "prec@1 on split test: best" in outputs["stat"].stdout and "stat_tf.evaluate" in outputs["stat"].stdout

    other = run(*chains["killed"], "--epochs=5")
    assert other.returncode == 1
    assert "holds a run with epochs=3, but this command has epochs=5" in other.stderr


@pytest.fixture(scope="module")
def finished(root):
    """Finished runs of a teacher and a student, named after the flags that want them."""
    runs.untrained(root / "data", root / "finished/teacher_run", stage="teacher", width=0.0625)
    runs.untrained(root / "data", root / "finished/init_run", width=0.0625)
    return root / "finished"


def edit_architecture(run_dir):
    """The network that is built from the configuration is not the one whose weights were saved."""
    config = json.loads((run_dir / "config.json").read_text())
    config["recognizer"]["backbone"] = "resnet34"
    (run_dir / "config.json").write_text(json.dumps(config))


def truncate_best(run_dir):
    [data] = run_dir.glob("checkpoints/best/*/recognizer.data-*")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flag", "damage", "message"),
    [
        ("teacher_run", edit_architecture, "is of another architecture than asked for"),
        ("init_run", edit_architecture, "has another architecture: backbone=resnet34, not resnet18"),
        ("teacher_run", truncate_best, "epoch-0001 is damaged"),
        ("init_run", truncate_best, "epoch-0001 is damaged"),
    ],
)
def test_bad_checkpoint_to_start_from_is_one_sentence_and_leaves_nothing_behind(
    root, finished, tmp_path, flag, damage, message
):
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / flag)
    others = [f"--{name}={tmp_path}/{name}" for name in ("teacher_run", "init_run")]
    done = run(f"--flagfile={root}/small.flags", "--stage=stat", *others, f"--run_dir={tmp_path}/run")
    assert fails_in_a_sentence(done, message)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_run_dir_that_is_a_file_is_one_sentence(root, tmp_path):
    (tmp_path / "file").write_text("mine")
    done = run(f"--flagfile={root}/small.flags", "--stage=student", f"--run_dir={tmp_path}/file")
    assert fails_in_a_sentence(done, f"--run_dir={tmp_path}/file cannot be written to")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_not_a_number_ends_the_command_with_the_step(root):
    # A rate that overflows at once, unclipped.
    flags = [f"--flagfile={root}/small.flags", "--clip_norm=0", "--warmup_epochs=0", "--learning_rate=1e30"]
    done = run(*flags, "--stage=student", f"--run_dir={root}/diverged")
    assert done.returncode == 1
    assert "is not finite at step" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(pathlib.Path(root, "diverged", "config.json").read_text())["learning_rate"] == 1e30


@pytest.mark.slow
def test_truncated_shard_is_named(root, tmp_path):
    datasets.write_dataset(tmp_path / "data", clips={"train": 10, "test": 4})
    shard = tmp_path / "data" / "train-00001-of-00002.tfrecord"
    shard.write_bytes(shard.read_bytes()[:-100])
    done = run(
        f"--flagfile={root}/small.flags", f"--data_dir={tmp_path}/data", "--stage=student", f"--run_dir={tmp_path}/r"
    )
    assert done.returncode == 1
    assert "train-00001-of-00002.tfrecord" in done.stderr and "Traceback" not in done.stderr
