r"""Builds a dataset from videos.

  python -m pipeline.build_dataset --layout=folders --videos=VIDEOS --output=DATA
  python -m pipeline.build_dataset --layout=ucf101 --videos=UCF-101 --annotations=ucfTrainTestlist --split=1 \
      --output=DATA --num_segments=8 --num_snippets=3
  python -m pipeline.build_dataset --unlabeled_videos=MORE --clip_seconds=4 --output=DATA

Layouts:
  folders   VIDEOS/{train,test}/CLASS/VIDEO and VIDEOS/unlabeled/VIDEO
  ucf101    VIDEOS/CLASS/v_CLASS_gNN_cNN.avi; ANNOTATIONS holds classInd.txt, trainlist0N.txt, testlist0N.txt
  hmdb51    VIDEOS/CLASS/NAME.avi; ANNOTATIONS holds CLASS_test_splitN.txt
  manifest  ANNOTATIONS is a .csv or .jsonl file: path, label (empty: unlabelled), split, group

Beside any of them, or alone, --unlabeled_videos adds the videos below a directory to the split unlabeled.

All options of Apache Beam are understood too: --runner, --direct_num_workers, --project and so on. Without
--runner, the job uses the cores of this machine.
"""

import functools
import logging
import sys

from absl import flags

from pipeline import beam_flags
from stat_tf import command, errors
from stat_tf.data import sizes

FLAGS = flags.FLAGS
flags.DEFINE_enum("layout", None, ["folders", "ucf101", "hmdb51", "manifest"], "How the videos are listed; see above.")
flags.DEFINE_string("videos", None, "Directory of the videos. A clip's id is its path below it.")
flags.DEFINE_string("annotations", None, "Directory of the official lists, or the manifest. Not for --layout=folders.")
flags.DEFINE_integer(
    "split", None, "Which official split of UCF101 or HMDB51; 1 when not given.", lower_bound=1, upper_bound=3
)
flags.DEFINE_string(
    "unlabeled_videos",
    None,
    "Directory of videos without labels, at any depth; their ids start with unlabeled/. With or without a --layout.",
)
flags.DEFINE_float(
    "clip_seconds",
    0.0,
    "Length of the clips that each of --unlabeled_videos is cut into, named VIDEO#t=START,END in seconds from its "
    "first frame. A last part of less than half of it joins the one before. 0: a video is one clip.",
)
flags.DEFINE_string("output", None, "The dataset directory to write. It appears when it is whole.")
flags.DEFINE_bool("overwrite", False, "Replace the dataset at --output, when the new one is whole.")
flags.DEFINE_string(
    "hr_size", "96x128", "HEIGHTxWIDTH of the stored HR frames; videos are cropped to its aspect ratio."
)
flags.DEFINE_multi_string(
    "lr_size",
    ["12x16"],
    "HEIGHTxWIDTH of the LR frames, of the same aspect ratio within 2%. Repeated, all sizes are stored, the first as "
    "the default of training.",
)
flags.DEFINE_enum("streams", "rgb", ["rgb", "rgb,flow"], "What to store of each frame: RGB, or its optical flow too.")
flags.DEFINE_enum("flow_method", "tvl1", ["tvl1", "dis"], "The usual TV-L1, or DIS, many times as fast.")
flags.DEFINE_float("flow_bound", 20.0, "Largest motion stored, in pixels of the HR frame.", lower_bound=1)
flags.DEFINE_integer("num_segments", 8, "K, segments a clip.", lower_bound=1)
flags.DEFINE_integer("num_snippets", 3, "S, snippets a segment: the choices that training samples from.", lower_bound=1)
flags.DEFINE_integer("num_frames", 1, "T, frames a snippet.", lower_bound=1)
flags.DEFINE_integer(
    "frame_stride",
    1,
    "Frames from one of a snippet's frames to the next; 1: consecutive, as in the paper.",
    lower_bound=1,
)
flags.DEFINE_float("lens_blur", 0.25, "Standard deviation of the lens blur in LR pixels; 0 for none.", lower_bound=0)
flags.DEFINE_float("noise", 2.0, "Standard deviation of the sensor noise in grey levels; 0 for none.", lower_bound=0)
flags.DEFINE_integer("jpeg_quality", 95, "Quality of the stored HR frames.", lower_bound=1, upper_bound=100)
flags.DEFINE_integer(
    "num_shards", None, "Files a split; by default one for each 150 MB or so, 4 at least.", lower_bound=1
)
flags.DEFINE_float(
    "max_rejected", 0.05, "Largest fraction of clips that may be unusable; above it the job fails.", 0, 1
)
flags.DEFINE_float(
    "clip_timeout",
    600.0,
    "Seconds that reading a clip, or finding where to cut a video, may take; one that takes longer is rejected.",
    lower_bound=0.1,
)
flags.DEFINE_enum(
    "duplicates", "fail", ["fail", "warn"], "What to do about files of test whose content is in another split too."
)
flags.mark_flags_as_required(["output"])

_beam_arguments: list[str] = []


def _flow():
    """How to make the flow that --streams asks for; None when it does not."""
    from stat_tf.data import info

    if FLAGS.streams != "rgb":
        return info.FlowInfo(FLAGS.flow_method, FLAGS.flow_bound)
    for name in ("flow_method", "flow_bound"):
        if FLAGS[name].present:
            raise errors.UserError(f"--{name} has no meaning without optical flow: give --streams=rgb,flow too.")
    return None


def main() -> None:
    """Builds the dataset that the flags describe."""
    hr_size, lr_sizes = sizes.parse_hr_and_lr(FLAGS.hr_size, FLAGS.lr_size)
    flow = _flow()
    logging.disable(logging.WARNING)  # Beam's notices about what is not installed
    from pipeline import beam_options, sources
    from pipeline.sources import files

    beam_options.check(_beam_arguments, FLAGS)
    files.connect(_beam_arguments, FLAGS.videos, FLAGS.annotations, FLAGS.unlabeled_videos, FLAGS.output)
    videos, unlabeled_videos, output = map(files.absolute, (FLAGS.videos, FLAGS.unlabeled_videos, FLAGS.output))
    listing = sources.read_all(
        *(FLAGS.layout, videos, FLAGS.annotations, FLAGS.split),
        unlabeled_videos=unlabeled_videos,
        clip_seconds=FLAGS.clip_seconds,
    )
    # A video that is to be cut may hold any number of clips: take it to be worth all cores.
    execution = beam_options.parse(_beam_arguments, sys.maxsize if FLAGS.clip_seconds else len(listing.clips))
    for flag in ("videos", "unlabeled_videos", "output"):
        execution.check_place(flag, FLAGS[flag].value)
    from pipeline import build, clips_to_records

    # What a remote runner logs is its progress; what a local one logs as an error, it raises too.
    logging.disable(logging.ERROR if execution.is_local else logging.NOTSET)

    config = build.BuildConfig(
        videos=videos or "",
        output=output,
        settings=clips_to_records.RecordSettings(
            num_segments=FLAGS.num_segments,
            num_snippets=FLAGS.num_snippets,
            num_frames=FLAGS.num_frames,
            frame_stride=FLAGS.frame_stride,
            hr_size=hr_size,
            jpeg_quality=FLAGS.jpeg_quality,
            lr_sizes=lr_sizes,
            lens_blur=FLAGS.lens_blur,
            noise=FLAGS.noise,
            flow=flow,
        ),
        num_shards=FLAGS.num_shards,
        max_rejected=FLAGS.max_rejected,
        fail_on_duplicates=FLAGS.duplicates == "fail",
        overwrite=FLAGS.overwrite,
        clip_timeout=FLAGS.clip_timeout,
    )
    description = build.build(listing, config, execution)
    if description:
        print(build.report(description, FLAGS.output))
    else:
        print(f"The job is described. When it has run, the dataset is in {FLAGS.output}.")


if __name__ == "__main__":
    command.run(main, flags_parser=functools.partial(beam_flags.parse, ours=FLAGS, others=_beam_arguments))
