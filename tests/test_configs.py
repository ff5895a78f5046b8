"""The flag files under configs/: each is understood by its command and holds what the paper says."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "configs"
PAPER = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "batch_size": 256,
    "learning_rate": 0.001,
    "schedule": "step",
    "decay_epochs": 20.0,
    "decay_factor": 0.1,
    "warmup_epochs": 5.0,
    "epochs": 50,
    "flip": True,
    "student_input": "upsample",
}
ROLLING = {"weights": "rolling", "overall_weights": "1/3,1/3,1/3", "rolling_period": 10}
_PARSE = """
import importlib, json, sys
from absl import flags
module, *arguments = sys.argv[1:]
importlib.import_module(module)
flags.FLAGS([module, *arguments])
print(json.dumps(flags.FLAGS.flag_values_dict()))
"""


def parsed(path):
    """All flags of the command that a file is for, as they stand with that file."""
    module = "pipeline.build_dataset" if path.name == "build.flags" else "stat_tf.train"
    places = ("videos", "output") if path.name == "build.flags" else ("data_dir", "run_dir")
    arguments = [f"--flagfile={path.relative_to(ROOT)}", *(f"--{place}=there" for place in places)]
    if path.name == "common.flags":
        arguments.append("--stage=student")
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Of Dataflow's, tests/pipeline/test_dataflow_files.py.
PATHS = sorted(path for path in CONFIGS.glob("*/*.flags") if path.parent.name != "dataflow")


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_flag_file_is_understood_and_says_its_stage(path):
    values = parsed(path)
    *_, stage = path.stem.split("_") if path.stem != "student_longer" else ("student",)
    assert path.stem in ("build", "common") or values["stage"] == stage


@pytest.mark.parametrize(
    ("folder", "clips", "backbone"),
    [
        ("ucf101_resnet34", (8, 1), "resnet34"),
        ("ucf101_r2plus1d_18", (4, 5), "r2plus1d_18"),
        ("hmdb51_two_stream_r2plus1d_34", (4, 16), "r2plus1d_34"),
    ],
)
def test_the_papers_settings_stand_in_every_stage(folder, clips, backbone):
    build = parsed(CONFIGS / folder / "build.flags")
    assert (build["num_segments"], build["num_frames"], build["frame_stride"]) == (*clips, 1)
    assert build["lr_size"][0] == "12x16" and build["layout"] == folder.split("_")[0]
    two_streams = folder.startswith("hmdb51")
    assert build["streams"] == ("rgb,flow" if two_streams else "rgb")
    for stream in ("rgb", "flow") if two_streams else ("rgb",):
        for stage in ("teacher", "student", "stat"):
            name = f"{stream}_{stage}" if two_streams else stage
            values = parsed(CONFIGS / folder / f"{name}.flags")
            expected = PAPER | {"backbone": backbone, "stream": stream} | (ROLLING if stage == "stat" else {})
            assert {key: values[key] for key in expected} == expected
            # From published weights; the student's own weights are the start of stage stat.
            assert values["init_from"] == ("auto" if stage == "stat" else f"weights/{backbone}.safetensors")


def test_table_2s_resolutions_are_stored_together():
    assert parsed(CONFIGS / "ucf101_resnet34" / "build.flags")["lr_size"] == ["12x16", "6x8", "18x24", "24x32"]
