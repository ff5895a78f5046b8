"""Asks an export what happens in videos, or in frames that a low-resolution sensor took.

  python -m stat_tf.predict --model=EXPORT --videos=a.mp4,b.avi
  python -m stat_tf.predict --model=EXPORT --frames=clip.npy,folder_of_images --format=jsonl

Videos may have any size: they are cropped, shrunk, blurred and given noise as the dataset's LR frames
were. The noise is seeded, so an answer repeats. Frames must have the sensor's size: a uint8 `.npy` of
[K, T, h, w, 3] or [N, h, w, 3], or a directory of images in the order of their names. They are RGB for
every model: one that takes optical flow has it estimated here, as the dataset build does.

An answer is that of the centre snippet of each segment; `--num_snippets` and `--flips` average over more.

`--format=jsonl` prints a line for each input that could be read:
  {"source": PATH, "top": [{"class": NAME, "probability": P}, ... best first, at most five],
   "segment_weights": [K temporal attention weights, which sum to 1]}
An input that cannot be read is named on stderr, the rest are answered, and the exit code is 1.
"""

import sys

from absl import flags

from stat_tf import command, errors

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "model", None, "EXPORT/VERSION as stat_tf.export wrote it; EXPORT stands for its newest.", required=True
)
flags.DEFINE_multi_string("videos", [], "Video files, separated by commas; repeatable.")
flags.DEFINE_multi_string(
    "frames", [], "Frames at the sensor's size: .npy files or directories of images, separated by commas; repeatable."
)
flags.DEFINE_integer(
    "num_snippets",
    1,
    "Snippets a segment to average over, evenly spread; a .npy clip [K, T, h, w, 3] holds one.",
    lower_bound=1,
)
flags.DEFINE_bool("flips", False, "Average over each clip and its mirror image.")
flags.DEFINE_enum("format", "table", ["table", "jsonl"], "How to print: to read, or a line of JSON an input.")


def _paths(given: list[str]) -> list[str]:
    return [path for text in given for path in text.split(",") if path]


def main() -> int:
    """Answers each input; returns 1 if any could not be read."""
    if not FLAGS.videos and not FLAGS.frames:
        raise errors.UserError("Nothing to predict: give --videos or --frames.")

    import tqdm

    from stat_tf.inference import inputs, prediction, serving

    # A file name need not be text that the terminal can show.
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.stderr.reconfigure(errors="backslashreplace")
    model = serving.ServedModel(FLAGS.model)
    show = prediction.to_json if FLAGS.format == "jsonl" else prediction.to_text
    work = [(inputs.clips_from_video, path) for path in _paths(FLAGS.videos)]
    work += [(inputs.clips_from_frames, path) for path in _paths(FLAGS.frames)]
    exit_code = 0
    for read, path in tqdm.tqdm(work, desc="predicting", unit="clip", disable=None if len(work) > 1 else True):
        try:
            clips = read(path, model.card, FLAGS.num_snippets)
            tqdm.tqdm.write(show(prediction.predict(model, path, clips, FLAGS.flips)))
        except errors.UserError as error:
            tqdm.tqdm.write(f"error: {error}", file=sys.stderr)
            exit_code = 1
    return exit_code


if __name__ == "__main__":
    command.run(main)
