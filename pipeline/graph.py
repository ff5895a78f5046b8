"""A pipeline as a graph: kinds of artifacts, components between them, and the nodes that put these to use."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stat_tf import errors


def _nothing(*unused) -> dict[str, Any]:
    return {}


def _no_reason(*unused) -> str:
    return ""


def arguments(flags: Mapping[str, Any]) -> list[str]:
    """Flags by name as a command line has them: a list once for each value, None a switch without one."""
    found = []
    for name, value in flags.items():
        for each in value if isinstance(value, list) else [value]:
            found.append(f"--{name}" if each is None else f"--{name}={each}")
    return found


@dataclasses.dataclass(frozen=True)
class ArtifactType:
    """A kind of directory that one component writes and others read.

    Attributes:
      name: What it is called, and the directory too.
      content: From the directory to a digest of what its readers go by, so that an artifact made anew that comes out
        the same leaves everything behind it as it is. Raises OSError, ValueError or LookupError where it is not whole.
      metrics: From the directory to what is worth knowing of it, plain JSON values.
      progress: From a directory that is being written to how far it is, in words; "" where that cannot be told.
    """

    name: str
    content: Callable[[str], str]
    metrics: Callable[[str], dict[str, Any]] = _nothing
    progress: Callable[[str], str] = _no_reason


@dataclasses.dataclass(frozen=True)
class Call:
    """What a component is run with.

    Attributes:
      inputs: Directories of the input artifacts by key.
      parameters: Of the node.
      observed: What the component's `observe` found.
      output: The directory to write.
    """

    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]
    observed: Mapping[str, Any]
    output: str


@dataclasses.dataclass(frozen=True)
class Component:
    """A kind of step: what it takes, what it makes, and the commands that do it.

    Attributes:
      name: A noun.
      inputs: Types of the input artifacts by key.
      output: Type of the output artifact.
      parameters: Types of the parameters by name; values are plain JSON.
      commands: What to run, in order: each a module with a `main`, and its flags. They write all of `Call.output`.
      optional: Keys of inputs that a node may leave out.
      observe: From a call without `observed` to what else of the world the output depends on, plain JSON values.
      withheld: From the directories of the inputs to why the component is not to be run on them; "" if it is.
    """

    name: str
    inputs: Mapping[str, ArtifactType]
    output: ArtifactType
    parameters: Mapping[str, type]
    commands: Callable[[Call], list[list[str]]]
    optional: frozenset[str] = frozenset()
    observe: Callable[[Call], dict[str, Any]] = _nothing
    withheld: Callable[[Mapping[str, str]], str] = _no_reason


@dataclasses.dataclass(frozen=True)
class Node:
    """A component in its place.

    Attributes:
      name: Unique in the graph; also the directory of its outputs.
      component: What it does.
      inputs: By key of the component's inputs, the node whose output it is.
      parameters: By name of the component's parameters.
    """

    name: str
    component: Component
    inputs: Mapping[str, str]
    parameters: Mapping[str, Any]

    def outline(self, observed: Mapping[str, Any]) -> list[list[str]]:
        """The node's commands, wherever its inputs and its output may lie.

        Args:
          observed: As of `Call`.
        """
        places = {key: f"<{key}>" for key in self.inputs}
        return self.component.commands(Call(places, self.parameters, observed, "<output>"))


class Graph:
    """Nodes in an order in which they can run.

    Attributes:
      nodes: By name, in that order.
    """

    def __init__(self, nodes: Sequence[Node]):
        """Checks that each node has what its component declares.

        Raises:
          UserError: Two nodes have one name, or an input or a parameter is missing, unknown or of another type.
        """
        self.nodes: dict[str, Node] = {}
        for node in nodes:
            if node.name in self.nodes:
                raise errors.UserError(f"Two nodes of the pipeline are called {node.name}.")
            self._check_inputs(node)
            _check_parameters(node)
            self.nodes[node.name] = node

    def _check_inputs(self, node: Node) -> None:
        declared = node.component.inputs
        needed = declared.keys() - node.component.optional
        if not needed <= node.inputs.keys() <= declared.keys():
            raise errors.UserError(
                f"Node {node.name} has the inputs {', '.join(node.inputs) or 'none'}; a {node.component.name} takes "
                f"{', '.join(declared)}."
            )
        for key, source in node.inputs.items():
            if source not in self.nodes:
                raise errors.UserError(f"Node {node.name} reads the output of {source}, which does not come before it.")
            found = self.nodes[source].component.output
            if found is not declared[key]:
                raise errors.UserError(
                    f"Node {node.name} takes {declared[key].name} as {key}, and {source} makes {found.name}."
                )


def _check_parameters(node: Node) -> None:
    declared = node.component.parameters
    if node.parameters.keys() != declared.keys():
        raise errors.UserError(
            f"Node {node.name} has the parameters {', '.join(node.parameters) or 'none'}; a {node.component.name} "
            f"takes {', '.join(declared) or 'none'}."
        )
    for name, value in node.parameters.items():
        if not isinstance(value, declared[name]):
            raise errors.UserError(f"Parameter {name} of node {node.name} is no {declared[name].__name__}: {value!r}.")
