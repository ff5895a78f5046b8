"""Exports a run's recognizer as a SavedModel that takes the sensor's own frames.

  python -m stat_tf.export --run_dir=RUN --output=EXPORT

Writes `EXPORT/N/`, N the next version number. Signature `serving_default`: `frames`, uint8
[B, K, T, h, w, 3], to `probabilities` [B, classes], `top_classes` and `top_probabilities` [B, 5] (fewer
with fewer classes), best first, and `segment_weights` [B, K]. Serve it with

  tensorflow_model_server --model_name=NAME --model_base_path=/absolute/path/of/EXPORT
"""

from absl import flags

from stat_tf import command

FLAGS = flags.FLAGS

flags.DEFINE_string("run_dir", None, "The training run to export.", required=True)
flags.DEFINE_string("output", None, "The directory of versions; made if missing.", required=True)
flags.DEFINE_enum("checkpoint", "best", ["best", "last"], "Which of the run's checkpoints.")


def main() -> None:
    """Exports and prints where to."""
    from stat_tf.inference import serving

    version_dir = serving.export_run(FLAGS.run_dir, FLAGS.output, checkpoint=FLAGS.checkpoint)
    print(f"Written: {version_dir}\nNext: python -m stat_tf.predict --model={version_dir} --videos=...")


if __name__ == "__main__":
    command.run(main)
