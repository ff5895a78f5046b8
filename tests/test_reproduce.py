"""The tables' command: what it runs, in which order, what it keeps when stopped, and what it says of bad input."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest

from stat_tf import errors, processes
from stat_tf.data import info as info_lib
from stat_tf.reproduction import figure, preparation, runner, tables
from stat_tf.training import checkpoints
from tests import datasets, runs

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The smallest network, without what takes time.
SMALL = """--backbone=resnet18
--width=0.125
--student_input=native
--batch_size=4
--epochs=2
--warmup_epochs=0
--learning_rate=0.01
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A dataset with all that a table can ask for, one without, and a configuration."""
    directory = tmp_path_factory.mktemp("reproduce")
    datasets.write_dataset(
        directory / "data",
        clips={"train": 6, "test": 4, "unlabeled": 3},
        lr_sizes=((12, 16), (6, 8), (18, 24), (24, 32)),
        flow=info_lib.FlowInfo("dis", 20.0),
    )
    datasets.write_dataset(directory / "plain")
    datasets.write_dataset(directory / "other", clips={"unlabeled": 2}, num_segments=3)
    (directory / "config").mkdir()
    for stage in ("teacher", "student", "stat"):
        (directory / "config" / f"{stage}.flags").write_text(f"{SMALL}--stage={stage}\n")
    return directory


def prepare(root, output, table="3", data="data", **changes):
    changes = {name: str(root / value) if name == "unlabeled_dir" else value for name, value in changes.items()}
    arguments = {
        "table": table,
        "rows": [],
        "data_dir": str(root / data),
        "unlabeled_dir": "",
        "config_dir": str(root / "config"),
        "train_flags": [],
        "seeds": 1,
        "scale": 1.0,
        "output": str(output),
    }
    return preparation.prepare(**arguments | changes)


@pytest.fixture
def flags_unchecked(monkeypatch):
    """Leaves out that every stage's flags are read once by stat_tf.train, which takes a process each."""
    monkeypatch.setattr(preparation, "_check_flags", lambda session: None)


class Pretended(processes.Commands):
    """Commands that leave what the real ones would, at once; the arguments name runs that end otherwise."""

    def __init__(self, fails="", stops="", breaks_off="", weights="first"):
        super().__init__(lock=-1)
        self.weights = weights
        self.ran, self._fails, self._stops, self._breaks_off = [], fails, stops, breaks_off

    def run(self, arguments, log_path, watch):
        flags = dict(argument.removeprefix("--").split("=", 1) for argument in arguments[1:])
        run_dir = pathlib.Path(flags["run_dir"])
        self.ran.append((arguments[0].removeprefix("stat_tf."), run_dir.name))
        assert pathlib.Path(log_path).parent == run_dir
        watch(1800.0)
        if self._stops and self._stops in run_dir.name:
            raise processes.Stopped(signal.SIGTERM)
        if self._fails and self._fails in run_dir.name:
            raise errors.UserError("python -m stat_tf.train failed with exit code 1: The loss is not finite.")
        if arguments[0] == "stat_tf.train":
            epochs = 1 if self._breaks_off and self._breaks_off in run_dir.name else int(flags["epochs"])
            history = [{"epoch": epoch + 1, "step": 2 * epoch + 2} for epoch in range(epochs)]
            (run_dir / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in history))
            self._leave_checkpoint(run_dir, flags, epochs)
            return
        # Each network gets one clip more right than the one before it, the teacher all.
        right = 4 if "teacher" in run_dir.name else min(3, sum(command == "evaluate" for command, _ in self.ran) - 1)
        output = pathlib.Path(flags["output"])
        output.mkdir()
        lines = ["clip_id,label,top_1", *(f"{clip},a,{'a' if clip < right else 'b'}" for clip in range(4))]
        (output / "predictions.csv").write_text("\n".join(lines) + "\n")
        (output / "metrics.json").write_text(json.dumps({"prec@1": right / 4, "prec@5": 1.0}))

    def _leave_checkpoint(self, run_dir, flags, epochs):
        """Marks the run's weights with `self.weights`, and notes those that it came from."""
        for which in ("last", "best"):
            directory = run_dir / "checkpoints" / which / f"epoch-{epochs:04d}"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / "recognizer.index").write_text(f"{run_dir.name} {self.weights}")
        sources = {
            source: checkpoints.source_of(flags[flag], int(flags["epochs"]))
            for source, flag in (("teacher_source", "teacher_run"), ("init_source", "init_run"))
            if flag in flags and pathlib.Path(flags[flag], "history.jsonl").read_text().count("\n") == 2
        }
        dataclasses.replace(runs.make_config(flags["data_dir"]), **sources).save(str(run_dir))


def rows_of(output, stem="table-3"):
    return {row["row"]: row for row in json.loads((output / f"{stem}.json").read_text())["rows"]}


def kinds(ran):
    """Commands and what they were of, digests left out."""
    return [(command, name.rpartition("-")[0]) for command, name in ran]


def test_each_training_and_evaluation_runs_once_and_the_table_holds_them(root, tmp_path, flags_unchecked):
    commands = Pretended()
    prepare(root, tmp_path, rows=["sat_tat_rc_ut"], seeds=2).run(commands)
    names = ["teacher", "student", "student_longer"]
    expected = []
    for seed in ("seed0", "seed1"):
        expected += [(command, f"{name}-{seed}") for name in names for command in ("train", "evaluate")]
        last = f"stat-ce-sat-tat-rolling-{seed}"
        expected += [("train", f"unsupervised-{seed}"), ("train", last), ("evaluate", last)]
    assert kinds(commands.ran) == expected
    row = rows_of(tmp_path)["sat_tat_rc_ut"]
    assert row["seeds"] == 2 and row["prec@1_mean"] == 75.0
    # Student 2 epochs of 6 clips; then, for the 4 steps of 2 epochs of stat, 2 of 3 unlabelled clips and 1 of stat's.
    assert row["clips"] == 2 * 6 + 2 * 3 + 1 * 6 and row["hours"] == pytest.approx(1.5)
    assert "SAT+TAT+rc+ut" in (tmp_path / "table-3.md").read_text()


def test_what_is_there_is_not_run_again(root, tmp_path, flags_unchecked):
    prepare(root, tmp_path, rows=["sat"]).run(Pretended())
    written = (tmp_path / "table-3.md").read_bytes()
    again = Pretended()
    prepare(root, tmp_path, rows=["sat"]).run(again)
    assert again.ran == [] and (tmp_path / "table-3.md").read_bytes() == written
    other_table = Pretended()
    prepare(root, tmp_path, table="1", rows=["fixed_1"]).run(other_table)
    assert [name for _, name in kinds(other_table.ran)] == ["stat-ce-sat-tat-seed0"] * 2
    assert rows_of(tmp_path, "table-1")["student"]["seeds"] == 1


def test_rows_not_asked_for_keep_their_results(root, tmp_path, flags_unchecked):
    prepare(root, tmp_path, rows=["sat"]).run(Pretended())
    commands = Pretended()
    prepare(root, tmp_path, rows=["tat"]).run(commands)
    assert kinds(commands.ran) == [("train", "stat-ce-tat-seed0"), ("evaluate", "stat-ce-tat-seed0")]
    rows = rows_of(tmp_path)
    assert list(rows) == [row.name for row in tables.load("3").rows]
    assert [name for name, row in rows.items() if row["status"] == "measured"] == [
        "teacher",
        "student",
        "student_longer",
        "sat",
        "tat",
    ]


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_runs_made_from_what_was_trained_anew_since_are_not_taken(root, tmp_path, flags_unchecked, kind):
    session = prepare(root, tmp_path, rows=["sat"])
    session.run(Pretended())
    run = session.plan[0, "sat"][0]
    stale = session.places.run_dir(run)
    needed = pathlib.Path(session.places.run_dir(run.teacher if kind == "teacher" else run.start))
    shutil.rmtree(needed)
    session.run(Pretended())  # deterministic: the same weights again
    shutil.rmtree(needed)
    commands = Pretended(weights="other")
    if kind == "student":
        stale = session.places.run_dir(session.plan[0, "student_longer"][0])
    with pytest.raises(
        errors.UserError, match=f"{stale} was trained with other weights of {needed} .*: delete {stale}"
    ):
        session.run(commands)
    assert kinds(commands.ran) == [("train", f"{kind}-seed0"), ("evaluate", f"{kind}-seed0")]
    again = Pretended()
    with pytest.raises(errors.UserError, match="delete"):
        session.run(again)
    assert again.ran == []


def test_a_training_that_fails_leaves_a_truthful_table(root, tmp_path, flags_unchecked):
    session = prepare(root, tmp_path, rows=["sat", "tat"])
    with pytest.raises(errors.UserError, match="not finite"):
        session.run(Pretended(fails="stat-ce-sat"))
    status = {name: row["status"] for name, row in rows_of(tmp_path).items() if name in session.chosen}
    assert status == dict.fromkeys(("teacher", "student", "student_longer"), "measured") | dict.fromkeys(
        ("sat", "tat"), "not run yet"
    )


def test_a_training_that_breaks_off_without_an_error_is_not_taken_for_finished(root, tmp_path, flags_unchecked):
    session = prepare(root, tmp_path, rows=["student"])
    with pytest.raises(errors.UserError, match="student-seed0-.* ended before its last epoch"):
        session.run(Pretended(breaks_off="student"))
    commands = Pretended()
    session.run(commands)
    assert kinds(commands.ran) == [("train", "student-seed0"), ("evaluate", "student-seed0")]


def test_hours_of_a_stopped_training_count(root, tmp_path, flags_unchecked):
    session = prepare(root, tmp_path, rows=["student"])
    with pytest.raises(processes.Stopped):
        session.run(Pretended(stops="student"))
    assert rows_of(tmp_path)["student"]["seeds"] == 0
    session.run(Pretended())
    assert rows_of(tmp_path)["student"]["hours"] == pytest.approx(2 * 0.5)


def test_damaged_record_is_named(root, tmp_path, flags_unchecked):
    session = prepare(root, tmp_path, rows=["student"])
    session.run(Pretended())
    (record,) = (tmp_path / "runs").glob(f"student-*/{runner.RECORD_NAME}")
    record.write_text("{")
    with pytest.raises(errors.UserError, match=f"{record} cannot be read .* delete it"):
        session.run(Pretended())


def test_rows_that_the_dataset_does_not_allow_are_left_out(root, tmp_path, flags_unchecked):
    session = prepare(root, tmp_path, table="2", data="plain")
    assert set(session.left_out) == {
        f"{kind}_{size}" for kind in ("before", "trained_on", "after") for size in ("6x8", "18x24", "24x32")
    }
    session.run(Pretended())
    text = (tmp_path / "table-2.md").read_text()
    assert "has no LR frames of 6x8: build it with --lr_size=6x8 too." in text
    assert rows_of(tmp_path, "table-2")["after_12x16"]["seeds"] == 1


def test_preview_says_what_is_done_and_writes_nothing(root, tmp_path, flags_unchecked):
    session = prepare(root, tmp_path / "new", rows=["student"], seeds=2)
    assert session.preview().endswith("4 trainings for 2 rows and 2 seeds; 4 to do, 8 epochs, 48 clips.")
    assert not (tmp_path / "new").exists()
    session.run(Pretended())
    assert session.preview().endswith("0 to do, 0 epochs, 0 clips.")


def test_two_streams_are_evaluated_together(root, tmp_path, flags_unchecked):
    commands = Pretended()
    prepare(root, tmp_path, table="4", rows=["student_both"]).run(commands)
    assert kinds(commands.ran) == [
        ("train", "teacher-seed0"),
        ("train", "teacher-flow-seed0"),
        ("evaluate", "teacher-seed0"),
        ("train", "student-seed0"),
        ("train", "student-flow-seed0"),
        ("evaluate", "student-seed0"),
    ]
    assert rows_of(tmp_path, "table-4")["student_both"]["steps"] == 8


def test_figure_6_shows_seed_0_and_scores_all(root, tmp_path, flags_unchecked, monkeypatch):
    session = prepare(root, tmp_path, table="fig6", seeds=2)
    session.run(Pretended())
    drawn, embedded = {}, []
    monkeypatch.setattr(
        figure.embedding, "embed_run", lambda run_dir, data_dir, split: embedded.append(run_dir) or run_dir
    )
    monkeypatch.setattr(figure.embedding, "separation", lambda run_dir: {"silhouette": float("seed1" in run_dir)})
    monkeypatch.setattr(figure.embedding, "draw", lambda path, maps, classes: drawn.update(maps))
    figure.draw(session, Pretended())
    session.write()
    assert list(drawn) == ["Teacher", "Student", "Student, trained on without a teacher", "SAT+TAT"]
    assert all("seed0" in run_dir for run_dir in drawn.values())
    row = rows_of(tmp_path, "fig6")["sat_tat"]
    assert (row["silhouette_mean"], row["silhouette_sd"]) == (0.5, pytest.approx(0.5**0.5))
    # Given again, the command keeps the scores, and looks again only at what the picture shows.
    monkeypatch.setattr(figure.embedding, "separation", None)
    written, first = (tmp_path / "fig6.json").read_bytes(), list(embedded)
    again = prepare(root, tmp_path, table="fig6", seeds=2)
    again.run(Pretended())
    assert len(first) == 8 and (tmp_path / "fig6.json").read_bytes() == written
    figure.draw(again, Pretended())
    assert embedded[8:] == first[:4]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ["sit"]}, "table 3 has no row sit"),
        ({"config_dir": "nowhere"}, "There is no directory nowhere: give --config"),
        ({"data_dir": "nowhere"}, "There is no directory nowhere"),
        ({"scale": 0.0}, "--scale=0 must be above 0"),
        ({"scale": float("nan")}, "--scale=nan"),
        (
            {"data": "plain", "rows": ["sat_tat_rc_ut"]},
            "plain has no unlabelled clips: build it with --unlabeled_videos",
        ),
        ({"unlabeled_dir": "other"}, "other has num_segments=3, .*data has num_segments=2: build the unlabelled clips"),
        ({"data": "plain", "table": "2", "rows": ["after_6x8"]}, "build it with --lr_size=6x8"),
        ({"train_flags": ["--seed=3"]}, "^--train_flag=--seed: the table decides it itself"),
        ({"train_flags": ["--batch_size=2", "--weights=rolling"]}, "^--train_flag=--weights: the table decides it"),
        ({"train_flags": ["--init_from=nowhere"]}, "--init_from=nowhere cannot be read"),
        ({"train_flags": ["batch_size=3"]}, "write one --name=value"),
        (
            {"train_flags": ["--batch_sise=3"], "rows": ["student"]},
            "does not take the flags of .*batch_sise.*--train_flag",
        ),
    ],
)
def test_bad_input_is_named_before_anything_runs(root, tmp_path, changes, message):
    with pytest.raises(errors.UserError, match=message):
        prepare(root, tmp_path, **changes)
    assert list(tmp_path.iterdir()) == []


def test_places_that_must_be_local_are_refused(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(errors.UserError, match="^--output=s3://bucket/tables must be a path of this machine, since"):
        prepare(root, "s3://bucket/tables")
    with pytest.raises(errors.UserError, match="^--config=s3://bucket/config must be a path of this machine, since"):
        prepare(root, tmp_path, config_dir="s3://bucket/config")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("table", tables.TABLES)
def test_every_row_speaks_the_flags_of_the_training(root, tmp_path, table):
    prepare(root, tmp_path, table=table)


@pytest.mark.slow
def test_stopped_command_goes_on_where_it_was(root, tmp_path):
    flags = ["--table=3", "--rows=sat_tat_rc_ut", "--seeds=1", "--config=config", f"--output={tmp_path}"]
    command = [sys.executable, "-m", "stat_tf.reproduce", *flags, "--data_dir=data"]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"}

    def run():
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=500)

    with processes.locked(str(tmp_path), "stat_tf.reproduce"):
        second = run()
    assert second.returncode == 1 and "Traceback" not in second.stderr
    assert second.stderr.splitlines()[-1].startswith("error: Another python -m stat_tf.reproduce")

    first = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True)
    assert any("[2/5] student-seed0" in line for line in first.stdout)
    first.send_signal(signal.SIGTERM)
    assert first.wait(timeout=100) == 128 + signal.SIGTERM
    first.stdout.close()
    status = [row["status"] for row in rows_of(tmp_path).values()]
    assert status == ["measured", *["not run yet"] * 7]

    done = run()
    assert done.returncode == 0, done.stderr
    assert "[1/4] student-seed0" in done.stdout and "Table 3" in done.stdout
    rows = [row for row in rows_of(tmp_path).values() if row["status"] == "measured"]
    assert len(rows) == 4
    for row in rows:
        (run_dir,) = row["run_dirs"]["0"]
        metrics = json.loads((root / run_dir / "eval-test" / "metrics.json").read_text())
        assert row["prec@1_mean"] == 100 * metrics["prec@1"] and row["hours"] > 0
    trainings = {
        path.name.partition("-")[0]: (path / runner.LOG_NAME).read_text().count("$ python -m stat_tf.train")
        for path in (tmp_path / "runs").iterdir()
    }
    assert trainings.pop("student") in (1, 2)  # the signal may come before its first training begins
    assert trainings == {"teacher": 1, "student_longer": 1, "unsupervised": 1, "stat": 1}
