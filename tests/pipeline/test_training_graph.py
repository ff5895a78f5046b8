"""The graph that a directory of flag files makes, and the commands of its nodes."""

import json
import pathlib

import pytest
from absl import flags, logging

from pipeline import artifacts, components, training_graph
from pipeline.graph import Call
from stat_tf import digests, errors, files
from tests import configs

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def config(tmp_path):
    build = "# a comment\n--layout=folders\n--lr_size=12x16\n--lr_size=6x8\n"
    return configs.write(tmp_path / "config", "--width=0.5\n--epochs=3\n", build=build)


def make(config, **changes):
    settings = {"config_dir": str(config), "videos": "clips", "push_dir": "served"}
    return training_graph.make(training_graph.Settings(**settings | changes))


def commands(graph, name, **inputs):
    node = graph.nodes[name]
    return node.component.commands(Call(inputs, node.parameters, {}, "out"))


def test_files_of_the_directory_decide_on_the_nodes(config):
    assert list(make(config).nodes) == [
        *("examples", "example_validation", "teacher", "student", "stat"),
        *("export", "export_validation", "evaluation", "push", "figures"),
    ]
    (config / "student_longer.flags").write_text("--stage=student\n")
    (config / "videos.flags").write_text("")
    graph = make(config, videos="", validate_examples=False)
    assert list(graph.nodes)[:5] == ["videos", "examples", "teacher", "student", "student_longer"]
    assert graph.nodes["student_longer"].inputs == {"examples": "examples", "initial": "student"}
    assert graph.nodes["evaluation"].inputs["student_longer"] == "student_longer"


def test_flags_are_the_files_then_those_given(config):
    graph = make(config, node_flags=["teacher:--epochs=5", "teacher:--noflip"])
    (command,) = commands(graph, "teacher", examples="data")
    assert command == [
        *("stat_tf.train", "--data_dir=data", "--run_dir=out"),
        *("--width=0.5", "--epochs=5", "--stage=teacher", "--flip=false"),
    ]
    (command,) = commands(graph, "examples")
    assert command == [
        *("pipeline.build_dataset", "--output=out", "--overwrite=true", "--videos=clips"),
        *("--layout=folders", "--lr_size=12x16", "--lr_size=6x8"),
    ]


def test_student_learns_from_the_teacher_or_from_its_signals(config):
    (online,) = commands(make(config), "stat", examples="data", teacher="t", initial="s")
    assert online[1:5] == ["--data_dir=data", "--teacher_run=t", "--init_run=s", "--run_dir=out"]
    graph = make(config, signals=True)
    assert graph.nodes["signals"].inputs == {"examples": "examples", "teacher": "teacher"}
    assert graph.nodes["stat"].inputs == {"signals": "signals", "initial": "student"}
    (stored,) = commands(graph, "stat", signals="sig", initial="s")
    assert stored[1:4] == ["--signals=sig", "--init_run=s", "--run_dir=out"]


def test_signals_are_for_the_student_that_stat_trains(config):
    with open(config / "stat.flags", "a") as file:
        file.write("--backbone=resnet18\n--student_input=native\n--color_jitter=0.3\n--noflip\n")
    graph = make(config, signals=True, node_flags=["signals:--num_views=2"])
    (command,) = commands(graph, "signals", examples="data", teacher="t")
    assert command == [
        *("pipeline.teacher_signals", "--data_dir=data", "--teacher_run=t", "--output=out", "--overwrite=true"),
        *("--backbone=resnet18", "--student_input=native", "--color_jitter=0.3", "--flip=false", "--num_views=2"),
    ]


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("teacher:--run_dir=x", "--run_dir of node teacher is decided by the pipeline: leave it out"),
        ("examples:--videos=x", "is decided by the pipeline: give --videos instead"),
        (
            "bless:--min_gain=1",
            r"--set=bless:... names no node of this pipeline that takes flags \(bless.flags is that of node evaluation"
            r"\): give one of examples, example_validation, teacher, .*, evaluation, figures.$",
        ),
        ("push:--overwrite", "--set=push:... names no node of this pipeline that takes flags: give one of examples,"),
        ("--epochs=1", "names no node: write --set=NODE:--name=value"),
        ("teacher:epochs=1", "holds 'epochs=1': write one --name=value a line"),
        (
            "stat:--epochz=5",
            "^Correct .*/stat.flags or --set=stat:--name=value, the flags of node stat: python -m stat_tf.train has no "
            r"flag --epochz \(did you mean --epochs\?\).$",
        ),
        (
            "evaluation:--max_class_drop=x",
            "of node evaluation: python -m pipeline.bless does not take flag --max_class",
        ),
        ("student:--stage=pupil", "of node student: .* --stage=pupil: value should be one of"),
        ("figures:--num_clips=0", "of node figures: .* --num_clips=0"),
        ("examples:--layuot=x", "of node examples: Unknown option --layuot: .* Did you mean --layout?"),
        ("examples:--max_num_workers=x", "Beam does not understand its options: .*max_num_workers: invalid int"),
    ],
)
def test_flags_of_no_use_are_named(config, flag, message):
    with pytest.raises(errors.UserError, match=message):
        make(config, node_flags=[flag])


def test_checking_the_flags_leaves_those_of_this_process_alone(config):
    before = flags.FLAGS.flag_values_dict()
    make(config, node_flags=["teacher:--seed=3", "teacher:--verbosity=1"])
    assert flags.FLAGS.flag_values_dict() == before
    assert logging.get_verbosity() == before["verbosity"]


def test_flags_that_may_be_repeated_are_all_handed_on(config):
    """Several of our own, and all of Beam's, whose switches take no value."""
    given = ["--labels=a=1", "--labels=b=2", "--save_main_session", "--no_use_public_ips", "--split=1", "--split=2"]
    runs = ["figures:--compare_run=x", "figures:--compare_run=y"]
    graph = make(config, node_flags=[*(f"examples:{flag}" for flag in given), *runs])
    (command,) = commands(graph, "examples")
    assert command[-8:] == ["--layout=folders", "--lr_size=12x16", "--lr_size=6x8", *given[:4], "--split=2"]
    (command,) = commands(graph, "figures", examples="data", teacher="t", student="s", stat="st")
    assert [flag for flag in command if flag.startswith("--compare")] == ["--compare_run=x", "--compare_run=y"]


def test_missing_files_are_named(config):
    (config / "stat.flags").unlink()
    with pytest.raises(errors.UserError, match="stat.flags is missing"):
        make(config)
    with pytest.raises(errors.UserError, match="There is no directory none"):
        make("none")


def test_projects_own_configurations_make_graphs(monkeypatch):
    monkeypatch.chdir(ROOT)
    for name in ("configs/ucf101_10", "configs/ucf101_resnet34", "configs/ucf101_r2plus1d_18"):
        assert "stat" in make(name).nodes
    assert "videos" in make("configs/demo", videos="").nodes


def test_changed_video_or_weights_file_is_seen(config, tmp_path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(b"1")
    (tmp_path / "weights").write_bytes(b"1")
    graph = make(config, videos=str(tmp_path / "clips"), node_flags=[f"teacher:--init_from={tmp_path / 'weights'}"])

    def observed(name):
        node = graph.nodes[name]
        return node.component.observe(Call({}, node.parameters, {}, ""))

    before = observed("examples"), observed("teacher")
    assert list(before[0]) == ["files of --videos"] and list(before[1]) == ["contents of --init_from"]
    (tmp_path / "clips" / "a.mp4").write_bytes(b"12")
    (tmp_path / "weights").write_bytes(b"2")
    assert before[0] != observed("examples") and before[1] != observed("teacher")


def test_only_flags_that_name_files_are_looked_into(config, tmp_path, monkeypatch):
    """A directory that is called like the value of another flag changes while the run that made it goes on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "teacher").mkdir()
    node = make(config).nodes["teacher"]
    assert node.component.observe(Call({}, node.parameters, {}, "")) == {}


@pytest.mark.parametrize(
    "flag", ["teacher:--init_from", "export:--warmup_data_dir", "export_validation:--flow_run_dir"]
)
def test_changed_file_in_a_store_is_seen(config, flag):
    store = f"ram://{flag.replace(':', '')}"
    node = make(config, node_flags=[f"{flag}={store}/x"]).nodes[flag.partition(":")[0]]

    def observed():
        (digest,) = node.component.observe(Call({}, node.parameters, {}, "")).values()
        return digest

    missing = observed()
    files.make_dirs(f"{store}/x/within")
    files.write_text(f"{store}/x/within/a", "1")
    before = observed()
    files.write_text(f"{store}/x/b", "1")
    assert len({missing, before, observed()}) == 3 and observed() == observed()


def version(directory, number, text):
    path = f"{directory}/{number}"
    files.make_dirs(path)
    files.write_text(f"{path}/saved_model.pb", text)


@pytest.mark.parametrize("remote", [False, True])
def test_evaluator_compares_with_the_newest_version_that_is_not_the_candidate(remote, config, tmp_path):
    """Else a push would make the evaluation that it rests on out of date, and be followed by another push."""
    served = "ram://training-graph/served" if remote else f"{tmp_path}/served"
    version(tmp_path / "model", 1, "candidate")
    node = make(config, push_dir=served).nodes["evaluation"]
    call = Call({"model": str(tmp_path / "model")}, node.parameters, {}, "out")
    assert node.component.observe(call) == {"pushed": "", "pushed model": ""}
    version(served, 9, "older")
    before = node.component.observe(call)
    assert before["pushed"] == f"{served}/9"
    version(served, 10, "candidate")
    assert node.component.observe(call) == before
    files.make_dirs(f"{served}/12")  # being copied, or left by a copy that was killed
    files.write_text(f"{served}/12/fingerprint.pb", "newest")
    assert node.component.observe(call) == before
    version(served, 11, "newer")
    assert node.component.observe(call)["pushed"] == f"{served}/11"


def test_evaluator_judges_against_students_and_the_pushed_model(config, tmp_path):
    version(tmp_path / "model", 1, "candidate")
    node = make(config, node_flags=["evaluation:--min_gain=2"]).nodes["evaluation"]
    inputs = {"examples": "data", "teacher": "t", "student": "s", "model": str(tmp_path / "model")}
    *evaluations, bless = node.component.commands(Call(inputs, node.parameters, {"pushed": "served/3"}, "out"))
    assert [command[1] for command in evaluations] == [
        *("--run_dir=t", "--run_dir=s", f"--model={tmp_path / 'model' / '1'}", "--model=served/3")
    ]
    assert all("--split=test" in command for command in evaluations)
    assert bless == [
        *("pipeline.bless", "--output=out", "--candidate=out/candidate", "--baseline=out/student"),
        *("--pushed=out/pushed", "--min_gain=2"),
    ]


@pytest.mark.parametrize("remote", [False, True])
def test_artifacts_tell_damage_from_wholeness(remote, tmp_path):
    served = "ram://artifacts/served" if remote else f"{tmp_path}/served"
    version(served, 1, "model")
    pushed = {"version": 1, "directory": f"{served}/1", "model_digest": digests.of(f"{served}/1")}
    (tmp_path / "pushed.json").write_text(json.dumps(pushed))
    assert artifacts.PUSHED_MODEL.content(str(tmp_path)) == pushed["model_digest"]
    files.remove_tree(f"{served}/1")
    version(served, 1, "other")
    with pytest.raises(ValueError, match="no longer what was pushed"):
        artifacts.PUSHED_MODEL.content(str(tmp_path))
    assert components.PUSHER.output is artifacts.PUSHED_MODEL
