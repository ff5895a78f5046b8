"""What is said of a training graph before it runs."""

import pathlib
import shutil

import pytest

from pipeline import remarks, training_graph
from tests import configs

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def config(tmp_path):
    # The file of signals is of a node that the graph has with --signals alone.
    directory = configs.write(tmp_path / "config", "--epochs=3\n--eval_split=\n", signals="--num_views=2\n")
    (directory / "notes.txt").write_text("")
    (tmp_path / "clips").mkdir()
    return directory


def said(config, *node_flags, videos="clips"):
    settings = training_graph.Settings(str(config), str(config.parent / videos), "served", node_flags)
    return remarks.of(settings, training_graph.make(settings))


def test_nothing_is_said_of_a_sound_graph(config):
    assert said(config) == []


def test_flag_file_of_no_node_is_named(config):
    (config / "studnet_longer.flags").write_text("--stage=student\n")
    (config / "push.flags").write_text("")
    (remark,) = said(config)
    assert remark.startswith(
        f"No component reads push.flags and studnet_longer.flags in {config}; what they read: videos"
    )
    assert "student_longer.flags" in remark and "bless.flags" in remark


def test_copy_that_reads_the_originals_common_file_is_told_of(config, tmp_path):
    copy = shutil.copytree(config, tmp_path / "copy")
    (remark,) = said(copy)
    assert remark == (
        f"{copy}/teacher.flags includes {config}/common.flags, not the file of that name beside it: correct its "
        "--flagfile=."
    )


def test_files_that_are_not_there_are_named(config):
    weights = config.parent / "weights"
    flags = [f"teacher:--init_from={weights}", "student:--init_from=none", "stat:--init_from=auto"]
    flags += ["export:--flow_run_dir=s3://bucket/flow", "examples:--layout=folders"]
    assert said(config, *flags, videos="clipz") == [
        f"There is no {config.parent}/clipz, which --videos of node examples names.",
        f"There is no {weights}, which --init_from of node teacher names.",
    ]
    weights.write_text("")
    assert said(config, *flags) == []


def test_choice_by_the_clips_that_are_compared_on_is_told_of(config):
    (remark,) = said(config, "teacher:--eval_split=test", "stat:--eval_split=test", "student:--eval_split=train")
    assert remark.startswith("The best checkpoints of teacher, stat are chosen on split test,")
    (config / "common.flags").write_text("--epochs=3\n")
    (remark,) = said(config)
    assert "of teacher, student, stat are chosen" in remark and "give --eval_split=" in remark


@pytest.mark.parametrize("name", ["demo", "ucf101_10"])
def test_nothing_is_said_of_the_projects_own_configurations(name, monkeypatch):
    monkeypatch.chdir(ROOT)
    settings = training_graph.Settings(f"configs/{name}", "", "served")
    assert remarks.of(settings, training_graph.make(settings)) == []
