r"""Draws where and when networks look, in the manner of the paper's Figure 5 (section 4.3).

  python -m stat_tf.visualize --run_dir=TEACHER --compare_run=STUDENT --compare_run=STAT \
      --data_dir=DATA --split=test --num_clips=3 --output=DIR

Writes a PNG a clip: the HR and the LR frames of each segment; for each run, of either stream, the frames
under the spatial attention of its last residual stage, and its temporal attention as a bar.
"""

from absl import flags

from stat_tf import command

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The training run to look at.", required=True)
flags.DEFINE_multi_string("compare_run", [], "Another run to draw beneath; may be given again.")
flags.DEFINE_string("data_dir", None, "The dataset that python -m pipeline.build_dataset wrote.", required=True)
flags.DEFINE_enum("split", "test", ["train", "test"], "The split to take clips from.")
flags.DEFINE_integer("num_clips", 3, "How many clips, spread over the classes.", lower_bound=1)
flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which of the runs' checkpoints.")
flags.DEFINE_string("output", None, "The directory for the pictures; made if missing.", required=True)


def main() -> None:
    """Draws and prints the path of each picture."""
    import tqdm

    from stat_tf.inference import attention_figure

    paths = attention_figure.draw_runs(
        [FLAGS.run_dir, *FLAGS.compare_run],
        FLAGS.data_dir,
        FLAGS.split,
        FLAGS.output,
        num_clips=FLAGS.num_clips,
        checkpoint=FLAGS.checkpoint,
    )
    for path in tqdm.tqdm(paths, total=FLAGS.num_clips, desc="drawing", unit="clip", disable=None):
        tqdm.tqdm.write(path)


if __name__ == "__main__":
    command.run(main)
