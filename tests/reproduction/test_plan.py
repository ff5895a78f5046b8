"""Which trainings rows need: shared ones once, and as many steps for each row as for what it is compared with."""

import dataclasses
import math

import pytest

from stat_tf import errors
from stat_tf.data import info as info_lib
from stat_tf.reproduction import plan, tables


def make_info(*, unlabeled=0, lr_sizes=((12, 16),), flow=None, name="a"):
    clips = {"train": 100, "test": 30} | ({"unlabeled": unlabeled} if unlabeled else {})
    return info_lib.DatasetInfo(
        classes=("jump", "run"),
        num_segments=2,
        num_snippets=1,
        num_frames=1,
        frame_stride=1,
        hr_size=(24, 32),
        lr_sizes=lr_sizes,
        lens_blur=0.0,
        noise=0.0,
        shards={split: (info_lib.Shard(f"{split}-0", count, 1, name + split),) for split, count in clips.items()},
        counts={split: {"": count} for split, count in clips.items()},
        num_rejected=0,
        source_fingerprint=name,
        flow=flow,
    )


@pytest.fixture
def config(tmp_path):
    directory = tmp_path / "config"
    directory.mkdir()
    for stage in ("teacher", "student", "stat"):
        (directory / f"{stage}.flags").write_text(f"--stage={stage}\n--batch_size=10\n--epochs=8\n")
    return directory


def planner(config, info=None, unlabeled=None, **more):
    info = info or make_info()
    return plan.Planner(info, unlabeled or info, "DATA", "DATA", str(config), **more)


def all_runs(planner, table, seeds=1):
    return plan.in_order(
        run
        for seed in range(seeds)
        for row in table.rows
        if not planner.missing(row)
        for run in planner.runs(row, seed)
    )


def test_teacher_and_student_are_trained_once_for_all_rows(config):
    runs = all_runs(planner(config), tables.load("3"), seeds=2)
    # Teacher, student, student trained on, SAT, TAT, SAT+TAT, rolling.
    assert len(runs) == 2 * 7
    for stage, count in (("teacher", 1), ("student", 2), ("stat", 4)):
        assert sum(run.stage == stage for run in runs) == 2 * count
    assert len({run.name for run in runs}) == len(runs)


def test_what_a_run_needs_comes_before_it(config):
    runs = all_runs(planner(config, make_info(unlabeled=40)), tables.load("3"))
    for position, run in enumerate(runs):
        for needed in (run.teacher, run.start):
            assert needed is None or needed in runs[:position]


def test_rows_that_tables_share_are_the_same_training(config):
    ours = planner(config, make_info(lr_sizes=((12, 16), (6, 8))))

    def last(table, row):
        return ours.runs(tables.load(table).row(row), 0)[0]

    even = last("3", "sat_tat")
    assert (
        even == last("1", "fixed_3") == last("2", "after_12x16") == last("fig6", "sat_tat") == last("beyond", "sat_tat")
    )
    assert last("3", "sat_tat_rc") == last("1", "rolling")
    assert last("3", "teacher") == last("2", "teacher")
    smaller = last("2", "after_6x8")
    assert smaller != even and smaller.teacher == even.teacher and smaller.start != even.start


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.5},
        {"train_flags": ("--learning_rate=1",)},
        {"info": make_info(name="b")},
        {"info": make_info(lr_sizes=((6, 8),))},
    ],
)
def test_another_setting_or_dataset_is_another_training(config, change):
    row = tables.load("3").row("sat")
    first, second = planner(config).runs(row, 0)[0], planner(config, **change).runs(row, 0)[0]
    assert first != second and first.name != second.name


def test_each_seed_has_its_own_chain(config):
    run = planner(config).runs(tables.load("3").row("tat"), 2)[0]
    for each in (run, run.teacher, run.start):
        assert dict(each.settings)["seed"] == "2"


def test_rows_have_the_start_lengths_and_settings_of_what_they_are_compared_with(config):
    table, ours = tables.load("3"), planner(config, scale=0.5)
    longer = ours.runs(table.row("student_longer"), 0)[0]
    assert longer.stage == "student" and longer.epochs == 4 and longer.teacher is None
    for name in ("sat", "tat", "sat_tat", "sat_tat_rc"):
        run = ours.runs(table.row(name), 0)[0]
        assert run.start == longer.start and run.teacher.stage == "teacher"
        assert dict(longer.settings).items() <= dict(run.settings).items()
        assert set(dict(run.settings)) - set(dict(longer.settings)) <= {
            "weights",
            "overall_weights",
            "sat_weights",
            "tat_weights",
            "rolling_period",
        }


@pytest.mark.parametrize("unlabeled", [10, 40, 100, 390])
def test_unsupervised_stage_takes_its_steps_from_stat(config, unlabeled):
    row = tables.load("3").row("sat_tat_rc_ut")
    run = planner(config, make_info(unlabeled=unlabeled)).runs(row, 0)[0]
    before = run.start
    assert (before.stage, before.start.stage, before.clips_per_epoch) == ("unsupervised", "student", unlabeled)
    assert before.teacher == run.teacher
    assert [each.stage for each in run.chain()] == ["student", "unsupervised", "stat"]
    steps = run.epochs * 10 + before.epochs * unlabeled // 10
    assert steps == pytest.approx(8 * 10, abs=5)
    assert not {"weights", "overall_weights"} & set(dict(before.settings))


@pytest.mark.parametrize("unlabeled", [40, 100, 390])
@pytest.mark.parametrize("given", ["--rolling_period=10\n", ""])
def test_stat_after_the_unsupervised_stage_has_all_turns_and_the_schedules_shape(config, unlabeled, given):
    (config / "stat.flags").write_text(f"--batch_size=10\n--epochs=50\n--warmup_epochs=4\n{given}")
    ours, table = planner(config, make_info(unlabeled=unlabeled)), tables.load("3")
    whole, short = (ours.runs(table.row(name), 0)[0] for name in ("sat_tat_rc", "sat_tat_rc_ut"))

    def turns(run):
        return math.ceil(run.epochs / int(dict(run.settings)["rolling_period"]))

    assert short.epochs == pytest.approx(25, abs=3) and turns(short) == turns(whole) == 5
    for run in (short, short.start):
        lengths = dict(run.settings)
        assert float(lengths["warmup_epochs"]) == pytest.approx(4 * run.epochs / 50, rel=1e-4)
        assert float(lengths["decay_epochs"]) == pytest.approx(20 * run.epochs / 50, rel=1e-4)


def test_unsupervised_file_says_how_many_epochs(config):
    (config / "unsupervised.flags").write_text("--batch_size=10\n--epochs=3\n")
    run = planner(config, make_info(unlabeled=20)).runs(tables.load("3").row("sat_tat_rc_ut"), 0)[0]
    assert (run.start.epochs, run.epochs) == (3, 7)
    assert dict(run.start.settings)["decay_epochs"] == "20"
    # More unlabelled clips than there are steps to share: an epoch of each remains.
    run = planner(config, make_info(unlabeled=1000)).runs(tables.load("3").row("sat_tat_rc_ut"), 0)[0]
    assert (run.start.epochs, run.epochs) == (3, 1)


def test_clips_of_both_splits_are_counted(config):
    ours = planner(config, make_info(unlabeled=40), train_flags=("--train_splits=unlabeled,train",))
    run = ours.runs(tables.load("3").row("sat"), 0)[0]
    assert run.clips_per_epoch == 140 and run.start.clips_per_epoch == 100


def test_rows_take_the_same_steps_where_stat_reads_unlabelled_clips_too(config):
    (config / "stat.flags").write_text("--batch_size=10\n--epochs=8\n--train_splits=train,unlabeled\n")
    table, ours = tables.load("3"), planner(config, make_info(unlabeled=40))
    runs = {name: ours.runs(table.row(name), 0)[0] for name in ("sat", "student_longer", "sat_tat_rc_ut")}
    assert runs["sat"].epochs * 14 == 112
    assert runs["student_longer"].clips_per_epoch == 100 and runs["student_longer"].epochs == 11
    last = runs["sat_tat_rc_ut"]
    assert (last.clips_per_epoch, last.start.clips_per_epoch) == (140, 40)
    assert last.epochs * 14 + last.start.epochs * 4 == 112
    # Where it has a file of its own, that one decides.
    (config / "unsupervised.flags").write_text("--batch_size=10\n--epochs=2\n--train_splits=train,unlabeled\n")
    last = ours.runs(table.row("sat_tat_rc_ut"), 0)[0]
    assert last.start.clips_per_epoch == 140 and (last.start.epochs, last.epochs) == (2, 6)


def test_what_a_run_reports_and_where_makes_it_no_other(config):
    row = tables.load("3").row("sat")
    plain = planner(config).runs(row, 0)[0]
    told = planner(config, train_flags=("--log_steps=5", "--recompute_grad")).runs(row, 0)[0]
    assert told == plain and told.name == plain.name and told.teacher.name == plain.teacher.name
    assert dict(told.circumstances) == {"log_steps": "5", "recompute_grad": "true"}
    deeper = planner(config, train_flags=("--deterministic=True",)).runs(row, 0)[0]
    assert deeper != plain and deeper == planner(config, train_flags=("--deterministic",)).runs(row, 0)[0]


def test_other_initial_weights_in_the_same_file_are_another_training(config, tmp_path):
    weights = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    names = []
    for path, content in zip(weights, ("first", "second"), strict=True):
        path.write_text(content)
        names.append(planner(config, train_flags=(f"--init_from={path}",)).runs(tables.load("3").row("sat"), 0)[0])
    (first, second) = names
    assert first.teacher.data != second.teacher.data and first.start.data != second.start.data
    assert first.data == second.data  # it starts from the student


def test_missing_initial_weights_are_named(config):
    with pytest.raises(errors.UserError, match="--init_from=nowhere.safetensors cannot be read .*convert_weights"):
        planner(config, train_flags=("--init_from=nowhere.safetensors",)).runs(tables.load("3").row("student"), 0)


def test_student_from_the_teacher_starts_there(config):
    table, ours = tables.load("beyond"), planner(config)
    run = ours.runs(table.row("from_teacher"), 0)[0]
    assert run.start == run.teacher
    assert ours.runs(table.row("student_from_teacher"), 0)[0].start == run.teacher


def test_two_streams_are_two_chains(config):
    flow = info_lib.FlowInfo("dis", 20.0)
    first, second = planner(config, make_info(flow=flow)).runs(tables.load("4").row("sat_tat_rc_both"), 0)
    assert "stream" not in dict(first.settings)
    assert all(dict(each.settings)["stream"] == "flow" for each in (second, second.teacher, second.start))


@pytest.mark.parametrize(
    ("table", "row", "message"),
    [
        ("3", "sat_tat_rc_ut", "--unlabeled_videos"),
        ("2", "after_24x32", "DATA has no LR frames of 24x32: build it with --lr_size=24x32"),
        ("4", "teacher_flow", "--streams=rgb,flow"),
    ],
)
def test_what_the_dataset_lacks_is_said_with_the_flag_that_builds_it(config, table, row, message):
    ours, row = planner(config), tables.load(table).row(row)
    assert message in ours.missing(row)
    whole = make_info(unlabeled=3, lr_sizes=((24, 32),), flow=info_lib.FlowInfo("dis", 20.0))
    assert dataclasses.replace(ours, info=whole, unlabeled=whole).missing(row) == ""


@pytest.mark.parametrize(
    ("unlabeled", "message"),
    [
        ({"unlabeled": 3}, "CLIPS has no optical flow: build it with --streams=rgb,flow."),
        (
            {"unlabeled": 3, "lr_sizes": ((6, 8),), "flow": info_lib.FlowInfo("dis", 20.0)},
            "CLIPS has no LR frames of 12x16: build it with --lr_size=12x16 too.",
        ),
    ],
)
def test_what_the_unlabelled_dataset_lacks_is_said_too(config, unlabeled, message):
    info = make_info(flow=info_lib.FlowInfo("dis", 20.0))
    ours = dataclasses.replace(planner(config, info, make_info(**unlabeled)), unlabeled_dir="CLIPS")
    assert ours.missing(tables.load("4").row("sat_tat_rc_ut_both")) == message
    assert ours.missing(tables.load("4").row("sat_tat_rc_both")) == ""
