"""Flag files to settings: defaults held to the command's, and a baseline that differs in nothing but the teacher."""

import json
import pathlib
import subprocess
import sys

import pytest

from stat_tf import errors
from stat_tf.reproduction import settings

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CONFIGS = sorted(path.parent.relative_to(ROOT) for path in (ROOT / "configs").glob("*/common.flags"))
_DEFAULTS = """
import json
from absl import flags
from stat_tf import train
print(json.dumps({name: flags.FLAGS[name].default for name in flags.FLAGS}))
"""


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch):
    # Flag files under configs/ include each other by their paths from the root of the repository.
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def train_flags():
    """The defaults of stat_tf.train's flags."""
    done = subprocess.run([sys.executable, "-c", _DEFAULTS], cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_defaults_are_the_commands(train_flags):
    assert {name: train_flags[name] for name in settings.TRAIN_DEFAULTS} == settings.TRAIN_DEFAULTS


def test_flags_left_out_of_a_stage_are_flags_of_the_command(train_flags):
    assert {*settings._OF_TRANSFER, *settings._OURS} <= set(train_flags)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("stream", ["rgb", "flow"])
def test_student_trained_on_differs_from_stat_in_the_teacher_alone(config, stream):
    stat = settings.read(str(config), "stat", stream, ["--rolling_period=3"])
    longer = settings.read(str(config), "student_longer", stream, ["--rolling_period=3"])
    assert stat.items() - longer.items() == {("rolling_period", "3")}
    assert longer.items() <= stat.items()
    assert "init_from" not in stat and "weights" not in stat


def test_flags_given_beside_count_more_than_the_files():
    read = settings.read("configs/ucf101_10", "teacher", "rgb", ["--batch_size=32", "--nodeterministic"])
    assert read["batch_size"] == "32" and read["deterministic"] == "false" and read["optimizer"] == "adamw"


def test_test_split_picks_no_checkpoint_unless_asked(tmp_path):
    (tmp_path / "teacher.flags").write_text("# nothing\n--epochs=3\n")
    assert settings.read(str(tmp_path), "teacher", "rgb", [])["eval_split"] == ""
    assert settings.read(str(tmp_path), "teacher", "rgb", ["--eval_split=test"])["eval_split"] == "test"


def test_what_is_the_commands_own_is_left_to_it(tmp_path):
    (tmp_path / "stat.flags").write_text("--stage=stat\n--seed=7\n--run_dir=x\n--teacher_run=y\n--clip_norm=5\n")
    assert settings.read(str(tmp_path), "stat", "rgb", []) == {"eval_split": "", "clip_norm": "5"}
    # Without a file of its own, stage unsupervised has stage stat's.
    assert settings.read(str(tmp_path), "unsupervised", "rgb", []) == {"eval_split": "", "clip_norm": "5"}


def test_true_and_false_are_the_same_in_any_spelling():
    said = ["--a=TRUE", "--b=False", "--nob", "--c", "--d=Truth"]
    assert settings.parse(said, "x") == {"a": "true", "b": "false", "c": "true", "d": "Truth"}


def test_weights_of_an_unsupervised_file_are_its_own(tmp_path):
    (tmp_path / "unsupervised.flags").write_text("--stage=unsupervised\n--overall_weights=0,1,0\n--epochs=2\n")
    assert settings.read(str(tmp_path), "unsupervised", "rgb", [])["overall_weights"] == "0,1,0"


def test_scale_changes_all_lengths():
    scaled = settings.scaled({"weights": "rolling", "rolling_period": "10"}, 0.5)
    assert scaled == {
        "weights": "rolling",
        "rolling_period": "5",
        "epochs": "25",
        "warmup_epochs": "2.5",
        "decay_epochs": "10",
    }
    assert settings.scaled({"epochs": "3", "warmup_epochs": "0"}, 0.1)["epochs"] == "1"


def test_rolling_weights_turn_five_times_as_the_papers_unless_the_period_is_given():
    assert settings.scaled({"weights": "rolling"}, 1)["rolling_period"] == "10"
    assert settings.scaled({"weights": "rolling", "epochs": "8"}, 1)["rolling_period"] == "2"
    assert "rolling_period" not in settings.scaled({"weights": "fixed", "rolling_period": "3"}, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch_size=32"], "'batch_size=32': write one --name=value a line"),
        (["--batch size=32"], "write one --name=value"),
        (["--flagfile=nowhere.flags"], "nowhere.flags"),
    ],
)
def test_what_is_no_flag_is_named(arguments, message):
    with pytest.raises(errors.UserError, match=message):
        settings.parse(arguments, "--train_flag")


def test_missing_flag_file_is_named(tmp_path):
    with pytest.raises(errors.UserError, match="no flag file for stage teacher"):
        settings.read(str(tmp_path), "teacher", "rgb", [])


@pytest.mark.parametrize("value", ["many", "-1", "0", "nan", "inf"])
def test_epochs_that_are_no_number_are_named(value):
    with pytest.raises(errors.UserError, match=f"--epochs={value}"):
        settings.scaled({"epochs": value}, 1)
