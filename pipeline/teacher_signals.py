r"""Stores what a teacher sees in a dataset, so that students learn from it without HR frames and without the teacher.

  python -m pipeline.teacher_signals --data_dir=DATA --teacher_run=TEACHER --output=SIGNALS --num_views=4
  python -m stat_tf.train --stage=stat --signals=SIGNALS --init_run=STUDENT --run_dir=RUN

Of each training clip V views are drawn as training draws them: snippets, crop, scale, flip, colour. Stored are a
view's LR frames and, in 16 bits, the teacher's attention maps on the student's grid, the outputs of its temporal
attention module and its class logits; of the test split, the LR frames that evaluation takes. Nothing of HR resolution
is in SIGNALS. Flags that stat_tf.train has too mean the same and have to be the student's.

All options of Apache Beam are understood too: --runner, --direct_num_workers, --project and so on. Without --runner,
the job uses the cores of this machine.
"""

import functools
import logging

from absl import flags

from pipeline import beam_flags
from stat_tf import command

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", None, "The dataset that python -m pipeline.build_dataset wrote.", required=True)
flags.DEFINE_string("teacher_run", None, "Run directory of the teacher.", required=True)
flags.DEFINE_string("output", None, "The directory of signals to write. It appears when it is whole.", required=True)
flags.DEFINE_bool("overwrite", False, "Replace what is at --output, when the new signals are whole.")
flags.DEFINE_integer("num_views", 4, "V, views a clip; an epoch of training draws one.", 1)
flags.DEFINE_integer("seed", 0, "With a clip's id and a view's number, decides the view.", 0)
flags.DEFINE_string(
    "splits", None, "Splits whose signals to store: train, unlabeled or both. Default: what the dataset has of them."
)
flags.DEFINE_bool(
    "allow_other_data",
    False,
    "Let teacher_run be trained on other clips than data_dir's, which may hold clips it tests on.",
)
flags.DEFINE_string("lr_size", None, "LR frames, HEIGHTxWIDTH, one of the dataset's sizes. Default: its first.")
flags.DEFINE_string("scales", "1,0.875,0.75", "Crop sides to draw from, as fractions of the frame.")
flags.DEFINE_bool("flip", True, "Mirror half of the views.")
flags.DEFINE_float("color_jitter", 0.0, "Largest relative change of brightness, contrast, saturation.", 0, 1)
flags.DEFINE_enum(
    "backbone",
    None,
    ["resnet18", "resnet34", "r2plus1d_18", "r2plus1d_34", "efficientnet_lite0"],
    "The student's. Default: the teacher's. Students of other backbones with the same grids may use the signals too.",
)
flags.DEFINE_enum("student_input", "upsample", ["upsample", "native"], "The student's.")
flags.DEFINE_enum("temporal_fusion", None, ["average", "gray_stack", "stack"], "The student's. Default: the teacher's.")

_beam_arguments: list[str] = []


def main() -> None:
    """Stores the signals that the flags describe."""
    from pipeline import cores

    cores.use_one()  # before anything imports TensorFlow
    logging.disable(logging.WARNING)  # Beam's notices about what is not installed
    from pipeline import beam_options

    beam_options.check(_beam_arguments, FLAGS)
    from pipeline import signals, signals_plan
    from pipeline.sources import files
    from stat_tf.training import resolve

    files.connect(_beam_arguments, FLAGS.data_dir, FLAGS.teacher_run, FLAGS.output)
    config = signals_plan.SignalsConfig(
        data_dir=files.absolute(FLAGS.data_dir),
        teacher_run=files.absolute(FLAGS.teacher_run),
        output=files.absolute(FLAGS.output),
        num_views=FLAGS.num_views,
        seed=FLAGS.seed,
        splits=FLAGS.splits,
        lr_size=FLAGS.lr_size,
        scales=resolve.fractions("scales", FLAGS.scales),
        flip=FLAGS.flip,
        color_jitter=FLAGS.color_jitter,
        backbone=FLAGS.backbone,
        student_input=FLAGS.student_input,
        temporal_fusion=FLAGS.temporal_fusion,
        allow_other_data=FLAGS.allow_other_data,
        overwrite=FLAGS.overwrite,
    )
    plan = signals_plan.make_plan(config)
    execution = beam_options.parse(_beam_arguments, plan.num_views)
    for flag in ("data_dir", "teacher_run", "output"):
        execution.check_place(flag, FLAGS[flag].value)
    if not execution.is_local:
        logging.disable(logging.NOTSET)  # what a remote runner logs is its progress
    print(signals.report(signals.store(plan, execution), FLAGS.output, plan.width))


if __name__ == "__main__":
    command.run(main, flags_parser=functools.partial(beam_flags.parse, ours=FLAGS, others=_beam_arguments))
