"""Small JSON files that one step leaves for the next: verdicts of an export, and what was pushed."""

import json
import os
from collections.abc import Mapping
from typing import Any

from stat_tf import errors, files

BLESSING = "blessing.json"
VALIDATION = "validation.json"
PUSHED = "pushed.json"
# Of this package, who writes each; and what it must hold.
_COMMANDS = {BLESSING: "bless", VALIDATION: "validate_export", PUSHED: "push"}
_FIELDS = {
    BLESSING: {"blessed": bool, "reasons": list, "model_digest": str, "pushed_digest": str},
    VALIDATION: {"verdict": str, "problems": list, "model_digest": str},
    PUSHED: {"version": int, "directory": str, "model_digest": str},
}


def write(output: str, name: str, fields: Mapping[str, Any], texts: Mapping[str, str] | None = None) -> None:
    """Writes one of the files, whole or not at all, after other texts.

    Args:
      output: The directory; made if missing.
      name: `BLESSING`, `VALIDATION` or `PUSHED`.
      fields: Its contents.
      texts: Contents of other files by name.

    Raises:
      UserError: The directory cannot be written to.
    """
    try:
        files.make_dirs(output)
        for other, text in (texts or {}).items():
            files.write_text(os.path.join(output, other), text)
        files.write_text(os.path.join(output, name), json.dumps(fields, indent=2) + "\n")
    except OSError as error:
        raise errors.UserError(f"{output} cannot be written to ({error.strerror}): see to --output.") from error


def load(directory: str, name: str) -> dict[str, Any]:
    """Reads one of the files.

    Raises:
      UserError: It is missing or damaged.
    """
    path = os.path.join(directory, name)
    try:
        fields = json.loads(files.read_text(path))
        for field, kind in _FIELDS[name].items():
            if not isinstance(fields[field], kind):
                raise ValueError(f"{field} is no {kind.__name__}")
        return fields
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise errors.UserError(
            f"{path} cannot be read ({errors.brief(error)}): run python -m pipeline.{_COMMANDS[name]}, which writes it."
        ) from error
