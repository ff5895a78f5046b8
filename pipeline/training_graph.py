"""The pipeline from videos to a served student, as a graph; its settings come from a directory of flag files.

videos -> examples -> example_validation
             |-> teacher --+-> (signals) -.
             |             '--------------+-> stat -> export -> export_validation -.
             '-> student --+--------------'             |                          +-> push
                           '-> student_longer ----------+-> evaluation ------------'
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import Any

from absl import flags as absl_flags

from pipeline import command_flags, components
from pipeline.graph import Component, Graph, Node
from stat_tf import errors, flag_files

# What the graph decides, and by which of its own flags, if by any.
_DECIDED = {
    "videos": "--videos",
    **dict.fromkeys(("output", "data_dir", "run_dir", "teacher_run", "init_run", "signals", "model"), ""),
    **dict.fromkeys(("candidate", "baseline", "pushed", "blessing", "validation", "overwrite"), ""),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a graph is made by.

    Attributes:
      config_dir: Holds NODE.flags for the nodes: `build.flags` of node examples, `teacher.flags` and so on. Those of
        teacher, student and stat must be there; with `student_longer.flags`, a student trained on without a teacher
        is a baseline too; with `videos.flags` and no `videos`, these are rendered.
      videos: Directory of the videos; "" where they are rendered.
      push_dir: The directory of versions that TF Serving polls.
      node_flags: NODE:--name=value, over the files.
      validate_examples: Whether the dataset is validated.
      signals: Whether stage stat trains from the teacher's stored signals instead of its network.
    """

    config_dir: str
    videos: str
    push_dir: str
    node_flags: Sequence[str] = ()
    validate_examples: bool = True
    signals: bool = False


# What decides the stored views and the student's grids: node stat's flags, which node signals has too.
_OF_SIGNALS = ("lr_size", "scales", "flip", "color_jitter", "backbone", "student_input", "temporal_fusion")

# The flag files of the nodes that can have one.
FILES = {
    "videos": "videos",
    "examples": "build",
    "example_validation": "validate_examples",
    "teacher": "teacher",
    "student": "student",
    "student_longer": "student_longer",
    "signals": "signals",
    "stat": "stat",
    "export": "export",
    "export_validation": "validate_export",
    "evaluation": "bless",
    "figures": "visualize",
}


def make(settings: Settings) -> Graph:
    """Makes the graph.

    Raises:
      UserError: A flag file is missing or holds nonsense, a command does not know a flag or takes no such value of it,
        or a flag is given to no node of the graph.
    """
    flags = _NodeFlags(settings)
    longer = flags.has_file("student_longer")
    examples, networks = {"examples": "examples"}, {"teacher": "teacher", "student": "student"}
    nodes = []

    def add(name: str, component: Component, inputs: Mapping[str, str], **parameters: Any) -> None:
        if "flags" in component.parameters:
            parameters["flags"] = parameters.get("flags", {}) | flags.of(name, component)
        node = Node(name, component, inputs, parameters)
        for command in node.outline({}):
            command_flags.check(command, name, flags.origin(name))
        nodes.append(node)

    rendered = not settings.videos and flags.has_file("videos")
    if rendered:
        add("videos", components.VIDEO_RENDERER, {})
    add("examples", components.EXAMPLE_GEN, {"videos": "videos"} if rendered else {})
    if settings.validate_examples:
        add("example_validation", components.EXAMPLE_VALIDATOR, examples)
    add("teacher", components.TEACHER_TRAINER, examples)
    add("student", components.STUDENT_TRAINER, examples)
    if longer:
        networks["student_longer"] = "student_longer"
        add("student_longer", components.STUDENT_TRAINER, examples | {"initial": "student"})
    if settings.signals:
        students = flags.of("stat", components.TRANSFER_TRAINER)
        shared = {name: value for name, value in students.items() if name in _OF_SIGNALS}
        add("signals", components.SIGNAL_GEN, examples | {"teacher": "teacher"}, flags=shared)
    transfer = {"signals": "signals"} if settings.signals else examples | {"teacher": "teacher"}
    add("stat", components.TRANSFER_TRAINER, transfer | {"initial": "student"})
    add("export", components.EXPORTER, examples | {"run": "stat"})
    add("export_validation", components.INFRA_VALIDATOR, {"model": "export", "run": "stat"})
    add("evaluation", components.EVALUATOR, examples | networks | {"model": "export"}, push_dir=settings.push_dir)
    checked = {"model": "export", "evaluation": "evaluation", "validation": "export_validation"}
    add("push", components.PUSHER, checked, push_dir=settings.push_dir)
    # Last: no model waits for pictures.
    add("figures", components.VISUALIZER, examples | networks | {"stat": "stat"})
    flags.check_all_used([node.name for node in nodes if node.name in FILES])
    return Graph(nodes)


class _NodeFlags:
    """The flags of each node: its file's, then those given for it."""

    def __init__(self, settings: Settings):
        self._settings = settings
        if not os.path.isdir(settings.config_dir):
            raise errors.UserError(
                f"There is no directory {settings.config_dir}: give --config one with flag files, and run from the "
                "root of the repository."
            )
        self._given: dict[str, list[str]] = {}
        for text in settings.node_flags:
            name, colon, flag = text.partition(":")
            if not colon:
                raise errors.UserError(f"--set={text} names no node: write --set=NODE:--name=value.")
            self._given.setdefault(name, []).append(flag)
        self._unused = set(self._given)

    def _path(self, node: str) -> str:
        return os.path.join(self._settings.config_dir, f"{FILES.get(node, node)}.flags")

    def has_file(self, node: str) -> bool:
        return os.path.isfile(self._path(node))

    def origin(self, node: str) -> str:
        """Where the flags of a node can be corrected, as the object of a sentence."""
        places = [self._path(node)] if self.has_file(node) else []
        if node in self._given or not places:
            places.append(f"--set={node}:--name=value")
        return " or ".join(places)

    def of(self, node: str, component: Component) -> dict[str, Any]:
        """The flags of a node that is such a component."""
        path, given = self._path(node), self._given.get(node, [])
        self._unused.discard(node)
        if not self.has_file(node) and node in ("teacher", "student", "stat"):
            raise errors.UserError(f"{path} is missing: give --config a directory that has the flags of node {node}.")
        defined, found = command_flags.of(_module(component)), {}
        if self.has_file(node):
            found |= _gathered(flag_files.read([f"--flagfile={path}"], path), defined)
        found |= _gathered(flag_files.read(given, f"--set={node}:"), defined)
        for name in found.keys() & _DECIDED.keys():
            mend = f"give {_DECIDED[name]} instead" if _DECIDED[name] else "leave it out"
            raise errors.UserError(f"--{name} of node {node} is decided by the pipeline: {mend}.")
        if node == "examples" and self._settings.videos:
            found = {"videos": self._settings.videos} | found
        return found

    def check_all_used(self, nodes: Sequence[str]) -> None:
        """`nodes` are those that take flags."""
        if self._unused:
            name = min(self._unused)
            meant = [f" ({name}.flags is that of node {node})" for node in nodes if FILES[node] == name]
            raise errors.UserError(
                f"--set={name}:... names no node of this pipeline that takes flags{''.join(meant)}: give one of "
                f"{', '.join(nodes)}."
            )


def _module(component: Component) -> str:
    """The command that has a component's flags: its last."""
    parameters = {name: kind() for name, kind in component.parameters.items()}
    return Node("", component, component.inputs, parameters).outline({})[-1][0]


def _gathered(flags: Sequence[tuple[str, str]], defined: absl_flags.FlagValues) -> dict[str, Any]:
    """Flags by name: all values of those that may be repeated, and of those of Beam's that are; else the last."""
    found: dict[str, list[Any]] = {}
    for name, value in flags:
        if name not in defined:
            # Beam's: a switch takes no value, and its own name may start with "no".
            name, value = {"true": (name, None), "false": (f"no{name}", None)}.get(value, (name, value))
        found.setdefault(name, []).append(value)
    return {name: values if _may_repeat(name, values, defined) else values[-1] for name, values in found.items()}


def _may_repeat(name: str, values: Sequence[Any], defined: absl_flags.FlagValues) -> bool:
    return isinstance(defined[name], absl_flags.MultiFlag) if name in defined else len(values) > 1
