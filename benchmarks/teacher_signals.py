"""What stored teacher signals cost and save: the job against the bare teacher, a step from them against other steps.

    python -m benchmarks.teacher_signals --data_dir=DATA --teacher_run=TEACHER [--student_input=native]

Stores the signals of a dataset, then times, in turn in one process, each with its own reading of clips: a student's
cross-entropy step, its STAT step with the teacher beside it, and both steps from the signals. The figures are medians;
of milliseconds on the clock, and of the CPU, which others on the machine change less. The aim is a STAT step from
signals of at most 1.05 cross-entropy steps.
"""

from absl import flags

from stat_tf import command

_DATA_DIR = flags.DEFINE_string("data_dir", None, "A dataset.", required=True)
_TEACHER_RUN = flags.DEFINE_string(
    "teacher_run", None, "A teacher trained on it; the student is like it.", required=True
)
_STUDENT_INPUT = flags.DEFINE_enum("student_input", "upsample", ["upsample", "native"], "As in stat_tf.train.")
_NUM_VIEWS = flags.DEFINE_integer("num_views", 2, "V.", 1)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Clips a step.", 1)
_STEPS = flags.DEFINE_integer("steps", 8, "Timed steps of each kind in a turn; two more go before.", 1)
_REPEATS = flags.DEFINE_integer("repeats", 3, "Turns.", 1)


def _clocks() -> tuple[float, float]:
    import time

    return time.perf_counter(), time.process_time()


def _store(output: str):
    """Stores the signals in this process; returns the plan, the description and what a clip of it took."""
    import os

    from pipeline import beam_options, signals, signals_plan

    config = signals_plan.SignalsConfig(
        _DATA_DIR.value,
        _TEACHER_RUN.value,
        output,
        _NUM_VIEWS.value,
        student_input=_STUDENT_INPUT.value,
        allow_other_data=True,
    )
    plan = signals_plan.make_plan(config)
    started = _clocks()
    description = signals.store(plan, beam_options.parse(["--direct_running_mode=in_memory"], 1))
    cpu = _clocks()[1] - started[1]
    dataset = plan.views.dataset
    kilobytes = {
        name: sum(os.path.getsize(os.path.join(place, shard.name)) for shard in info.shards["train"]) / 1e3
        for name, place, info in (("HR", _DATA_DIR.value, dataset), ("signals", output, description))
    }
    kilobytes = {name: size / dataset.num_clips("train") for name, size in kilobytes.items()}
    return plan, description, cpu / plan.num_views, kilobytes


def _bare_forward(teacher) -> float:
    """CPU seconds of the teacher's forward pass over a clip."""
    import statistics

    import tensorflow as tf

    clips = tf.zeros([1, *teacher.config.clip_shape], tf.uint8)
    forward = tf.function(teacher.activations)
    times = []
    for repeat in range(22):
        started = _clocks()
        float(tf.reduce_sum(forward(clips).logits))
        if repeat >= 2:  # traced and warm
            times.append(_clocks()[1] - started[1])
    return statistics.median(times)


def _batches(plan, description, signals_dir: str) -> dict:
    """Endless enough batches by what they are read from."""
    from stat_tf.data import dataset
    from stat_tf.data import signals as stored

    common = {"batch_size": _BATCH_SIZE.value, "seed": 0, "num_epochs": 1000}
    look = {"augmentation": plan.views.augmentation, "degradation": plan.views.degradation}
    source = _DATA_DIR.value, plan.views.dataset
    return {
        "lr": dataset.training_dataset(*source, **common, **look, views=("lr",)),
        "hr and lr": dataset.training_dataset(*source, **common, **look),
        "lr of signals": stored.training_dataset(signals_dir, description, **common, with_signals=False),
        "signals": stored.training_dataset(signals_dir, description, **common),
    }


def _train_steps(plan, teacher) -> dict:
    """Training steps by what they learn from."""
    import dataclasses

    import tensorflow as tf

    from stat_tf.models.recognizer import build_recognizer
    from stat_tf.training.transfer import TransferModel
    from stat_tf.weighting import LossWeights

    def step(weights, **options):
        size = plan.views.degradation.lr_size
        native = _STUDENT_INPUT.value == "native"
        network_size = size if native else teacher.config.frame_size
        config = dataclasses.replace(
            teacher.config, frame_size=size, network_size=network_size, native=native, frozen_batch_norm=False
        )
        model = TransferModel(build_recognizer(config), weights=weights, **options)
        model.compile(optimizer=tf.keras.optimizers.SGD(1e-3, momentum=0.9, jit_compile=False))
        return tf.function(model.train_step)

    return {
        "labels": step(LossWeights(1, 0, 0)),
        "teacher": step(LossWeights(), teacher=teacher),
        "signals": step(LossWeights(), stored_signals=True),
    }


def _time(step, batches) -> tuple[float, float]:
    """Mean milliseconds of a step and its reading, on the clock and of the CPU."""
    iterator = iter(batches)
    for number in range(_STEPS.value + 2):
        if number == 2:  # traced, and what is read ahead is read
            started = _clocks()
        float(step(next(iterator))["loss"])
    return tuple(1e3 * (now - then) / _STEPS.value for now, then in zip(_clocks(), started, strict=True))


def main() -> None:
    """Prints what the job took and a line a kind of step."""
    import statistics
    import tempfile

    import tabulate

    from stat_tf.training import checkpoints

    with tempfile.TemporaryDirectory() as place:
        signals_dir = f"{place}/signals"
        plan, description, seconds, kilobytes = _store(signals_dir)
        teacher, _ = checkpoints.load_recognizer(_TEACHER_RUN.value)
        bare = _bare_forward(teacher)
        print(
            f"job: {seconds:.3f} CPU seconds a view, the bare teacher {bare:.3f}, ratio {seconds / bare:.2f}; "
            f"kB a clip: HR data {kilobytes['HR']:.1f}, signals of {_NUM_VIEWS.value} views {kilobytes['signals']:.1f}"
        )
        batches, steps = _batches(plan, description, signals_dir), _train_steps(plan, teacher)
        work = {
            "CE step": (steps["labels"], batches["lr"]),
            "STAT step, online": (steps["teacher"], batches["hr and lr"]),
            "CE step, LR frames of signals": (steps["labels"], batches["lr of signals"]),
            "STAT step from signals": (steps["signals"], batches["signals"]),
        }
        times = {name: [] for name in work}
        for _ in range(_REPEATS.value):
            for name, parts in work.items():
                times[name].append(_time(*parts))
    medians = {name: [statistics.median(each) for each in zip(*found, strict=True)] for name, found in times.items()}
    floor = medians["CE step"]
    rows = [[name, wall, wall / floor[0], cpu, cpu / floor[1]] for name, (wall, cpu) in medians.items()]
    print(
        tabulate.tabulate(
            rows, headers=["", "ms", "/ CE step", "CPU ms", "/ CE step"], floatfmt=("", ".1f", ".3f", ".1f", ".3f")
        )
    )


if __name__ == "__main__":
    command.run(main)
