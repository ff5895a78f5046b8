"""Flags as text, from the command line and from flag files that may include others, before a command knows them."""

from collections.abc import Sequence

from absl import flags

from stat_tf import errors


def read(arguments: Sequence[str], origin: str) -> list[tuple[str, str]]:
    """Flags as on a command line, `--flagfile` among them, to names and values, in order.

    Args:
      arguments: `--name=value`, `--name` or `--noname`.
      origin: Whence they come, for the messages.

    Returns:
      (name, value) of each; "true" and "false" are in lower case.

    Raises:
      UserError: Something is no flag, or a flag file is missing.
    """
    try:
        expanded = flags.FlagValues().read_flags_from_files(list(arguments))
    except (flags.Error, OSError, UnicodeDecodeError) as error:
        raise errors.UserError(f"{origin} cannot be read: {errors.brief(error)}.") from error
    found = []
    for argument in expanded:
        name, given, value = argument.strip().removeprefix("-").removeprefix("-").partition("=")
        if not argument.strip().startswith("-") or not name.isidentifier():
            raise errors.UserError(f"{origin} holds {argument.strip()!r}: write one --name=value a line.")
        if not given:
            # Only what is true or false can stand without a value.
            value, name = ("false", name[2:]) if name.startswith("no") else ("true", name)
        found.append((name, value.lower() if value.lower() in ("true", "false") else value))
    return found
