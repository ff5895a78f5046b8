"""Exports a run's recognizer, or two streams', as a SavedModel that takes the sensor's own frames.

  python -m stat_tf.export --run_dir=RUN --output=EXPORT
  python -m stat_tf.export --run_dir=RGB_RUN --flow_run_dir=FLOW_RUN --output=EXPORT

Writes `EXPORT/N/`, N the next version number. Signature `serving_default`: `frames`, uint8
[B, K, T, h, w, 3] (RGB), `flow`, uint8 [B, K, T, h, w, 2] (optical flow, quantised as the dataset's is),
or both, as the runs' streams are, to `probabilities` [B, classes], `top_classes` and
`top_probabilities` [B, 5] (fewer with fewer classes), best first, and `segment_weights` [B, K].
Of two streams these are weighted means. With it come warm-up requests, of noise, or of a dataset's clips
(--warmup_data_dir), which are then part of the export. Serve it with

  tensorflow_model_server --model_name=NAME --model_base_path=/absolute/path/of/EXPORT
"""

from absl import flags

from stat_tf import command, errors

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The training run to export; with --flow_run_dir, its RGB stream.", required=True)
flags.DEFINE_string("flow_run_dir", "", "The run of the flow stream, to fuse with --run_dir's.")
flags.DEFINE_float("flow_weight", 0.5, "With --flow_run_dir: the flow stream's share of the scores, 0 to 1.")
flags.DEFINE_string("output", None, "The directory of versions; made if missing.", required=True)
flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which of the runs' checkpoints.")
flags.DEFINE_string(
    "warmup_data_dir", "", "Dataset whose first test clips become the warm-up requests. Default: noise, no footage."
)


def main() -> None:
    """Exports and prints where to."""
    if FLAGS["flow_weight"].present and not FLAGS.flow_run_dir:
        raise errors.UserError("--flow_weight is the share of a second stream: give its run as --flow_run_dir too.")

    from stat_tf.inference import serving

    version_dir = serving.export_run(
        FLAGS.run_dir,
        FLAGS.output,
        flow_run_dir=FLAGS.flow_run_dir,
        flow_weight=FLAGS.flow_weight,
        checkpoint=FLAGS.checkpoint,
        warmup_data_dir=FLAGS.warmup_data_dir,
    )
    print(f"Written: {version_dir}\nNext: python -m stat_tf.predict --model={version_dir} --videos=...")


if __name__ == "__main__":
    command.run(main)
