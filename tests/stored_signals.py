"""Small directories of teacher signals for tests, made by the job in this process."""

from pipeline import beam_options, signals, signals_plan
from tests import runs

# The views that `runs.SETTINGS` asks for.
VIEWS = {"num_views": 3, "scales": (1.0, 0.75), "color_jitter": 0.1, "student_input": "native", "seed": 7}


def config(data_dir, teacher_run, output, **changes):
    """The job's configuration, for the students of `runs.SETTINGS`."""
    return signals_plan.SignalsConfig(str(data_dir), str(teacher_run), str(output), **VIEWS | changes)


def store(data_dir, teacher_run, output, **changes):
    """Stores signals; returns their description."""
    plan = signals_plan.make_plan(config(data_dir, teacher_run, output, **changes))
    return signals.store(plan, beam_options.parse([], plan.num_views))


def settings(signals_dir, **changes):
    """`stat_tf.train`'s settings for a small run from signals."""
    return runs.SETTINGS | {"signals": str(signals_dir), "stage": "stat"} | changes
