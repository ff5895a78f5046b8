"""A STAT step against its floor: the teacher's forward pass plus the student's cross-entropy step.

    python -m benchmarks.transfer_step [--backbone=r2plus1d_18 --num_frames=5] [--student_input=native]

All three run in turn in one process, in each of --precisions, each on the same batch, and the medians
are compared. The aim is a ratio of at most 1.05.
"""

from absl import flags

from stat_tf import command

_BACKBONE = flags.DEFINE_string("backbone", "resnet18", "Of teacher and student.")
_WIDTH = flags.DEFINE_float("width", 0.5, "Factor on the channels of a ResNet or R(2+1)D.")
_STUDENT_INPUT = flags.DEFINE_enum("student_input", "upsample", ["upsample", "native"], "As in stat_tf.train.")
_PRECISIONS = flags.DEFINE_list("precisions", ["float32", "bfloat16"], "Of activations; float16 is for GPUs.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Clips a step.", 1)
_NUM_SEGMENTS = flags.DEFINE_integer("num_segments", 4, "K.", 1)
_NUM_FRAMES = flags.DEFINE_integer("num_frames", 1, "T.", 1)
_RECOMPUTE_GRAD = flags.DEFINE_bool("recompute_grad", False, "R(2+1)D: as in stat_tf.train, of the student.")
_REPEATS = flags.DEFINE_integer("repeats", 10, "Timed runs of each.", 1)

_HR_SIZE, _LR_SIZE, _CLASSES = (96, 128), (12, 16), 10


def main() -> None:
    """Prints the medians and the ratios to the floor, a line a precision."""
    import statistics
    import time

    import tabulate
    import tensorflow as tf

    from stat_tf.models.recognizer import RecognizerConfig, build_recognizer
    from stat_tf.training.transfer import TransferModel
    from stat_tf.weighting import LossWeights

    def recognizer(frame_size, network_size, native=False, recompute_grad=False):
        config = RecognizerConfig(
            backbone=_BACKBONE.value,
            num_classes=_CLASSES,
            num_segments=_NUM_SEGMENTS.value,
            num_frames=_NUM_FRAMES.value,
            frame_size=frame_size,
            network_size=network_size,
            native=native,
            width=_WIDTH.value,
        )
        return build_recognizer(config, recompute_grad=recompute_grad)

    def train_step(weights, teacher=None):
        native = _STUDENT_INPUT.value == "native"
        student = recognizer(_LR_SIZE, _LR_SIZE if native else _HR_SIZE, native, _RECOMPUTE_GRAD.value)
        model = TransferModel(student, teacher, weights=weights)
        model.compile(optimizer=tf.keras.optimizers.SGD(1e-3, momentum=0.9, jit_compile=False))
        return tf.function(model.train_step)

    def frames(size):
        shape = [_BATCH_SIZE.value, _NUM_SEGMENTS.value, _NUM_FRAMES.value, *size, 3]
        return tf.cast(tf.random.stateless_uniform(shape, [0, 1], 0, 256, tf.int32), tf.uint8)

    batch = {
        "label": tf.range(_BATCH_SIZE.value, dtype=tf.int64) % _CLASSES,
        "hr": frames(_HR_SIZE),
        "lr": frames(_LR_SIZE),
    }

    def runs(precision):
        # A layer keeps the policy that it was made under.
        tf.keras.mixed_precision.set_global_policy("float32" if precision == "float32" else f"mixed_{precision}")
        teacher = recognizer(_HR_SIZE, _HR_SIZE)
        student_step, stat_step = train_step(LossWeights(1, 0, 0)), train_step(LossWeights(), teacher)
        teacher_forward = tf.function(teacher.activations)
        # Each ends in a number on the host, so that the device has finished when the clock is read.
        return {
            "teacher forward": lambda: float(tf.reduce_sum(teacher_forward(batch["hr"]).logits)),
            "student CE step": lambda: float(student_step(batch)["loss"]),
            "STAT step": lambda: float(stat_step(batch)["loss"]),
        }

    work = {(precision, name): run for precision in _PRECISIONS.value for name, run in runs(precision).items()}
    times = {key: [] for key in work}
    for repeat in range(_REPEATS.value + 2):
        for key, run in work.items():
            started = time.perf_counter()
            run()
            if repeat >= 2:  # traced and warm
                times[key].append(1e3 * (time.perf_counter() - started))
    rows = []
    for precision in _PRECISIONS.value:
        forward, ce, stat = (statistics.median(values) for key, values in times.items() if key[0] == precision)
        rows.append([precision, forward, ce, stat, stat / (forward + ce)])
    print(
        tabulate.tabulate(
            rows,
            headers=["precision", "teacher forward ms", "student CE step ms", "STAT step ms", "STAT / floor"],
            floatfmt=("", ".1f", ".1f", ".1f", ".3f"),
        )
    )


if __name__ == "__main__":
    command.run(main)
