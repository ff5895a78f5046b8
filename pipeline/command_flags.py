"""The flags that a command defines, known without running it and without touching this process's own."""

import contextlib
import difflib
import importlib.util
import logging
from collections.abc import Iterator, Sequence

from absl import flags

from stat_tf import errors

# Those that take what is not their flag for one of Beam's options.
_WITH_BEAM = ("pipeline.build_dataset", "pipeline.validate_examples", "pipeline.teacher_signals")


def of(module: str) -> flags.FlagValues:
    """The flags that a command's module defines, as they are before anything is parsed.

    Args:
      module: The module, which `python -m` runs; what it imports late, in its `main`, is not imported.
    """
    spec = importlib.util.find_spec(module)
    with _set_apart() as found:
        # A second module of that name, which nobody else sees: one that was imported before defines nothing again.
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    return found


def check(command: Sequence[str], node: str, origin: str) -> None:
    """Checks that a command will understand its flags.

    Args:
      command: The module and its flags, `--name=value`.
      node: The node that is to run it, for the message.
      origin: Where its flags can be corrected, for the message.

    Raises:
      UserError: It will not.
    """
    module, *arguments = command
    defined, mend = of(module), f"Correct {origin}, the flags of node {node}"
    # Of the logging, and the same everywhere.
    arguments = [argument for argument in arguments if not _is_absls(argument)]
    try:
        others = defined([module, *arguments], known_only=module in _WITH_BEAM)[1:]
    except flags.UnrecognizedFlagError as error:
        close = difflib.get_close_matches(error.flagname, list(defined), n=1)
        hint = f" (did you mean --{close[0]}?)" if close else ""
        raise errors.UserError(f"{mend}: python -m {module} has no flag --{error.flagname}{hint}.") from error
    except flags.Error as error:
        raise errors.UserError(f"{mend}: python -m {module} does not take {errors.brief(error)}.") from error
    if others:
        with _without_notices():
            from pipeline import beam_options
        try:
            beam_options.check(others, defined)
        except errors.UserError as error:
            raise errors.UserError(f"{mend}: {error}") from error


def _is_absls(argument: str) -> bool:
    name = argument.removeprefix("--").partition("=")[0]
    return (flags.FLAGS.find_module_defining_flag(name) or "").startswith("absl.")


@contextlib.contextmanager
def _set_apart() -> Iterator[flags.FlagValues]:
    """Whatever is defined meanwhile goes to the flags that this yields, and not to the process's.

    Modules define flags in the one object `flags.FLAGS`, so it is what this holds that is exchanged.
    """
    found, state = flags.FlagValues(), vars(flags.FLAGS)
    before = dict(state)
    state.clear()
    state.update(vars(found))
    try:
        yield found
    finally:
        vars(found).update(state)
        state.clear()
        state.update(before)


@contextlib.contextmanager
def _without_notices() -> Iterator[None]:
    """Beam logs what is not installed while it is imported."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
