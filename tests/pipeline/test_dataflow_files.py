"""The files of a run on Dataflow: flag files, template and container agree with the commands and the lock files."""

import ast
import json
import pathlib
import re
import subprocess
import sys

import pytest
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import PipelineOptions

ROOT = pathlib.Path(__file__).parents[2]
PARSE = """
import json, sys
from pipeline import beam_flags, build_dataset
others = []
beam_flags.parse(["build_dataset", *sys.argv[1:]], build_dataset.FLAGS, others)
names = [flag.name for flag in build_dataset.FLAGS.get_key_flags_for_module(build_dataset)]
print(json.dumps([build_dataset.FLAGS.flag_values_dict(), others, names]))
"""


def parse(*arguments):
    """Our flags' values, Beam's arguments, and the names of the flags that the command itself defines."""
    done = subprocess.run([sys.executable, "-c", PARSE, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_flag_files_hold_our_flags_and_beams():
    ours, beams, _ = parse(
        "--flagfile=configs/dataflow/build.flags", "--output=gs://bucket/data", "--region=europe-west4"
    )
    assert ours["output"] == "gs://bucket/data"
    options = PipelineOptions(beams)
    parsers = []
    options.get_all_options(add_extra_args_fn=parsers.append)
    assert parsers[0].parse_known_args(beams)[1] == [], "Beam does not know these"
    assert options.view_as(pipeline_options.StandardOptions).runner == "DataflowRunner"
    assert options.view_as(pipeline_options.WorkerOptions).machine_type == "n2d-standard-4"
    assert options.view_as(pipeline_options.DebugOptions).number_of_worker_harness_threads == 2
    assert options.view_as(pipeline_options.GoogleCloudOptions).region == "europe-west4"
    assert options.view_as(pipeline_options.SetupOptions).sdk_location == "container"


TEMPLATE = json.loads((ROOT / "configs" / "dataflow" / "flex_template.json").read_text())
# A value of each parameter that the command takes, and one that it does not.
VALUES = {
    "layout": ("manifest", "tfds"),
    "split": ("2", "4"),
    "clip_seconds": ("2.5", "-1"),
    "overwrite": ("true", "maybe"),
    "hr_size": ("96x128", "96"),
    "lr_size": ("12x16", "0x16"),
    "streams": ("rgb,flow", "flow"),
    "flow_method": ("dis", "farneback"),
    "flow_bound": ("20.5", "0.5"),
    "lens_blur": ("0", "-1"),
    "noise": ("2.5", "much"),
    "jpeg_quality": ("100", "0"),
    "clip_timeout": ("0.1", "0"),
    "max_rejected": ("0.25", "1.5"),
    "duplicates": ("warn", "ignore"),
} | dict.fromkeys(("num_segments", "num_snippets", "num_frames", "frame_stride", "num_shards"), ("3", "0"))
PLACES = dict.fromkeys(("videos", "output", "annotations", "unlabeled_videos"), ("gs://bucket/a b", "/local"))


@pytest.mark.parametrize("parameter", TEMPLATE["parameters"], ids=lambda parameter: parameter["name"])
def test_template_lets_pass_what_the_command_takes(parameter):
    good, bad = (VALUES | PLACES)[parameter["name"]]
    (regex,) = parameter["regexes"]
    assert re.fullmatch(regex, good) and not re.fullmatch(regex, bad)
    assert parameter["label"] and parameter["helpText"].endswith(".")


def test_templates_parameters_are_the_flags_of_the_command():
    arguments = [f"--{name}={good}" for name, (good, _) in (VALUES | PLACES).items()]
    ours, beams, names = parse(*arguments)
    assert beams == [] and {parameter["name"] for parameter in TEMPLATE["parameters"]} == set(names)
    assert (ours["lr_size"], ours["max_rejected"], ours["num_frames"]) == (["12x16"], 0.25, 3)
    required = {parameter["name"] for parameter in TEMPLATE["parameters"] if not parameter.get("isOptional")}
    assert required == {"output"}, "with videos without labels alone, there is neither layout nor videos"


def pins(name):
    return dict(re.findall(r"^([a-z0-9_.-]+)(?:\[.*\])?==(\S+) \\$", (ROOT / name).read_text(), re.MULTILINE))


def test_container_has_the_locked_beam_and_what_gcp_adds():
    container = (ROOT / "Dockerfile").read_text()
    assert f"apache/beam_python3.11_sdk:{pins('requirements.lock')['apache-beam']} " in container
    for copied in re.findall(r"^COPY (?!--)(.*) \S+$", container, re.MULTILINE):
        assert all((ROOT / path).exists() for path in copied.split())
        assert all(f"!{path}\n" in (ROOT / ".dockerignore").read_text() for path in copied.split())
    # Whole packages of the lock file, line by line, which the container leaves out.
    locked = (ROOT / "requirements.lock").read_text().splitlines()
    assert set((ROOT / "requirements-dev.lock").read_text().splitlines()[1:]) <= set(locked)
    assert {"pytest", "moto", "ruff"} <= set(pins("requirements-dev.lock"))
    assert not {"apache-beam", "boto3", "hdfs", "tensorflow"} & set(pins("requirements-dev.lock"))
    added = pins("requirements-gcp.lock")
    assert not set(added) & set(pins("requirements.lock")), "locked twice"
    call = ast.parse((ROOT / "setup.py").read_text()).body[-1].value
    extras = next(keyword.value for keyword in call.keywords if keyword.arg == "extras_require")
    declared = {re.split("[<>=]", name)[0] for name in ast.literal_eval(extras)["gcp"]}
    assert declared <= set(added) | set(pins("requirements.lock")) and len(declared) == 5
