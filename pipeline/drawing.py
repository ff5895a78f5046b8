"""A graph and its state as text for the terminal."""

import textwrap
from collections.abc import Mapping
from typing import Any

from pipeline.states import State, Status

_SIGNS = {Status.DONE: "+", Status.STALE: "!", Status.TO_DO: ".", Status.FAILED: "x", Status.WITHHELD: "-"}
_RUNNING = ">"
_WIDTH = 100
_INDENT = " " * 6


def draw(found: Mapping[str, State], running: bool) -> str:
    """Draws the nodes in their order, each with what it reads, its state, and why.

    Args:
      found: The states, as of `states.survey`.
      running: Whether a run is at work, on the first node that is not done.
    """
    current = next((name for name, state in found.items() if state.is_open), "") if running else ""
    names = max(map(len, found))
    kinds = max(len(state.node.component.name) for state in found.values())
    lines = [_heading(found, current), ""]
    for name, state in found.items():
        sign, status = (_RUNNING, "runs now") if name == current else (_SIGNS[state.status], state.status.value)
        reads = f"  <- {', '.join(state.node.inputs.values())}" if state.node.inputs else ""
        lines.append(f"{sign} {name:{names}}  {state.node.component.name:{kinds}}  {status:8}{reads}".rstrip())
        lines += _details(state, name == current)
    return "\n".join(lines)


def _heading(found: Mapping[str, State], current: str) -> str:
    counts = {status: sum(state.status is status for state in found.values()) for status in Status}
    said = [f"{count} {status.value}" for status, count in counts.items() if count]
    return f"{len(found)} components: {', '.join(said)}" + (f"; {current} runs now" if current else "")


def _details(state: State, runs: bool) -> list[str]:
    """Why a node is in its state; where its output is, on a line of its own to be copied; what is known of it."""
    lines = []
    # That a node waits for what it reads goes without saying, unless it was done before.
    if state.reason and (state.plan or state.status is not Status.TO_DO):
        lines += _wrapped(state.reason.removesuffix("; goes on there") if runs else state.reason)
    if state.manifest:
        metrics = ", ".join(f"{name} {_shown(value)}" for name, value in state.manifest.metrics.items())
        lines += [f"{_INDENT}{state.output}", *_wrapped(metrics)]
    return lines


def _wrapped(text: str) -> list[str]:
    """Lines that may be too long rather than break a path."""
    indents = {"initial_indent": _INDENT, "subsequent_indent": f"{_INDENT}  "}
    return textwrap.wrap(text, _WIDTH, break_long_words=False, break_on_hyphens=False, **indents)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return " / ".join(f"{name} {_shown(each)}" for name, each in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return str(value)
