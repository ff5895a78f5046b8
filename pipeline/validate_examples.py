r"""Validates a dataset: what it holds, what is wrong with it, and whether to train on it.

  python -m pipeline.validate_examples --data_dir=DATA --output=REPORT

Writes REPORT/report.json and REPORT/report.html, a page with pictures that needs nothing beside it. If anything
is wrong that counts as an error, the command ends with exit code 1; the report is there all the same. The page
lists the checks and how bad their findings are; --fail_on, --warn_on and --ignore change that.

All options of Apache Beam are understood too: --runner, --direct_num_workers, --project and so on. Without
--runner, the job uses the cores of this machine.
"""

import functools
import logging
import os
import shlex

from absl import flags

from pipeline import beam_flags
from pipeline.validation import checks
from stat_tf import command, errors

FLAGS = flags.FLAGS
_CHECKS = ", ".join(checks.CHECKS)
_DEFAULTS = checks.Thresholds()
# A clip takes about a fifth of the time that building it took.
_WORK = 0.2

flags.DEFINE_string("data_dir", None, "The dataset directory, as pipeline.build_dataset writes it.")
flags.DEFINE_string("output", None, "The directory to write. It appears when it is whole.")
flags.DEFINE_bool("overwrite", False, "Replace the report at --output, when the new one is whole.")
flags.DEFINE_list("fail_on", [], f"Checks whose findings are errors, of: {_CHECKS}.")
flags.DEFINE_list("warn_on", [], "Checks whose findings are warnings.")
flags.DEFINE_list("ignore", [], "Checks whose findings are left out.")
flags.DEFINE_float(
    "min_contrast",
    _DEFAULTS.min_contrast,
    "A clip is blank if the luma of none of its HR frames has so large a standard deviation, grey levels.",
    lower_bound=0,
)
flags.DEFINE_float(
    "min_motion",
    _DEFAULTS.min_motion,
    "A clip is frozen if the area of no LR pixel changes by so much from a stored frame to the next, grey levels.",
    lower_bound=0,
)
flags.DEFINE_float(
    "max_imbalance", _DEFAULTS.max_imbalance, "Clips of the largest class of train for one of the smallest.", 1
)
flags.DEFINE_float(
    "max_drift",
    _DEFAULTS.max_drift,
    "Difference of the mean brightness, or contrast, of train and test in standard deviations of a clip.",
    lower_bound=0,
)
flags.DEFINE_integer("clips_per_class", 2, "Clips of each class and split that the page shows.", lower_bound=0)
flags.mark_flags_as_required(["data_dir", "output"])

_beam_arguments: list[str] = []


def main() -> None:
    """Validates the dataset that the flags name."""
    policy = checks.Policy.of(FLAGS.fail_on, FLAGS.warn_on, FLAGS.ignore)
    logging.disable(logging.WARNING)  # Beam's notices about what is not installed
    from pipeline import beam_options
    from pipeline.sources import files
    from stat_tf.data import info

    beam_options.check(_beam_arguments, FLAGS)
    files.connect(_beam_arguments, FLAGS.data_dir, FLAGS.output)
    description = info.load(FLAGS.data_dir)
    execution = beam_options.parse(_beam_arguments, int(_WORK * description.num_clips(*description.shards)))
    for flag in ("data_dir", "output"):
        execution.check_place(flag, FLAGS[flag].value)
    if not execution.is_local:
        logging.disable(logging.NOTSET)  # what a remote runner logs is its progress
    from pipeline.validation import report, validate

    outcome = validate.validate(
        files.absolute(FLAGS.data_dir),
        description,
        files.absolute(FLAGS.output),
        execution,
        policy=policy,
        thresholds=checks.Thresholds(FLAGS.min_contrast, FLAGS.min_motion, FLAGS.max_imbalance, FLAGS.max_drift),
        clips_per_class=FLAGS.clips_per_class,
        overwrite=FLAGS.overwrite,
    )
    page = os.path.join(FLAGS.output, "report.html")
    for anomaly in outcome.anomalies:
        if anomaly.severity == checks.WARNING:
            print(f"warning: {anomaly.message}")
    if checks.verdict(outcome.anomalies) == "fail":
        raise errors.UserError(report.sentence(outcome.anomalies, outcome.totals, page))
    print(f"The dataset passes. The report is in {shlex.quote(page)}.")


if __name__ == "__main__":
    command.run(main, flags_parser=functools.partial(beam_flags.parse, ours=FLAGS, others=_beam_arguments))
