"""How every command starts and fails, in real processes."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parent.parent
COMMANDS = (
    "pipeline.bless",
    "pipeline.build_dataset",
    "pipeline.push",
    "pipeline.run",
    "pipeline.synthetic",
    "pipeline.teacher_signals",
    "pipeline.validate_examples",
    "pipeline.validate_export",
    "stat_tf.convert_weights",
    "stat_tf.evaluate",
    "stat_tf.export",
    "stat_tf.predict",
    "stat_tf.reproduce",
    "stat_tf.train",
    "stat_tf.visualize",
)


def run(*arguments):
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)


def test_every_entry_point_is_in_this_list():
    entry_points = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for package in ("stat_tf", "pipeline")
        for path in (ROOT / package).rglob("*.py")
        if "command.run(" in path.read_text()
    }
    assert entry_points == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_each_flag_without_loading_tensorflow_or_beam(command):
    code = (
        "import runpy, sys\n"
        "sys.argv[1:] = ['--help']\n"
        "try:\n"
        f"    runpy.run_module({command!r}, run_name='__main__', alter_sys=True)\n"
        "except SystemExit:\n"
        "    heavy = {'tensorflow', 'apache_beam', 'numpy', 'av', 'cv2', 'matplotlib'} & set(sys.modules)\n"
        "    sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    assert "--output" in done.stdout or "--model" in done.stdout or "--run_dir" in done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_misspelt_flag_is_named_without_a_traceback(command):
    # Beam's jobs hand what is not their own to Beam, which they can do only when their own flags are complete.
    required = {
        "pipeline.build_dataset": ["--layout=folders", "--videos=v", "--output=o"],
        "pipeline.validate_examples": ["--data_dir=d", "--output=o"],
        "pipeline.teacher_signals": ["--data_dir=d", "--teacher_run=t", "--output=o", "--num_views=1"],
    }
    done = run("-m", command, *required.get(command, []), "--sede=1")
    assert done.returncode in (1, 2)
    assert "sede" in done.stderr
    assert "Traceback" not in done.stderr


def test_misspelt_flag_in_a_flag_file_is_named(tmp_path):
    (tmp_path / "my.flags").write_text("--stage=teacher\n--learning_rat=0.1\n")
    done = run("-m", "stat_tf.train", f"--flagfile={tmp_path}/my.flags")
    assert done.returncode == 1
    assert "learning_rat" in done.stderr and "Traceback" not in done.stderr


def test_missing_flag_file_is_named(tmp_path):
    done = run("-m", "stat_tf.train", f"--flagfile={tmp_path}/none.flags")
    assert done.returncode == 1
    assert "none.flags" in done.stderr and "Traceback" not in done.stderr


def test_stray_argument_is_named():
    done = run("-m", "stat_tf.export", "--run_dir=a", "--output=b", "stray")
    assert done.returncode == 1
    assert done.stderr == "error: Unexpected argument 'stray': options are written --name=value.\n"


@pytest.mark.parametrize("loaded", ["", "sys.modules['tensorflow'] = sys"])
def test_disk_too_full_for_what_is_printed_is_told_of(loaded):
    code = f"import sys\nfrom stat_tf import command\nwith command.clean_end():\n    {loaded}\n    print('lost')"
    streams = {"stderr": subprocess.PIPE, "text": True, "env": os.environ | {"PYTHONUNBUFFERED": ""}}
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=full, **streams)
    assert done.returncode == 1
    assert done.stderr == "error: What this command prints cannot be written (No space left on device).\n"


def test_reader_that_stops_reading_sees_no_traceback():
    done = run(
        "-c", "import subprocess, sys\nsubprocess.run(f'{sys.executable} -m stat_tf.train --help | true', shell=True)"
    )
    assert "Traceback" not in done.stderr
