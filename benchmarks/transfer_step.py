"""A STAT step against its floor: the teacher's forward pass plus the student's cross-entropy step.

    python -m benchmarks.transfer_step [--student_input=native] [--repeats=10]

All three run in turn in one process, each on the same batch, and the medians are compared. The aim
is a ratio of at most 1.05.
"""

from absl import flags

from stat_tf import command

_BACKBONE = flags.DEFINE_string("backbone", "resnet18", "Of teacher and student.")
_WIDTH = flags.DEFINE_float("width", 0.5, "Factor on a ResNet's channels.")
_STUDENT_INPUT = flags.DEFINE_enum("student_input", "upsample", ["upsample", "native"], "As in stat_tf.train.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 4, "Clips a step.", 1)
_NUM_SEGMENTS = flags.DEFINE_integer("num_segments", 4, "K.", 1)
_REPEATS = flags.DEFINE_integer("repeats", 10, "Timed runs of each.", 1)

_HR_SIZE, _LR_SIZE, _CLASSES = (96, 128), (12, 16), 10


def main() -> None:
    """Prints the three medians and the ratio."""
    import statistics
    import time

    import tensorflow as tf

    from stat_tf.models.recognizer import RecognizerConfig, build_recognizer
    from stat_tf.training.transfer import TransferModel
    from stat_tf.weighting import LossWeights

    def recognizer(frame_size, network_size, native=False):
        config = RecognizerConfig(
            backbone=_BACKBONE.value,
            num_classes=_CLASSES,
            num_segments=_NUM_SEGMENTS.value,
            num_frames=1,
            frame_size=frame_size,
            network_size=network_size,
            native=native,
            width=_WIDTH.value,
        )
        return build_recognizer(config)

    def train_step(weights, teacher=None):
        native = _STUDENT_INPUT.value == "native"
        model = TransferModel(recognizer(_LR_SIZE, _LR_SIZE if native else _HR_SIZE, native), teacher, weights=weights)
        model.compile(optimizer=tf.keras.optimizers.SGD(1e-3, momentum=0.9, jit_compile=False))
        return tf.function(model.train_step)

    def frames(size):
        shape = [_BATCH_SIZE.value, _NUM_SEGMENTS.value, 1, *size, 3]
        return tf.cast(tf.random.stateless_uniform(shape, [0, 1], 0, 256, tf.int32), tf.uint8)

    batch = {
        "label": tf.range(_BATCH_SIZE.value, dtype=tf.int64) % _CLASSES,
        "hr": frames(_HR_SIZE),
        "lr": frames(_LR_SIZE),
    }
    teacher = recognizer(_HR_SIZE, _HR_SIZE)
    student_step, stat_step = train_step(LossWeights(1, 0, 0)), train_step(LossWeights(), teacher)
    teacher_forward = tf.function(teacher.activations)
    # Each ends in a number on the host, so that the device has finished when the clock is read.
    runs = {
        "teacher forward": lambda: float(tf.reduce_sum(teacher_forward(batch["hr"]).logits)),
        "student CE step": lambda: float(student_step(batch)["loss"]),
        "STAT step": lambda: float(stat_step(batch)["loss"]),
    }
    times = {name: [] for name in runs}
    for repeat in range(_REPEATS.value + 2):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if repeat >= 2:  # traced and warm
                times[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name:16} {1e3 * seconds:9.1f} ms")
    floor = medians["teacher forward"] + medians["student CE step"]
    print(f"{'ratio to floor':16} {medians['STAT step'] / floor:9.3f}")


if __name__ == "__main__":
    command.run(main)
