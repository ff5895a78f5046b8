"""Blesses an evaluated export for serving, or says why not (the Evaluator's verdict).

  python -m pipeline.bless --candidate=EVAL --baseline=EVAL --pushed=EVAL --output=DIR

EVAL are directories that `python -m stat_tf.evaluate --output=EVAL` wrote on the same clips, the candidate's
with --model. Writes `blessing.json` and, to read, `blessing.txt`. A model that is not blessed is no error: the
exit code is 0.
"""

import math

from absl import flags

from stat_tf import command, errors

_CANDIDATE = flags.DEFINE_string("candidate", None, "Evaluation of the export that is to be pushed.", required=True)
_BASELINES = flags.DEFINE_multi_string("baseline", [], "Evaluation of a model that it must beat; repeatable.")
_PUSHED = flags.DEFINE_string("pushed", "", "Evaluation of the model that is served now, if there is one.")
_MIN_GAIN = flags.DEFINE_float(
    "min_gain", 0.0, "Points of prec@1 that it must be better than each baseline; negative: may be worse."
)
_MIN_GAIN_OVER_PUSHED = flags.DEFINE_float(
    "min_gain_over_pushed", 0.0, "Points of prec@1 that it must be better than the pushed model."
)
_MAX_CLASS_DROP = flags.DEFINE_float(
    "max_class_drop", 20.0, "Points of prec@1 that it may be worse than any of them in one class.", lower_bound=0
)
_MIN_CLASS_CLIPS = flags.DEFINE_integer(
    "min_class_clips", 10, "Clips a class must have for --max_class_drop to look at it.", lower_bound=1
)
_OUTPUT = flags.DEFINE_string("output", None, "Where the verdict goes.", required=True)


def main() -> None:
    """Judges, writes and prints."""
    from pipeline import blessing
    from stat_tf import comparison

    for flag in (_MIN_GAIN, _MIN_GAIN_OVER_PUSHED, _MAX_CLASS_DROP):
        if math.isnan(flag.value):  # which no model would be below
            raise errors.UserError(f"--{flag.name}=nan is no number: give points.")
    candidate = comparison.load(_CANDIDATE.value)
    pushed = comparison.load(_PUSHED.value) if _PUSHED.value else None
    for place, evaluated in ((_CANDIDATE.value, candidate), (_PUSHED.value, pushed)):
        if evaluated and "model_digest" not in evaluated.metrics:
            raise errors.UserError(
                f"{place} is the evaluation of a run, and exports are pushed: evaluate the export, with "
                "python -m stat_tf.evaluate --model=EXPORT."
            )
    thresholds = blessing.Thresholds(
        min_gain=_MIN_GAIN.value,
        min_gain_over_pushed=_MIN_GAIN_OVER_PUSHED.value,
        max_class_drop=_MAX_CLASS_DROP.value,
        min_class_clips=_MIN_CLASS_CLIPS.value,
    )
    verdict = blessing.judge(candidate, blessing.load_evaluations(_BASELINES.value), pushed, thresholds)
    blessing.write(_OUTPUT.value, verdict)
    print(blessing.text(verdict))


if __name__ == "__main__":
    command.run(main)
