"""Runs what is not done, one node after the other, each where it was stopped."""

import dataclasses
import datetime
import importlib.metadata
import itertools
import os
import time
from collections.abc import Mapping

from pipeline import manifest, states
from pipeline.graph import Call, Graph
from pipeline.states import State, Status
from stat_tf import errors, processes

# Noted in the manifests, and no part of the fingerprint: a library's next release is no reason to train anew.
_LIBRARIES = ("apache-beam", "keras", "numpy", "tensorflow")


def run(graph: Graph, root: str, commands: processes.Commands, keep_other_code: bool = False) -> dict[str, State]:
    """Brings every node that is not withheld to its end.

    Args:
      graph: The graph.
      root: The directory of all outputs, which the caller has locked.
      commands: Runs what the components ask for.
      keep_other_code: As of `states.survey`.

    Returns:
      The states of all nodes, done or withheld.

    Raises:
      Stopped: A signal came; what was running can go on from there.
      UserError: A component failed; its output has no manifest.
    """
    found: dict[str, State] = {}
    for number, node in enumerate(graph.nodes.values(), 1):
        commands.check()
        state = states.state_of(node, found, root, keep_other_code)
        heading = f"[{number}/{len(graph.nodes)}] {node.name} ({node.component.name})"
        if state.is_open:
            if not state.plan:
                raise errors.UserError(f"{node.name} cannot be run: it {state.reason}, which is withheld.")
            print(f"{heading}: {state.status.value}{f', {state.reason}' if state.reason else ''}", flush=True)
            _bring_about(state, found, commands)
            state = states.state_of(node, found, root, keep_other_code)
            if state.status is not Status.DONE:
                raise errors.UserError(
                    f"{node.name} has been run, and is not done ({state.reason}): something it was made from, or its "
                    "output, has changed meanwhile. Give the same command again."
                )
        else:
            said = state.output if state.status is Status.DONE else state.reason
            print(f"{heading}: {state.status.value}, {said}", flush=True)
        found[node.name] = state
    return found


def _bring_about(state: State, before: Mapping[str, State], commands: processes.Commands) -> None:
    """Runs a node's commands, those that were done but for the last time left out, and writes its manifest."""
    node, directory = state.node, state.directory
    # Stale, and in its place: damaged, or made by other code in part.
    if manifest.load_manifest(directory) or (state.status is Status.STALE and manifest.load_progress(directory)):
        _set_aside(directory)
    progress = manifest.load_progress(directory) or manifest.Progress(state.plan)
    plan = dataclasses.replace(state.plan, code=_either(progress.plan.code, state.plan.code))
    manifest.save(directory, dataclasses.replace(progress, plan=plan, failure=""))
    inputs = {key: source.directory for key, source in plan.inputs.items()}
    wanted = node.component.commands(Call(inputs, node.parameters, plan.observed, state.output))
    done, seconds = list(progress.commands), progress.seconds
    for command in wanted:
        if tuple(command) in done:
            continue
        print(f"$ {processes.shown(command)}", flush=True)
        start, failure = time.monotonic(), ""
        try:
            commands.run_in_view(command)
        except errors.UserError as error:
            failure = f"python -m {command[0]} ended with an error"
            raise errors.UserError(f"{node.name} ({node.component.name}) failed: {error}") from error
        finally:
            seconds += time.monotonic() - start
            manifest.save(directory, manifest.Progress(plan, tuple(done), seconds, failure))
        done.append(tuple(command))
        manifest.save(directory, manifest.Progress(plan, tuple(done), seconds))
    commands_run = tuple(map(tuple, wanted))
    manifest.save(directory, _manifest(dataclasses.replace(state, plan=plan), before, commands_run, seconds))
    print(f"   {node.name} is done ({seconds:.0f} s): {state.output}\n", flush=True)


def _either(begun: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """The code of what was begun by one version and gone on with by another: neither's, so that neither takes it."""
    return {
        name: "+".join(dict.fromkeys([*begun.get(name, "none").split("+"), now.get(name, "none")]))
        for name in sorted(begun.keys() | now.keys())
    }


def _manifest(
    state: State, before: Mapping[str, State], commands: tuple[tuple[str, ...], ...], seconds: float
) -> manifest.Manifest:
    kind, output = state.node.component.output, state.output
    try:
        with states.examining(output):
            content, metrics = kind.content(output), kind.metrics(output)
    except states.Damaged as damage:
        # Whatever the commands had left is gone: none of them counts as done.
        manifest.save(state.directory, manifest.Progress(state.plan, (), seconds, f"it left no whole {kind.name}"))
        raise errors.UserError(
            f"{state.node.name} ({state.node.component.name}) has left no whole {kind.name} in {output} "
            f"({damage}): give the same command again."
        ) from damage
    lineage = {}
    for name in state.node.inputs.values():
        lineage |= before[name].manifest.lineage | {name: before[name].output}
    return manifest.Manifest(
        plan=state.plan,
        fingerprint=state.plan.fingerprint,
        content=content,
        metrics=metrics,
        lineage=lineage,
        commands=commands,
        seconds=seconds,
        finished=datetime.datetime.now(datetime.UTC).isoformat(),
        versions={name: importlib.metadata.version(name) for name in _LIBRARIES},
    )


def _set_aside(directory: str) -> None:
    """Renames an output that is not what its directory's name says."""
    names = (f"{directory}.aside-{number}" for number in itertools.count(1))
    aside = next(name for name in names if not os.path.lexists(name))
    try:
        os.rename(directory, aside)
    except OSError as error:
        raise errors.UserError(f"{directory} cannot be set aside ({error.strerror}): delete it.") from error
