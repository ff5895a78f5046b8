"""The components of the pipeline, each a declaration: what it takes, what it makes, and the commands that do it.

The commands are those that one would type; their settings are a node's `flags`.
"""

import os
from collections.abc import Mapping
from typing import Any

from pipeline import artifacts, named_files, verdicts
from pipeline.graph import Call, Component, arguments
from stat_tf import digests, versions

# A parameter of this type: flags of a command, by name; repeated ones as lists, and None where there is no value.
Flags = dict
# For commands that refuse an output that is there: if it is, the pipeline was killed before it could note that.
_AGAIN = {"overwrite": "true"}


def _command(module: str, flags: Mapping[str, Any], **more: str) -> list[str]:
    """A module and its flags; `more` are the places, which come first."""
    return [module, *arguments(more), *arguments(flags)]


def _render(call: Call) -> list[list[str]]:
    return [_command("pipeline.synthetic", call.parameters["flags"], output=call.output)]


def _build(call: Call) -> list[list[str]]:
    places = {"videos": call.inputs["videos"]} if "videos" in call.inputs else {}
    return [_command("pipeline.build_dataset", call.parameters["flags"], **places, output=call.output, **_AGAIN)]


def _validate_examples(call: Call) -> list[list[str]]:
    flags = call.parameters["flags"]
    places = {"data_dir": call.inputs["examples"], "output": call.output}
    return [_command("pipeline.validate_examples", flags, **places, **_AGAIN)]


def _train(call: Call) -> list[list[str]]:
    keys = {"examples": "data_dir", "signals": "signals", "teacher": "teacher_run", "initial": "init_run"}
    places = {flag: call.inputs[key] for key, flag in keys.items() if key in call.inputs}
    return [_command("stat_tf.train", call.parameters["flags"], **places, run_dir=call.output)]


def _make_signals(call: Call) -> list[list[str]]:
    places = {"data_dir": call.inputs["examples"], "teacher_run": call.inputs["teacher"], "output": call.output}
    return [_command("pipeline.teacher_signals", call.parameters["flags"], **places, **_AGAIN)]


def _export(call: Call) -> list[list[str]]:
    flags = {"warmup_data_dir": call.inputs["examples"]} | call.parameters["flags"]
    return [_command("stat_tf.export", flags, run_dir=call.inputs["run"], output=call.output)]


def _validate_export(call: Call) -> list[list[str]]:
    model = artifacts.version_dir(call.inputs["model"])
    places = {"model": model, "run_dir": call.inputs["run"], "output": call.output}
    return [_command("pipeline.validate_export", call.parameters["flags"], **places)]


def _served_now(call: Call) -> dict[str, Any]:
    """The version that a candidate would replace: the newest that is not the candidate itself.

    Pushing a model does not make the evaluation that it was blessed by out of date.
    """
    push_dir = call.parameters["push_dir"]
    candidate = digests.of(artifacts.version_dir(call.inputs["model"]))
    for version in versions.whole(push_dir):
        directory = os.path.join(push_dir, str(version))
        digest = digests.of(directory)
        if digest != candidate:
            return {"pushed": directory, "pushed model": digest}
    return {"pushed": "", "pushed model": ""}


# The split that an Evaluator compares on.
EVALUATION_SPLIT = "test"
# The networks that an Evaluator compares, in the order of the table.
NETWORKS = ("teacher", "student", "student_longer")
CANDIDATE, PUSHED = "candidate", "pushed"


def _evaluate(call: Call) -> list[list[str]]:
    data = {"data_dir": call.inputs["examples"], "split": EVALUATION_SPLIT}

    def evaluation(name: str, **model: str) -> list[str]:
        return _command("stat_tf.evaluate", {}, **model, **data, output=os.path.join(call.output, name))

    networks = [name for name in NETWORKS if name in call.inputs]
    commands = [evaluation(name, run_dir=call.inputs[name]) for name in networks]
    commands.append(evaluation(CANDIDATE, model=artifacts.version_dir(call.inputs["model"])))
    judged = {
        "candidate": os.path.join(call.output, CANDIDATE),
        "baseline": [os.path.join(call.output, name) for name in networks if name != "teacher"],
    }
    if call.observed.get("pushed"):
        commands.append(evaluation(PUSHED, model=call.observed["pushed"]))
        judged["pushed"] = os.path.join(call.output, PUSHED)
    return [*commands, _command("pipeline.bless", judged | call.parameters["flags"], output=call.output)]


def _draw(call: Call) -> list[list[str]]:
    networks = {"run_dir": call.inputs["teacher"], "data_dir": call.inputs["examples"], "output": call.output}
    compared = [call.inputs[key] for key in ("student_longer", "student", "stat") if key in call.inputs]
    # Beside the student trained on, the one that it was trained on from says little.
    compared = [path for path in compared if path != call.inputs.get("student") or "student_longer" not in call.inputs]
    return [_command("stat_tf.visualize", {"compare_run": compared} | call.parameters["flags"], **networks)]


def _push(call: Call) -> list[list[str]]:
    places = {
        "model": artifacts.version_dir(call.inputs["model"]),
        "blessing": call.inputs["evaluation"],
        "validation": call.inputs["validation"],
        "push_dir": call.parameters["push_dir"],
        "output": call.output,
    }
    return [_command("pipeline.push", {}, **places)]


def _unblessed(inputs: Mapping[str, str]) -> str:
    verdict = verdicts.load(inputs["evaluation"], verdicts.BLESSING)
    return "" if verdict["blessed"] else f"not blessed. {' '.join(verdict['reasons'])}"


def _component(name, inputs, output, commands, **more) -> Component:
    """A component whose parameters are its last command's flags, and that observes what they name, if not said."""
    defaults = {"parameters": {"flags": Flags}, "observe": named_files.observe}
    return Component(name, inputs, output, commands=commands, **defaults | more)


_EXAMPLES = {"examples": artifacts.EXAMPLES}
_INITIAL = {"initial": artifacts.RUN}

VIDEO_RENDERER = _component("VideoRenderer", {}, artifacts.VIDEOS, _render)
EXAMPLE_GEN = _component(
    "ExampleGen",
    {"videos": artifacts.VIDEOS},
    artifacts.EXAMPLES,
    _build,
    optional=frozenset({"videos"}),
)
EXAMPLE_VALIDATOR = _component("ExampleValidator", _EXAMPLES, artifacts.EXAMPLE_REPORT, _validate_examples)
TEACHER_TRAINER = _component("TeacherTrainer", _EXAMPLES, artifacts.RUN, _train)
STUDENT_TRAINER = _component(
    "StudentTrainer",
    _EXAMPLES | _INITIAL,
    artifacts.RUN,
    _train,
    optional=frozenset(_INITIAL),
)
SIGNAL_GEN = _component("SignalGen", _EXAMPLES | {"teacher": artifacts.RUN}, artifacts.SIGNALS, _make_signals)
TRANSFER_TRAINER = _component(
    "TransferTrainer",
    _EXAMPLES | _INITIAL | {"teacher": artifacts.RUN, "signals": artifacts.SIGNALS},
    artifacts.RUN,
    _train,
    # Either the clips and the teacher, or the teacher's signals.
    optional=frozenset({"examples", "teacher", "signals"}),
)
EXPORTER = _component("Exporter", _EXAMPLES | {"run": artifacts.RUN}, artifacts.MODEL, _export)
INFRA_VALIDATOR = _component(
    "InfraValidator", {"model": artifacts.MODEL, "run": artifacts.RUN}, artifacts.VALIDATION, _validate_export
)
EVALUATOR = _component(
    "Evaluator",
    _EXAMPLES | {"model": artifacts.MODEL} | dict.fromkeys(NETWORKS, artifacts.RUN),
    artifacts.EVALUATION,
    _evaluate,
    parameters={"flags": Flags, "push_dir": str},
    optional=frozenset({"student_longer"}),
    observe=lambda call: named_files.observe(call) | _served_now(call),
)
PUSHER = Component(
    "Pusher",
    {"model": artifacts.MODEL, "evaluation": artifacts.EVALUATION, "validation": artifacts.VALIDATION},
    artifacts.PUSHED_MODEL,
    {"push_dir": str},
    _push,
    withheld=_unblessed,
)
VISUALIZER = _component(
    "Visualizer",
    _EXAMPLES | dict.fromkeys(("teacher", "student", "student_longer", "stat"), artifacts.RUN),
    artifacts.FIGURES,
    _draw,
    optional=frozenset({"student_longer"}),
)
