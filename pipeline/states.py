"""How far a graph is: which outputs are there, which are not, and why."""

import dataclasses
import enum
import os
from collections.abc import Mapping
from typing import Any

from pipeline import code_version, manifest
from pipeline.graph import Call, Graph, Node
from pipeline.manifest import Manifest, Plan, Progress
from stat_tf import errors

# What a directory raises that is no whole artifact.
UNREADABLE = (OSError, ValueError, LookupError, errors.UserError)


class Status(enum.Enum):
    """What is to be said of a node."""

    DONE = "done"
    STALE = "stale"
    TO_DO = "to do"
    WITHHELD = "withheld"


@dataclasses.dataclass(frozen=True)
class State:
    """How far a node is.

    Attributes:
      node: The node.
      status: Its status.
      reason: Why it is not done, or how it is; "" where there is nothing to add.
      plan: What its output is to be made from; None while an input is missing.
      directory: Where its output is or will be; "" while that is not known.
      manifest: Its output's; None unless it is done.
    """

    node: Node
    status: Status
    reason: str = ""
    plan: Plan | None = None
    directory: str = ""
    manifest: Manifest | None = None

    @property
    def output(self) -> str:
        """The directory of the artifact itself."""
        return artifact_dir(self.node, self.directory)


def artifact_dir(node: Node, directory: str) -> str:
    """Where the artifact lies, in the directory that has its manifest."""
    return os.path.join(directory, node.component.output.name)


def survey(graph: Graph, root: str, keep_other_code: bool = False) -> dict[str, State]:
    """The state of every node, in order; nothing is changed.

    Args:
      graph: The graph.
      root: The directory of all outputs.
      keep_other_code: Whether an output that differs from what is wanted in nothing but the code that made it counts.
    """
    found: dict[str, State] = {}
    for node in graph.nodes.values():
        found[node.name] = state_of(node, found, root, keep_other_code)
    return found


def state_of(node: Node, before: Mapping[str, State], root: str, keep_other_code: bool = False) -> State:
    """The state of one node.

    Args:
      node: The node.
      before: The states of those that it reads.
      root: The directory of all outputs.
      keep_other_code: As of `survey`.

    Raises:
      UserError: Something that its parameters name is missing.
    """
    earlier = _outputs(os.path.join(root, node.name))
    sources = {key: before[name] for key, name in node.inputs.items()}
    missing = [state.node.name for state in sources.values() if state.status is not Status.DONE]
    if missing:
        status = Status.STALE if any(made for _, made in earlier.values()) else Status.TO_DO
        return State(node, status, f"waits for {' and '.join(missing)}")
    directories = {key: state.output for key, state in sources.items()}
    if reason := node.component.withheld(directories):
        return State(node, Status.WITHHELD, reason)
    plan = plan_of(node, sources)
    directory = os.path.join(root, node.name, plan.short)
    if directory not in earlier and keep_other_code:
        # The newest that is finished, before one that was begun.
        kept = {place: made for place, (progress, made) in earlier.items() if _same(plan, progress, made)}
        directory = max(kept, key=lambda place: kept[place].finished if kept[place] else "", default=directory)
    progress, made = earlier.get(directory, (None, None))
    if made and (damage := _damage(node, directory, made)):
        return State(node, Status.STALE, damage, plan, directory)
    if made:
        changed = code_version.changed(made.plan.code, plan.code)
        reason = f"kept, though its code has changed: {_few(changed)}" if changed else ""
        return State(node, Status.DONE, reason, plan, directory, made)
    if progress:
        far = node.component.output.progress(artifact_dir(node, directory))
        return State(node, Status.TO_DO, f"begun{f', {far}' if far else ''}; goes on there", plan, directory)
    others = [made for _, made in earlier.values() if made]
    if others:
        newest = max(others, key=lambda made: made.finished)
        return State(node, Status.STALE, _difference(newest.plan, plan), plan, directory)
    return State(node, Status.TO_DO, "", plan, directory)


def plan_of(node: Node, sources: Mapping[str, State]) -> Plan:
    """What a node's output is made from, once all that it reads is done."""
    inputs = {
        key: manifest.Source(state.node.name, state.output, state.manifest.content, state.manifest.fingerprint)
        for key, state in sources.items()
    }
    call = Call({key: source.directory for key, source in inputs.items()}, node.parameters, {}, "")
    observed = node.component.observe(call)
    commands = node.component.commands(dataclasses.replace(call, observed=observed))
    code = code_version.of_modules(command[0] for command in commands)
    return Plan(node.component.name, inputs, dict(node.parameters), observed, code)


def _outputs(directory: str) -> dict[str, tuple[Progress | None, Manifest | None]]:
    """Plan and manifest of each output that a node has, or has begun, by directory."""
    names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    # Those that were set aside have other names.
    places = (os.path.join(directory, name) for name in names if manifest.is_short(name))
    found = {place: (manifest.load_progress(place), manifest.load_manifest(place)) for place in places}
    return {place: records for place, records in found.items() if any(records)}


def _same(plan: Plan, progress: Progress | None, made: Manifest | None) -> bool:
    other = made or progress
    return other.plan.but_for_code == plan.but_for_code


def _damage(node: Node, directory: str, made: Manifest) -> str:
    """What has happened to an output since it was made; "" if nothing has."""
    try:
        content = node.component.output.content(artifact_dir(node, directory))
    except UNREADABLE as error:
        return f"no longer whole ({errors.brief(error)})"
    return "" if content == made.content else f"changed since it was made: {artifact_dir(node, directory)}"


def _difference(before: Plan, now: Plan) -> str:
    """In what two plans differ, in a phrase."""
    said = []
    for key in sorted(before.inputs.keys() | now.inputs.keys()):
        then, this = before.inputs.get(key), now.inputs.get(key)
        if then is None or this is None or then.content != this.content:
            said.append(f"other {key}")
    for then, this in ((before.parameters, now.parameters), (before.observed, now.observed)):
        said += _changes(_flat(then), _flat(this))
    if modules := code_version.changed(before.code, now.code):
        said.append(f"other code: {_few(modules)}")
    return "; ".join(said)


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, those of a mapping within by their own names."""
    flat = {}
    for name, value in values.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return flat


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return [f"{name} {_shown(before.get(name))} -> {_shown(now.get(name))}" for name in names]


def _shown(value: Any) -> str:
    text = "none" if value in (None, "") else ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
