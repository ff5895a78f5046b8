"""Command lines on which Beam's options stand among our flags."""

import sys

from absl import flags


def parse(argv: list[str], ours: flags.FlagValues, others: list[str]) -> list[str]:
    """Takes our flags; what remains has to be Beam's (`beam_options.check`). Ends the process where a flag is wrong.

    Args:
      argv: The command line.
      ours: Our flags, which get their values.
      others: Gets what remains.

    Returns:
      The command line without either.
    """
    ours.set_gnu_getopt()  # Beam's "--option value" does not end our flags
    try:
        remaining = ours(argv, known_only=True)
    except flags.Error as error:
        print(f"FATAL Flags parsing error: {error}\nPass --helpshort to see help on flags.", file=sys.stderr)
        sys.exit(1)
    others.extend(remaining[1:])
    return remaining[:1]
