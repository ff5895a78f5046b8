"""Evaluates a training run, two streams together, or an export, on a split of a dataset.

  python -m stat_tf.evaluate --run_dir=RUN --data_dir=DATA --split=test
  python -m stat_tf.evaluate --run_dir=RGB_RUN --flow_run_dir=FLOW_RUN --data_dir=DATA --split=test
  python -m stat_tf.evaluate --model=EXPORT --data_dir=DATA --split=test --output=DIR

A run of either stream can be evaluated by itself. Of two, the score is
(1 - flow_weight) * softmax(rgb) + flow_weight * softmax(flow).

Writes to `--output` (RUN/eval-SPLIT unless given, RUN/eval-SPLIT-two-stream for two streams):
`metrics.json` (prec@1, prec@5, per class, confusion matrix, temporal attention, each stream's own
prec@1, and which checkpoints and dataset they belong to), `predictions.csv` (a line a clip, for paired
tests between runs) and `confusion.png`. Prints a table. The same checkpoints and dataset give the
same files.
"""

import os

from absl import flags

from stat_tf import command, errors

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The training run to evaluate; with --flow_run_dir, its RGB stream.")
flags.DEFINE_string("model", None, "In place of a run: EXPORT/VERSION; EXPORT stands for its newest.")
flags.DEFINE_string("flow_run_dir", "", "The run of the flow stream, to fuse with --run_dir's.")
flags.DEFINE_float("flow_weight", 0.5, "With --flow_run_dir: the flow stream's share of the scores, 0 to 1.")
flags.DEFINE_string("data_dir", None, "The dataset that python -m pipeline.build_dataset wrote.", required=True)
flags.DEFINE_enum("split", "test", ["train", "test"], "The split to evaluate on.")
flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which of the runs' checkpoints.")
flags.DEFINE_integer(
    "num_snippets", 1, "Snippets a segment to average over, of those stored; 1 is the centre one.", lower_bound=1
)
flags.DEFINE_bool("flips", False, "Average over each clip and its mirror image.")
flags.DEFINE_string("output", None, "Where the results go; within RUN_DIR unless given. Needed with --model.")
flags.DEFINE_integer("batch_size", 32, "Clips at a time; does not change the results.", lower_bound=1)


def main() -> None:
    """Evaluates, writes and prints."""
    if FLAGS["flow_weight"].present and not FLAGS.flow_run_dir:
        raise errors.UserError("--flow_weight is the share of a second stream: give its run as --flow_run_dir too.")

    if (FLAGS.run_dir is None) == (FLAGS.model is None):
        raise errors.UserError("What is to be evaluated? Give either --run_dir or --model.")
    if FLAGS.model:
        for name in ("flow_run_dir", "checkpoint"):
            if FLAGS[name].present:
                raise errors.UserError(f"--{name} is about runs, and has no meaning with --model: leave it out.")
        if not FLAGS.output:
            raise errors.UserError("Where shall the results go? Give --output too: an export keeps none.")

    from stat_tf.inference import evaluation, export_evaluation, report

    looks = {"num_snippets": FLAGS.num_snippets, "flips": FLAGS.flips, "batch_size": FLAGS.batch_size}
    if FLAGS.model:
        results, predictions = export_evaluation.evaluate_export(FLAGS.model, FLAGS.data_dir, FLAGS.split, **looks)
    else:
        results, predictions = evaluation.evaluate_run(
            FLAGS.run_dir,
            FLAGS.data_dir,
            FLAGS.split,
            flow_run_dir=FLAGS.flow_run_dir,
            flow_weight=FLAGS.flow_weight,
            checkpoint=FLAGS.checkpoint,
            **looks,
        )
    name = f"eval-{FLAGS.split}" + ("-two-stream" if FLAGS.flow_run_dir else "")
    output_dir = FLAGS.output or os.path.join(FLAGS.run_dir, name)
    report.write_results(output_dir, results, predictions)
    print(report.table(results))
    print(f"\nWritten: {os.path.join(output_dir, report.METRICS_NAME)}")


if __name__ == "__main__":
    command.run(main)
