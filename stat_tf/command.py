"""How every command starts: flags parsed by absl, user errors printed as one sentence.

Nothing here imports TensorFlow or Beam, so that `--help` answers at once.
"""

import atexit
import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from absl import app, logging

from stat_tf import errors

_exit_code = 0


@contextlib.contextmanager
def clean_end() -> Iterator[None]:
    """A process's work; lets it end, if it has loaded TensorFlow by then, without destructors of libraries.

    Those of tensorflow-io's S3 client abort the process, and those of TensorFlow's functions may print tracebacks.
    Enter it before anything else that has to be done at the end: Python does that last which was asked for first, after
    threads have ended.
    """
    global _exit_code
    atexit.register(_leave)
    try:
        yield
    except SystemExit as end:
        _exit_code = end.code if isinstance(end.code, int) else int(end.code is not None)
        raise
    except BaseException:
        _exit_code = 1
        raise


def _leave() -> None:
    code = _exit_code
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        pass  # a reader that has gone, or a closed stream: nobody is left to be told
    except OSError as error:
        print(f"error: What this command prints cannot be written ({error.strerror}).", file=sys.stderr)
        code = code or 1
    else:
        if "tensorflow" not in sys.modules:
            return
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


def run(main: Callable[[], int | None], flags_parser: Callable | None = None) -> None:
    """Parses the flags, calls `main()` and exits with its code.

    Args:
      main: The command. Returns an exit code; None means 0.
      flags_parser: As in `absl.app.run`; for commands that take other tools' options too.

    A `UserError` ends the command with exit code 1 and its message on stderr, a keyboard
    interrupt with 130, a `StoppedBySignal` with 128 plus the signal's number and its message, a
    flag that does not parse with 1 and absl's own message.
    """
    # TensorFlow's start-up notices would drown a one-line error; the environment still wins.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    def guarded(argv: list[str]) -> int:
        # app.run turns absl's default into INFO, which is TensorFlow talking to itself; --verbosity=1 shows it.
        if logging.get_verbosity() == logging.INFO:
            logging.set_verbosity(logging.WARNING)
        try:
            if len(argv) > 1:
                raise errors.UserError(f"Unexpected argument {argv[1]!r}: options are written --name=value.")
            return main() or 0
        except errors.UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        except errors.StoppedBySignal as stopped:
            print(stopped, file=sys.stderr)
            return stopped.exit_code
        except KeyboardInterrupt:
            print("Interrupted.", file=sys.stderr)
            return 130

    with clean_end():
        _run_app(guarded, flags_parser)


def _run_app(main: Callable[[list[str]], int], flags_parser: Callable | None) -> None:
    try:
        app.run(main, flags_parser=flags_parser) if flags_parser else app.run(main)
    except UnicodeDecodeError:
        print("error: A file given by --flagfile is not text: it holds one flag a line.", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:
        # The reader (head, a pager that was quit) has had enough. Python would complain once more
        # when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
