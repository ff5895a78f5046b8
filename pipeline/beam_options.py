"""Beam's own command-line options, passed through our commands, and the runner they ask for."""

import dataclasses
import difflib
import os
import shlex
import sys
from collections.abc import Iterable
from typing import NoReturn

from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms import environments

from pipeline import cores
from stat_tf import errors

# Starting a worker process takes some five seconds, the time of some hundred clips.
_CLIPS_WORTH_A_PROCESS = 100


@dataclasses.dataclass(frozen=True)
class Execution:
    """How and where to run.

    Attributes:
      options: Beam's options.
      runner: The runner; None for the one that the options name.
    """

    options: PipelineOptions
    runner: PipelineRunner | None

    @property
    def is_local(self) -> bool:
        """Whether the job runs in this process, or others of this machine."""
        return self.runner is not None


def _refuse(message: str) -> NoReturn:
    raise errors.UserError(f"Beam does not understand its options: {message}.")


def check(arguments: list[str], ours: Iterable[str]) -> None:
    """Checks that Beam knows all that our command does not; Beam itself passes over what it does not know.

    Args:
      arguments: Command-line arguments that are not our flags.
      ours: Names of our flags, to suggest.

    Raises:
      UserError: An argument is neither ours nor Beam's, or Beam cannot use its value.
    """
    parsers = []
    beams = PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    parsers[0].error = _refuse  # in place of a page of usage and exit code 2
    # Beam's parser would answer -h with Beam's options and end the program.
    unknown = ["-h"] if "-h" in arguments else parsers[0].parse_known_args(arguments)[1]
    if not unknown:
        return
    name = unknown[0].split("=")[0]
    known = [f"--{flag}" for flag in (*ours, *beams)]
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise errors.UserError(f"Unknown option {name}: it is neither this command's nor Beam's.{hint}")


def _local_runner(direct: pipeline_options.DirectOptions) -> FnApiRunner:
    """Beam's in-process runner, by name: its "DirectRunner" may hand the job to another program, Prism."""
    if direct.direct_running_mode != "multi_processing":
        return FnApiRunner()
    modules = os.pathsep.join(filter(None, sys.path))  # what this process can import, its workers can
    command = f"PYTHONPATH={shlex.quote(modules)} exec {shlex.quote(sys.executable)} -m pipeline.worker"
    # The runner would start Beam's own worker command in that mode. The number of workers stands.
    direct.direct_running_mode = "in_memory"
    return FnApiRunner(environments.SubprocessSDKEnvironment.from_command_string(command))


def parse(arguments: list[str], num_clips: int) -> Execution:
    """Reads Beam's options; without --runner, the job uses all cores of this machine where that pays.

    Args:
      arguments: Beam's arguments, as `check` accepts them.
      num_clips: Clips to work on; few are not worth processes of their own.
    """
    options = PipelineOptions(arguments, save_main_session=False)
    if options.view_as(pipeline_options.StandardOptions).runner is not None:
        return Execution(options, None)
    direct = options.view_as(pipeline_options.DirectOptions)
    given = {argument.split("=")[0] for argument in arguments}
    workers = min(cores.available(), num_clips // _CLIPS_WORTH_A_PROCESS)
    if workers > 1 and not given & {"--direct_num_workers", "--direct_running_mode"}:
        direct.direct_running_mode = "multi_processing"
        direct.direct_num_workers = workers
    return Execution(options, _local_runner(direct))
