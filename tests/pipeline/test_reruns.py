"""What of the whole training graph runs again after each kind of change: the commands are pretended, all else real."""

import errno
import hashlib
import json
import os
import pathlib
import shutil

import pytest

from pipeline import artifacts, code_version, components, execution, states, training_graph, verdicts
from pipeline.states import Status
from stat_tf import digests, errors, processes, versions
from stat_tf.data import info

# Flags of a training that its weights do not show, as they are pretended here.
NOT_IN_WEIGHTS = ("clip_norm", "log_steps")


def text_of(directory):
    """All files of a directory as one text, where there is one."""
    return "".join(path.read_text() for path in sorted(pathlib.Path(directory).rglob("*")) if path.is_file())


class Pretended(processes.Commands):
    """Leaves what the commands would: short texts that follow from what they read and from their flags."""

    def __init__(self):
        super().__init__(lock=-1)
        self.nodes = []

    def run_in_view(self, arguments):
        module, *given = arguments
        flags = dict(argument.removeprefix("--").split("=", 1) for argument in given)
        output = pathlib.Path(flags.get("output") or flags["run_dir"])
        node = output.parts[-4] if module == "stat_tf.evaluate" else output.parts[-3]
        if node not in self.nodes:
            self.nodes.append(node)
        self.output = output
        getattr(self, module.rpartition(".")[2])(flags)

    def write(self, name, text):
        path = self.output / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def build_dataset(self, flags):
        shard = text_of(flags["videos"])
        checksum = hashlib.sha256(shard.encode()).hexdigest()
        shards = {"train": (info.Shard("train-0", 1, len(shard), checksum),)}
        counts = {"train": {"a": 1}}
        numbers = dict(num_segments=1, num_snippets=1, num_frames=1, frame_stride=1, lens_blur=0, noise=0)
        sizes = dict(hr_size=(24, 32), lr_sizes=((12, 16),))
        made = info.DatasetInfo(
            ("a",), shards=shards, counts=counts, num_rejected=0, source_fingerprint="", **numbers, **sizes
        )
        self.write("train-0", shard)
        self.write(info.FILE_NAME, made.to_json())

    def validate_examples(self, flags):
        self.write("report.json", "fine")

    def train(self, flags):
        told = [
            f"{name}={value}"
            for name, value in flags.items()
            if name not in ("run_dir", *NOT_IN_WEIGHTS) and not value.startswith("/")
        ]
        read = [
            text_of(os.path.join(flags[name], "checkpoints/best"))
            for name in ("teacher_run", "init_run")
            if name in flags
        ]
        self.write(
            "config.json",
            json.dumps({"epochs": 1} | {name: value for name, value in flags.items() if name != "run_dir"}),
        )
        self.write("history.jsonl", json.dumps({"epoch": 1, "loss": 1.0}))
        self.write("checkpoints/best/weights", " ".join([*told, *read, text_of(flags["data_dir"])]))

    def export(self, flags):
        self.write("1/saved_model.pb", text_of(os.path.join(flags["run_dir"], "checkpoints/best")))

    def validate_export(self, flags):
        fields = {"verdict": "pass", "problems": [], "model_digest": digests.of(flags["model"]), "latency_ms": 1}
        verdicts.write(str(self.output), verdicts.VALIDATION, fields)

    def evaluate(self, flags):
        self.write("metrics.json", "{}")
        self.write("predictions.csv", "clip_id,label,top_1\n")

    def bless(self, flags):
        fields = {"blessed": True, "reasons": [], "prec@1": 0.5, "model_digest": digests.of(flags["candidate"])}
        verdicts.write(str(self.output), verdicts.BLESSING, fields | {"pushed_digest": ""})

    def visualize(self, flags):
        self.write("clip.png", "a picture")

    def push(self, flags):
        version = versions.newest(flags["push_dir"]) + 1
        directory = os.path.join(flags["push_dir"], str(version))
        shutil.copytree(flags["model"], directory)
        fields = {"version": version, "directory": directory, "model_digest": digests.of(directory)}
        verdicts.write(str(self.output), verdicts.PUSHED, fields)


class World:
    """A directory with all that the pipeline reads and makes."""

    def __init__(self, place):
        self.place = place
        for name, text in {
            "videos/train/a/1.mp4": "a video",
            "weights": "published weights",
            "flow/checkpoints/best/w": "of flow",
            "warmup/train-0": "of another dataset",
            "served/.keep": "",
            "config/build.flags": "--layout=folders\n",
            "config/export.flags": f"--warmup_data_dir={place}/warmup\n--flow_run_dir={place}/flow\n",
            "config/validate_export.flags": f"--flow_run_dir={place}/flow\n",
            "config/teacher.flags": f"--stage=teacher\n--init_from={place}/weights\n",
            "config/student.flags": "--stage=student\n",
            "config/stat.flags": "--stage=stat\n",
        }.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def graph(self, *node_flags):
        places = [str(self.place / name) for name in ("config", "videos", "served")]
        return training_graph.make(training_graph.Settings(*places, node_flags))

    def run(self, *node_flags):
        """The nodes that ran."""
        commands = Pretended()
        self.found = execution.run(self.graph(*node_flags), str(self.place / "out"), commands)
        assert {state.status for state in self.found.values()} == {Status.DONE}
        return commands.nodes

    def survey(self):
        return states.survey(self.graph(), str(self.place / "out"))

    def output(self, node):
        return pathlib.Path(self.found[node].output)


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setattr(code_version, "of_modules", lambda names: dict.fromkeys(names, "1"))
    made = World(tmp_path)
    assert made.run() == ALL and made.run() == []
    return made


EXAMPLES = ["examples", "example_validation"]
EXPORTED = ["export", "export_validation", "evaluation"]
ALL = [*EXAMPLES, "teacher", "student", "stat", *EXPORTED, "push", "figures"]


def test_other_videos_run_all_and_touched_ones_the_build_alone(world):
    os.utime(world.place / "videos/train/a/1.mp4", (1, 1))
    assert world.run() == ["examples"]
    world.write("videos/train/a/2.mp4", "another")
    assert world.run() == ALL


@pytest.mark.parametrize(
    ("flag", "expected"),
    [
        # Other weights, an otherwise described network of the same, and what a run does not depend on.
        ("teacher:--seed=1", ["teacher", "stat", *EXPORTED, "push", "figures"]),
        ("teacher:--clip_norm=5", ["teacher", "stat", "evaluation", "figures"]),
        ("teacher:--log_steps=7", ["teacher"]),
    ],
)
def test_changed_flag_runs_what_depends_on_it(world, flag, expected):
    assert world.run(flag) == expected


def test_changed_file_that_a_flag_names_runs_what_reads_it(world):
    for name, expected in (
        ("weights", ["teacher"]),
        ("flow/checkpoints/best/w", ["export", "export_validation"]),
        ("warmup/train-0", ["export"]),
    ):
        world.write(name, "something of another size")
        assert world.run() == expected, name


def test_newly_served_model_is_compared_with(world):
    world.write("served/7/saved_model.pb", "other")
    assert world.run() == ["evaluation", "push"]
    commands = world.found["evaluation"].manifest.commands
    assert any(f"--model={world.place}/served/7" in command for command in commands)


def test_other_commands_run_again_though_no_flag_has_changed(world, monkeypatch):
    real = components._command

    def more(module, flags, **places):
        return [*real(module, flags, **places), *(["--batch_size=3"] if module == "stat_tf.evaluate" else [])]

    monkeypatch.setattr(components, "_command", more)
    assert world.survey()["evaluation"].reason == "its commands have changed"
    assert world.run() == ["evaluation"]


# A file of each node's output that its readers go by.
FILES = (
    ("examples", "train-0"),
    ("examples", "dataset.json"),
    ("example_validation", "report.json"),
    ("teacher", "config.json"),
    ("student", "checkpoints/best/weights"),
    ("export", "1/saved_model.pb"),
    ("export_validation", "validation.json"),
    ("evaluation", "blessing.json"),
    ("evaluation", "student/metrics.json"),
    ("evaluation", "candidate/predictions.csv"),
    ("figures", "clip.png"),
)


@pytest.mark.parametrize("how", ["gone", "cut", "folder"])
def test_output_that_is_not_whole_is_made_anew(world, how):
    for node, name in FILES:
        path = world.output(node) / name
        if how == "gone":
            os.remove(path)
        elif how == "cut":
            path.write_text(path.read_text()[:-1])
        else:
            shutil.rmtree(path.parent)
        assert world.survey()[node].status is Status.STALE, name
        assert world.run() == [node], name


def test_pushed_version_that_is_gone_is_pushed_again(world):
    shutil.rmtree(verdicts.load(str(world.output("push")), verdicts.PUSHED)["directory"])
    assert world.run() == ["push"]


def test_link_to_nowhere_among_the_videos_is_one_more_video(world):
    before = artifacts.listing(str(world.place / "videos"))
    os.symlink("nowhere", world.place / "videos/train/a/3.mp4")
    assert artifacts.listing(str(world.place / "videos")) != before
    assert world.survey()["examples"].reason == "files of --videos: changed"


def test_videos_that_cannot_be_listed_now_change_nothing(world, monkeypatch):
    real = os.scandir

    def unreadable(path):
        if path == str(world.place / "videos"):
            raise OSError(errno.EIO, "Input/output error", path)
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", unreadable)
        with pytest.raises(errors.UserError, match=r"/videos cannot be read now \(Input/output error\)"):
            world.survey()
    assert world.run() == []
