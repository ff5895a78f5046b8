"""Reading and augmenting: clips a second, against the floor of TFRecord read and JPEG decode.

The floor reads the same shards and decodes as many frames a clip, with the same parallelism, and
does nothing else. Both run interleaved in one process; the best of the rounds counts.

  python -m benchmarks.read --data_dir=DATA
"""

import time

from absl import flags

from stat_tf import command

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "Dataset directory.", required=True)
flags.DEFINE_integer("batch_size", 16, "Clips a batch.", lower_bound=1)
flags.DEFINE_integer("epochs", 5, "Epochs a round.", lower_bound=1)
flags.DEFINE_integer("rounds", 3, "How often each is timed.", lower_bound=1)


def _floor(data_dir, info):
    import os

    import tensorflow as tf

    from stat_tf.data import record

    wanted = info.num_segments * info.num_frames

    def decode_one(image):
        return tf.io.decode_jpeg(image, channels=3, dct_method="INTEGER_ACCURATE")

    def decode(serialized):
        encoded = record.parse(serialized)["hr_encoded"][:wanted]
        return tf.map_fn(decode_one, encoded, fn_output_signature=tf.uint8)

    paths = [os.path.join(data_dir, shard.name) for shard in info.shards["train"]]
    shards = tf.data.TFRecordDataset(paths).repeat(FLAGS.epochs)
    return shards.map(decode, tf.data.AUTOTUNE).batch(FLAGS.batch_size).prefetch(2)


def main():
    """Prints both rates and their ratio."""
    from stat_tf.data import augment, dataset, degrade
    from stat_tf.data import info as info_lib

    info = info_lib.load(FLAGS.data_dir)

    def ours():
        return dataset.training_dataset(
            FLAGS.data_dir,
            info,
            batch_size=FLAGS.batch_size,
            augmentation=augment.Augmentation(info.hr_size),
            degradation=degrade.Degradation(info.lr_sizes[0]),
            seed=0,
            num_epochs=FLAGS.epochs,
        )

    def rate(made):
        start = time.perf_counter()
        for _ in made:
            pass
        return FLAGS.epochs * info.num_clips("train") / (time.perf_counter() - start)

    floor, full = 0.0, 0.0
    for _ in range(FLAGS.rounds):
        floor = max(floor, rate(_floor(FLAGS.data_dir, info)))
        full = max(full, rate(ours()))
    print(f"read and decode {floor:.0f} clips/s, read and augment {full:.0f} clips/s, ratio {full / floor:.2f}")


if __name__ == "__main__":
    command.run(main)
