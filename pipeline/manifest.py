"""What an output is made from (`plan.json`, written first) and what became of it (`manifest.json`, written last)."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from typing import Any, TypeVar

from stat_tf import errors, files

PLAN_NAME = "plan.json"
MANIFEST_NAME = "manifest.json"
# Of a fingerprint's digits, those that name a directory.
_SHORT = 8
_Record = TypeVar("_Record", bound="Plan | Progress | Manifest")


@dataclasses.dataclass(frozen=True)
class Source:
    """An input: the node that made it, where it lies, and digests of what it is and of what it was made from."""

    node: str
    directory: str
    content: str
    fingerprint: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that decides what an output will be.

    Attributes:
      component: The component's name.
      inputs: By key.
      parameters: The node's.
      observed: What else of the world it depends on.
      commands: What is run, as of `Node.outline`.
      code: Digests by module, of all modules that its commands reach.
    """

    component: str
    inputs: Mapping[str, Source]
    parameters: Mapping[str, Any]
    observed: Mapping[str, Any]
    commands: list[list[str]]
    code: Mapping[str, str]

    @property
    def but_for_code(self) -> str:
        """Digest of everything but the code. Of an input, what is in it counts, not where it lies."""
        contents = {key: source.content for key, source in self.inputs.items()}
        return _digest([self.component, contents, self.parameters, self.observed, self.commands])

    @property
    def fingerprint(self) -> str:
        """Digest of everything."""
        return _digest([self.but_for_code, self.code])

    @property
    def short(self) -> str:
        """The fingerprint's first digits, which name the directory."""
        return self.fingerprint[:_SHORT]


@dataclasses.dataclass(frozen=True)
class Progress:
    """The contents of `plan.json`.

    Attributes:
      plan: What the output is made from.
      commands: Those that have ended well, so that a stopped component goes on with the next.
      seconds: What they took.
      failure: What went wrong when it was last tried, in a phrase; "" if nothing did, or it was stopped.
    """

    plan: Plan
    commands: tuple[tuple[str, ...], ...] = ()
    seconds: float = 0.0
    failure: str = ""

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Progress":
        """Reads what `dataclasses.asdict` made, by way of JSON."""
        commands = tuple(map(tuple, fields["commands"]))
        return cls(_plan(fields["plan"]), commands, fields["seconds"], fields.get("failure", ""))


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of `manifest.json`.

    Attributes:
      plan: What the output was made from.
      fingerprint: The plan's.
      content: Digest of what the output's readers go by.
      metrics: What is worth knowing of it.
      lineage: Directories of all artifacts that it comes from, directly or not, by node.
      commands: What was run.
      seconds: How long that took.
      finished: When it ended, in ISO 8601.
      versions: Of the libraries.
    """

    plan: Plan
    fingerprint: str
    content: str
    metrics: Mapping[str, Any]
    lineage: Mapping[str, str]
    commands: tuple[tuple[str, ...], ...]
    seconds: float
    finished: str
    versions: Mapping[str, str]

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Manifest":
        """Reads what `dataclasses.asdict` made, by way of JSON."""
        commands = tuple(map(tuple, fields["commands"]))
        return cls(**fields | {"plan": _plan(fields["plan"]), "commands": commands})


def unreadable(what: str, error: OSError) -> str:
    """A sentence on what is there, or may be, and cannot be read: no reason to make it anew."""
    return f"{what} cannot be read now ({error.strerror or errors.brief(error)}): give the same command again."


def is_short(name: str) -> bool:
    """Whether a name can be `Plan.short`."""
    return len(name) == _SHORT and set(name) <= set("0123456789abcdef")


def save(directory: str, record: Progress | Manifest) -> None:
    """Writes the plan or the manifest of an output, whole or not at all; the directory is made where it is missing.

    Raises:
      UserError: It cannot be written.
    """
    name = MANIFEST_NAME if isinstance(record, Manifest) else PLAN_NAME
    try:
        os.makedirs(directory, exist_ok=True)
        files.write_text(os.path.join(directory, name), json.dumps(dataclasses.asdict(record), indent=2) + "\n")
    except OSError as error:
        raise errors.UserError(f"{directory} cannot be written to ({error.strerror}): see to --output.") from error


def load_progress(directory: str) -> Progress | None:
    """Reads an output's plan; None where there is none, or a damaged one, which is no plan to go by.

    Raises:
      UserError: It cannot be read now.
    """
    return _load(directory, PLAN_NAME, Progress)


def load_manifest(directory: str) -> Manifest | None:
    """Reads an output's manifest; None where there is none, or a damaged one: then the output is not taken.

    Raises:
      UserError: It cannot be read now.
    """
    return _load(directory, MANIFEST_NAME, Manifest)


def _load(directory: str, name: str, kind: type[_Record]) -> _Record | None:
    path = os.path.join(directory, name)
    try:
        with open(path, encoding="utf-8") as file:
            return kind.from_json(json.load(file))
    except (FileNotFoundError, NotADirectoryError, ValueError, LookupError, TypeError, AttributeError):
        return None
    except OSError as error:
        raise errors.UserError(unreadable(path, error)) from error


def _plan(fields: dict[str, Any]) -> Plan:
    return Plan(**fields | {"inputs": {key: Source(**source) for key, source in fields["inputs"].items()}})


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
