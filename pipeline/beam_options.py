"""Beam's own command-line options, passed through our commands, and the runner they ask for, with a job on it."""

import contextlib
import dataclasses
import difflib
import importlib.util
import os
import shlex
import socket
import sys
from collections.abc import Iterable, Iterator
from typing import NoReturn

import apache_beam as beam
from apache_beam.options import pipeline_options
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners import runner as beam_runner
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.runner import PipelineRunner
from apache_beam.transforms import environments

from pipeline import cores
from pipeline.sources import files
from stat_tf import errors

# Starting a worker process takes some five seconds, the time of some hundred clips.
_CLIPS_WORTH_A_PROCESS = 100
# By the end of the name: runners of this process, and what others need beyond Beam.
_LOCAL = ("", "directrunner", "fnapirunner")
_EXTRAS = {"dataflowrunner": ("google.cloud.dataflow", "gcp"), "daskrunner": ("dask.distributed", "dask")}
# Of runners that Beam does not know by their short names.
_FULL_NAMES = {"daskrunner": "apache_beam.runners.dask.dask_runner.DaskRunner"}


@dataclasses.dataclass(frozen=True)
class Execution:
    """How and where to run.

    Attributes:
      options: Beam's options.
      runner: The runner.
    """

    options: PipelineOptions
    runner: PipelineRunner

    @property
    def is_local(self) -> bool:
        """Whether the job runs in this process, or others that it starts on this machine."""
        return isinstance(self.runner, FnApiRunner) and not self.is_template

    @property
    def is_template(self) -> bool:
        """Whether the job is only described here, for Dataflow to run once this process is gone."""
        return bool(self.options.view_as(pipeline_options.GoogleCloudOptions).template_location)

    def check_place(self, flag: str, path: str | None) -> None:
        """Checks that a path may be seen by the workers: those of a portable runner or Dask may share our files.

        Raises:
          UserError: It is a file of this machine, and the workers are Dataflow's; or in a store, and they are Dask's.
        """
        runner = type(self.runner).__name__
        if path and files.is_remote(path) and runner == "DaskRunner":
            # Beam's file systems get their options from its own workers' start-up, which Dask's do not have.
            raise errors.UserError(
                f"Beam on Dask cannot use a store, as --{flag}={path}: give a path that all its machines share."
            )
        if path and not files.is_remote(path) and runner == "DataflowRunner":
            raise errors.UserError(
                f"Dataflow's workers cannot see --{flag}={path}: give a path that starts with gs://."
            )


def _refuse(message: str) -> NoReturn:
    raise errors.UserError(f"Beam does not understand its options: {message}.")


def _runner_name(arguments: list[str]) -> str:
    """The runner's name in small letters, without its module; "" where none is given."""
    name = PipelineOptions(arguments).view_as(pipeline_options.StandardOptions).runner or ""
    return name.lower().rpartition(".")[2]


def _load_runner(arguments: list[str]) -> PipelineRunner:
    """Makes the runner that --runner names. Beam knows the options of some only when their module is imported.

    Raises:
      UserError: There is none of that name, or what it needs is not installed.
    """
    name = PipelineOptions(arguments).view_as(pipeline_options.StandardOptions).runner
    module, extra = _EXTRAS.get(_runner_name(arguments), ("", ""))
    try:
        missing = bool(module) and importlib.util.find_spec(module) is None
    except ModuleNotFoundError:
        missing = True
    if missing:
        raise errors.UserError(
            f"--runner={name} needs packages that are not installed: pip install 'stat-tf[{extra}]'."
        )
    try:
        return beam_runner.create_runner(_FULL_NAMES.get(name.lower(), name))
    except (ImportError, AttributeError, ValueError) as error:
        raise errors.UserError(f"--runner={name} cannot be used: {errors.brief(error)}.") from error


def check(arguments: list[str], ours: Iterable[str]) -> None:
    """Checks that Beam knows all that our command does not; Beam itself passes over what it does not know.

    Args:
      arguments: Command-line arguments that are not our flags.
      ours: Names of our flags, to suggest.

    Raises:
      UserError: An argument is neither ours nor Beam's, Beam cannot use its value, or there is no such runner.
    """
    # Beam's parser would answer -h with Beam's options and end the program.
    asks_for_help = "-h" in arguments
    if not asks_for_help and _runner_name(arguments) not in _LOCAL:
        _load_runner(arguments)
    parsers = []
    beams = PipelineOptions([]).get_all_options(add_extra_args_fn=parsers.append)
    parsers[0].error = _refuse  # in place of a page of usage and exit code 2
    unknown = ["-h"] if asks_for_help else parsers[0].parse_known_args(arguments)[1]
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
    # What a terminal or a scheduler sends to all processes is this one's to answer; workers end with it.
    command = (
        f"trap '' INT TERM; PYTHONPATH={shlex.quote(modules)} exec {shlex.quote(sys.executable)} -m pipeline.worker"
    )
    # The runner would start Beam's own worker command in that mode. The number of workers stands.
    direct.direct_running_mode = "in_memory"
    return FnApiRunner(environments.SubprocessSDKEnvironment.from_command_string(command))


def _check_job_server(options: PipelineOptions) -> None:
    """Checks that the job server that a portable runner is to use answers: Beam would wait, and say nothing of it."""
    portable = options.view_as(pipeline_options.PortableOptions)
    endpoint = portable.job_endpoint
    if not endpoint:
        raise errors.UserError("--runner=PortableRunner needs --job_endpoint=HOST:PORT, the address of a job server.")
    host, _, port = endpoint.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), portable.job_server_timeout).close()
    except (OSError, ValueError, OverflowError) as error:
        raise errors.UserError(
            f"No job server answers at --job_endpoint={endpoint} ({errors.brief(error)})."
        ) from error


def _parse_named(arguments: list[str], options: PipelineOptions) -> Execution:
    """The execution on a runner that is given by name, with what it needs checked as far as can be told at once."""
    runner, name = _load_runner(arguments), _runner_name(arguments)
    if mistakes := PipelineOptionsValidator(options, runner).validate():
        raise errors.UserError(f"Beam does not accept its options: {' '.join(mistakes[0].split()).rstrip('.')}.")
    if name == "portablerunner":
        _check_job_server(options)
    given = {argument.split("=")[0] for argument in arguments}
    if name == "daskrunner" and not given & {"--dask_npartitions", "--dask_partition_size"}:
        from apache_beam.runners.dask.dask_runner import DaskOptions

        # What Dask reads from is few, short names of files, each the work of a worker for a while.
        options.view_as(DaskOptions).partition_size = 1
    return Execution(options, runner)


def parse(arguments: list[str], num_clips: int) -> Execution:
    """Reads Beam's options; without --runner, the job uses all cores of this machine where that pays.

    Args:
      arguments: Beam's arguments, as `check` accepts them.
      num_clips: Clips to work on; few are not worth processes of their own.

    Raises:
      UserError: The runner lacks an option, or its job server does not answer.
    """
    # A worker imports what it runs: what Beam would pickle of this process's main module is never needed.
    options = PipelineOptions(arguments, save_main_session=False)
    if options.view_as(pipeline_options.StandardOptions).no_wait_until_finish:
        raise errors.UserError("--no_wait_until_finish leaves nobody to finish what the job has made: leave it out.")
    if _runner_name(arguments) not in _LOCAL:
        return _parse_named(arguments, options)
    direct = options.view_as(pipeline_options.DirectOptions)
    given = {argument.split("=")[0] for argument in arguments}
    workers = min(cores.available(), num_clips // _CLIPS_WORTH_A_PROCESS)
    if workers > 1 and not given & {"--direct_num_workers", "--direct_running_mode"}:
        direct.direct_running_mode = "multi_processing"
        direct.direct_num_workers = workers
    return Execution(options, _local_runner(direct))


@contextlib.contextmanager
def running(execution: Execution, *, ends_itself: bool = False) -> Iterator[beam.Pipeline]:
    """A pipeline that runs when the block ends. Stopped here, it does not go on elsewhere.

    Args:
      execution: Where to run.
      ends_itself: Whether nothing is left to do once the job has run, so that it may be a template.

    Raises:
      UserError: It is a template, and something is.
    """
    if execution.is_template and not ends_itself:
        raise errors.UserError(
            "--template_location makes a job to be run later, and this command has work to do after its job: leave it "
            "out."
        )
    pipeline = beam.Pipeline(execution.runner, execution.options)
    try:
        with pipeline:
            yield pipeline
    except BaseException:
        if result := getattr(pipeline, "result", None):
            with contextlib.suppress(Exception):  # what stopped us is worth more; and not every runner can cancel
                result.cancel()
        raise
