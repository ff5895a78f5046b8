"""How far a graph is: which outputs are there, which are not, and why."""

import contextlib
import dataclasses
import enum
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pipeline import code_version, manifest
from pipeline.graph import Call, Graph, Node
from pipeline.manifest import Manifest, Plan, Progress
from stat_tf import errors

# What shows that something is missing, or is not what it should be; the last two of JSON of other types.
_NOT_WHOLE = (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, AttributeError)
_DIGEST = re.compile("[0-9a-f]{64}")


class Damaged(Exception):
    """A directory is no whole artifact; the message says why, in a phrase."""


class Status(enum.Enum):
    """What is to be said of a node."""

    DONE = "done"
    STALE = "stale"
    TO_DO = "to do"
    FAILED = "failed"
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
    def is_open(self) -> bool:
        """Whether a run is to make the output."""
        return self.status in (Status.STALE, Status.TO_DO, Status.FAILED)

    @property
    def output(self) -> str:
        """The directory of the artifact itself."""
        return artifact_dir(self.node, self.directory)


@contextlib.contextmanager
def examining(directory: str) -> Iterator[None]:
    """Reading an artifact, of which it is to be told whether it is whole.

    Raises:
      Damaged: It is not.
      UserError: It cannot be read now, of which nothing follows: a file system that does not answer damages nothing.
    """
    try:
        yield
    except (OSError, ValueError, LookupError, errors.UserError) as error:
        # Where it is worded already, what it was.
        cause = error.__cause__ if isinstance(error, errors.UserError) else error
        if isinstance(cause, _NOT_WHOLE):
            raise Damaged(errors.brief(error)) from error
        if isinstance(cause, OSError):
            raise errors.UserError(manifest.unreadable(directory, cause)) from error
        raise


def artifact_dir(node: Node, directory: str) -> str:
    """Where the artifact lies, in the directory that has its manifest."""
    return os.path.join(directory, node.component.output.name)


def survey(graph: Graph, root: str, keep_other_code: bool = False) -> dict[str, State]:
    """The state of every node, in order; nothing is changed.

    Args:
      graph: The graph.
      root: The directory of all outputs.
      keep_other_code: Whether an output that differs from what is wanted in nothing but the code that made it counts.

    Raises:
      UserError: As of `state_of`.
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
      UserError: Something that it reads, that its parameters name or that it has made cannot be read now.
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
    own = directory = os.path.join(root, node.name, plan.short)
    if own not in earlier and keep_other_code:
        # The newest that is finished, before one that was begun.
        kept = {place: made for place, (progress, made) in earlier.items() if _same(plan, progress, made)}
        directory = max(kept, key=lambda place: kept[place].finished if kept[place] else "", default=own)
    progress, made = earlier.get(directory, (None, None))
    if (progress or made) and not _counts(plan, progress, made, keep_other_code):
        # Begun with other code and gone on with by this, while that was let pass.
        return State(node, Status.STALE, _difference((made or progress).plan, plan), plan, own)
    if made and (damage := _damage(node, directory, made)):
        return State(node, Status.STALE, damage, plan, own)
    if made:
        changed = code_version.changed(made.plan.code, plan.code)
        reason = f"kept, though its code has changed: {_few(changed)}" if changed else ""
        return State(node, Status.DONE, reason, plan, directory, made)
    if progress:
        far = node.component.output.progress(artifact_dir(node, directory))
        status = Status.FAILED if progress.failure else Status.TO_DO
        what = f"{progress.failure} the last time" if progress.failure else "begun"
        return State(node, status, f"{what}{f', {far}' if far else ''}; goes on there", plan, directory)
    others = [made for _, made in earlier.values() if made]
    if others:
        newest = max(others, key=lambda made: made.finished)
        return State(node, Status.STALE, _difference(newest.plan, plan), plan, directory)
    return State(node, Status.TO_DO, "", plan, directory)


def plan_of(node: Node, sources: Mapping[str, State]) -> Plan:
    """What a node's output is made from, once all that it reads is done.

    Raises:
      UserError: Something that its parameters name cannot be read now.
    """
    inputs = {
        key: manifest.Source(state.node.name, state.output, state.manifest.content, state.manifest.fingerprint)
        for key, state in sources.items()
    }
    call = Call({key: source.directory for key, source in inputs.items()}, node.parameters, {}, "")
    try:
        observed = node.component.observe(call)
    except OSError as error:
        what = error.filename or f"What node {node.name} reads"
        raise errors.UserError(manifest.unreadable(what, error)) from error
    commands = node.outline(observed)
    code = code_version.of_modules(command[0] for command in commands)
    return Plan(node.component.name, inputs, dict(node.parameters), observed, commands, code)


def _outputs(directory: str) -> dict[str, tuple[Progress | None, Manifest | None]]:
    """Plan and manifest of each output that a node has, or has begun, by directory."""
    try:
        names = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    except OSError as error:
        raise errors.UserError(manifest.unreadable(directory, error)) from error
    # Those that were set aside have other names.
    places = (os.path.join(directory, name) for name in names if manifest.is_short(name))
    found = {place: (manifest.load_progress(place), manifest.load_manifest(place)) for place in places}
    return {place: records for place, records in found.items() if any(records)}


def _same(plan: Plan, progress: Progress | None, made: Manifest | None) -> bool:
    other = made or progress
    return other.plan.but_for_code == plan.but_for_code


def _counts(plan: Plan, progress: Progress | None, made: Manifest | None, keep_other_code: bool) -> bool:
    """Whether a record is of what is wanted."""
    fingerprint = made.fingerprint if made else progress.plan.fingerprint
    return fingerprint == plan.fingerprint or (keep_other_code and _same(plan, progress, made))


def _damage(node: Node, directory: str, made: Manifest) -> str:
    """What has happened to an output since it was made; "" if nothing has."""
    output = artifact_dir(node, directory)
    try:
        with examining(output):
            content = node.component.output.content(output)
    except Damaged as damage:
        return f"no longer whole ({damage})"
    return "" if content == made.content else f"changed since it was made: {output}"


def _difference(before: Plan, now: Plan) -> str:
    """In what two plans differ, in a phrase."""
    said = []
    for key in sorted(before.inputs.keys() | now.inputs.keys()):
        then, this = before.inputs.get(key), now.inputs.get(key)
        if then is None or this is None:
            said.append(f"reads {this.node} now" if this else f"no longer reads {then.node}")
        elif then.content != this.content:
            said.append(f"the output of {this.node} has changed")
    for then, this in ((before.parameters, now.parameters), (before.observed, now.observed)):
        said += _changes(_flat(then), _flat(this))
    if modules := code_version.changed(before.code, now.code):
        said.append(f"its code has changed: {_few(modules)}")
    if before.commands != now.commands and not said:
        said.append("its commands have changed")
    return "; ".join(said) or "its manifest is that of another output"


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, those of a mapping within by their own names."""
    flat = {}
    for name, value in values.items():
        flat |= _flat(value) if isinstance(value, Mapping) else {name: value}
    return flat


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    names = sorted(before.keys() | now.keys())
    both = [(name, before.get(name), now.get(name)) for name in names]
    return [_change(name, then, this) for name, then, this in both if then != this]


def _change(name: str, then: Any, this: Any) -> str:
    if _DIGEST.fullmatch(str(then or this)):
        return f"{name}: {'changed' if then and this else 'new' if this else 'not there'}"
    return f"{name} {_shown(then)} -> {_shown(this)}"


def _shown(value: Any) -> str:
    text = "none" if value in (None, "") else ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 40 else f"{text[:12]}..."


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
