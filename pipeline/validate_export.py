"""Checks that an export can be served (the InfraValidator): in a process of its own, as a server would meet it.

  python -m pipeline.validate_export --model=EXPORT/VERSION --run_dir=RUN --output=DIR

Loads the export, replays its warm-up requests and checks the answers: shapes, probabilities that sum to 1, classes,
the same as those of the run's own network, and the time that a request takes. Writes `validation.json`, and exits
with 1 and the first thing that is wrong.
"""

from absl import flags

from stat_tf import command, errors

_MODEL = flags.DEFINE_string("model", None, "EXPORT/VERSION; EXPORT stands for its newest.", required=True)
_RUN_DIR = flags.DEFINE_string(
    "run_dir", None, "The run that was exported; of two streams, the RGB run.", required=True
)
_FLOW_RUN_DIR = flags.DEFINE_string("flow_run_dir", "", "The run of the flow stream, where there are two.")
_MAX_LATENCY_MS = flags.DEFINE_float(
    "max_latency_ms", 0.0, "Largest median time of a request of one clip, in milliseconds; 0: any.", lower_bound=0
)
_REQUESTS = flags.DEFINE_integer("latency_requests", 50, "Requests that are timed, after the warm-up.", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "Where the report goes.", required=True)


def main() -> None:
    """Checks, writes the report and prints the verdict."""
    from pipeline import export_checks, verdicts

    run_dirs = [run_dir for run_dir in (_RUN_DIR.value, _FLOW_RUN_DIR.value) if run_dir]
    report = export_checks.check(_MODEL.value, run_dirs, _MAX_LATENCY_MS.value, _REQUESTS.value)
    verdicts.write(_OUTPUT.value, verdicts.VALIDATION, report)
    if report["problems"]:
        raise errors.UserError(f"{report['model']} is not fit to be served: {report['problems'][0]}")
    latency = report["latency_ms"]
    print(
        f"{report['model']} is fit to be served: loaded in {report['load_seconds']:.1f} s, first answer after "
        f"{report['first_answer_ms']:.0f} ms, then {latency['median']:.1f} ms a clip (95th percentile "
        f"{latency['p95']:.1f}); probabilities within {report['largest_difference']:.1g} of the run's."
    )


if __name__ == "__main__":
    command.run(main)
