"""Latency of one served clip against its bare convolutions.

  python -m benchmarks.serve --backbone=resnet34

Served: the export's signature, from uint8 frames to class names, batch of one clip. Floor: the same
convolutions on the same shapes with random weights in one `tf.function`, without normalisation,
activations, shortcuts, temporal attention or preprocessing. The two take turns, and the
best time of each is compared, which other work on the machine disturbs least: aim at most 1.3.
"""

import json
import os
import tempfile
import time

from absl import flags

from stat_tf import command

FLAGS = flags.FLAGS

flags.DEFINE_enum("backbone", "resnet34", ["resnet18", "resnet34"], "The student's backbone.")
flags.DEFINE_list("frame_size", ["12", "16"], "Height and width of the sensor's frames, pixels.")
flags.DEFINE_integer("num_segments", 8, "K, segments a clip; T is 1.", lower_bound=1)
flags.DEFINE_integer("repeats", 200, "Timed calls of each.", lower_bound=1)


def bare_convolutions(backbone):
    """The convolutions of a ResNet in their order, on random weights, as a `tf.function` of its input."""
    import tensorflow as tf

    def convolution(layer):
        kernel = tf.Variable(tf.random.normal(layer.kernel.shape, stddev=0.05))
        side = kernel.shape[0] // 2
        padding = [[0, 0], [side, side], [side, side], [0, 0]]
        return lambda x: tf.nn.conv2d(x, kernel, layer.strides, padding)

    layers = {layer.name: convolution(layer) for layer in backbone.layers if isinstance(layer, tf.keras.layers.Conv2D)}
    blocks = [name.removesuffix(".conv1") for name in layers if name.endswith(".conv1")]

    @tf.function
    def run(x):
        x = layers["conv1"](x)
        for block in blocks:
            shortcut = layers.get(f"{block}.downsample.0")
            # Added only where it is itself a convolution, which would else be pruned.
            added = shortcut(x) if shortcut else None
            x = layers[f"{block}.conv2"](layers[f"{block}.conv1"](x))
            x = x if added is None else x + added
        return x

    return run


def export_random_student(directory, backbone, num_segments, frame_size):
    """Exports an untrained native student; returns it and the loaded export."""
    from stat_tf.inference import model_card, serving
    from stat_tf.models import recognizer as recognizer_lib

    classes = tuple(f"class {number}" for number in range(101))
    config = recognizer_lib.RecognizerConfig(
        backbone, len(classes), num_segments, 1, frame_size, network_size=frame_size, native=True
    )
    recognizer = recognizer_lib.build_recognizer(config)
    card = model_card.ModelCard(
        networks={"rgb": model_card.Network("student", backbone, run_dir="", checkpoint="best", epoch=0)},
        classes=classes, view="lr", num_segments=num_segments, num_frames=1, frame_stride=1, frame_size=frame_size,
        hr_size=(96, 128), lens_blur=0.25, noise=2.0,
    )  # fmt: skip
    return recognizer, serving.ServedModel(serving.write({"rgb": recognizer}, card, directory))


def main() -> None:
    """Times both, in turns, and prints one line of JSON."""
    import numpy as np
    import tensorflow as tf

    frame_size = tuple(map(int, FLAGS.frame_size))
    with tempfile.TemporaryDirectory() as directory:
        recognizer, model = export_random_student(directory, FLAGS.backbone, FLAGS.num_segments, frame_size)
    frames = np.random.default_rng(0).integers(0, 256, (1, *model.card.clip_shape("rgb")), np.uint8)
    floor = bare_convolutions(recognizer.backbone)
    runs = {
        "served_ms": (model.predict, {"rgb": tf.constant(frames)}),
        "floor_ms": (floor, tf.constant(frames[0, :, 0].astype(np.float32))),
    }
    times = {name: [] for name in runs}
    for repeat in range(-20, FLAGS.repeats):  # the first calls warm up
        for name, (function, argument) in runs.items():
            start = time.perf_counter()
            tf.nest.map_structure(lambda tensor: tensor.numpy(), function(argument))
            if repeat >= 0:
                times[name].append(1000 * (time.perf_counter() - start))
    best = {name: round(min(values), 3) for name, values in times.items()}
    ratio = round(best["served_ms"] / best["floor_ms"], 3)
    print(
        json.dumps(
            {
                "benchmark": "serve",
                "backbone": FLAGS.backbone,
                "cores": os.cpu_count(),
                **best,
                "ratio": ratio,
                "aim": 1.3,
            }
        )
    )


if __name__ == "__main__":
    command.run(main)
