"""Evaluates a training run on a split of a dataset.

  python -m stat_tf.evaluate --run_dir=RUN --data_dir=DATA --split=test

Writes to `--output` (RUN/eval-SPLIT unless given): `metrics.json` (prec@1, prec@5, per class, confusion
matrix, temporal attention, and which checkpoint and dataset they belong to), `predictions.csv` (a line
a clip, for paired tests between runs) and `confusion.png`. Prints a table. The same checkpoint and
dataset give the same files.
"""

import os

from absl import flags

from stat_tf import command

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The training run to evaluate.", required=True)
flags.DEFINE_string("data_dir", None, "The dataset that python -m pipeline.build_dataset wrote.", required=True)
flags.DEFINE_enum("split", "test", ["train", "test"], "The split to evaluate on.")
flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which of the run's checkpoints.")
flags.DEFINE_string("output", None, "Where the results go; RUN_DIR/eval-SPLIT unless given.")
flags.DEFINE_integer("batch_size", 32, "Clips at a time; does not change the results.", lower_bound=1)


def main() -> None:
    """Evaluates, writes and prints."""
    from stat_tf.inference import evaluation, report

    results, predictions = evaluation.evaluate_run(
        FLAGS.run_dir, FLAGS.data_dir, FLAGS.split, checkpoint=FLAGS.checkpoint, batch_size=FLAGS.batch_size
    )
    output_dir = FLAGS.output or os.path.join(FLAGS.run_dir, f"eval-{FLAGS.split}")
    report.write_results(output_dir, results, predictions)
    print(report.table(results))
    print(f"\nWritten: {os.path.join(output_dir, report.METRICS_NAME)}")


if __name__ == "__main__":
    command.run(main)
