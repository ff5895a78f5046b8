r"""Trains a teacher, a student, or a student with a teacher's attention (with labels or, unsupervised, without).

    python -m stat_tf.train --stage=teacher --data_dir=DATA --run_dir=RUNS/teacher
    python -m stat_tf.train --stage=student --data_dir=DATA --run_dir=RUNS/student
    python -m stat_tf.train --stage=stat --data_dir=DATA --run_dir=RUNS/stat \
        --teacher_run=RUNS/teacher --init_run=RUNS/student

In place of a dataset and a teacher, stages student, unsupervised and stat take what a teacher said of the dataset,
stored beside LR frames by python -m pipeline.teacher_signals: --signals=SIGNALS.

Stage unsupervised, SAT and TAT alone on unlabelled clips, may come before stage stat, whose --init_run it then is.

Run it again to resume: a run goes on from its newest checkpoint and ends as if it had never been
stopped. Told to end (SIGTERM, Ctrl-C), it saves its state after the step it is at and exits with
code 143 or 130. Settings can be kept in a file, one flag a line, given by --flagfile; the paper's
(section 4.2) are the defaults.
"""

from absl import flags

from stat_tf import command

_SETTINGS = (
    flags.DEFINE_enum("stage", None, ["teacher", "student", "unsupervised", "stat"], "What to train.", required=True),
    flags.DEFINE_string("data_dir", None, "Dataset directory, from python -m pipeline.build_dataset."),
    flags.DEFINE_string(
        "signals", None, "In place of data_dir and teacher_run: directory from python -m pipeline.teacher_signals."
    ),
    flags.DEFINE_string("teacher_run", "", "Stages stat and unsupervised: run directory of the teacher."),
    flags.DEFINE_string(
        "init_run", "", "Run directory whose best weights to start from; stages stat and unsupervised: the student's."
    ),
    flags.DEFINE_bool(
        "allow_other_data",
        False,
        "Let teacher_run and init_run be trained on other clips than data_dir's, which may hold clips it tests on.",
    ),
    # The network.
    flags.DEFINE_enum(
        "backbone",
        "resnet34",
        ["resnet18", "resnet34", "r2plus1d_18", "r2plus1d_34", "efficientnet_lite0"],
        "Feature extractor: of single frames, or, R(2+1)D, of a segment's T frames together.",
    ),
    flags.DEFINE_enum("stream", "rgb", ["rgb", "flow"], "Frames, or their optical flow if the dataset holds it."),
    flags.DEFINE_float("width", 1.0, "Factor on the channels of a ResNet or R(2+1)D."),
    flags.DEFINE_enum(
        "student_input",
        "upsample",
        ["upsample", "native"],
        "LR frames upsampled to the crop, or as is; a teacher reads the crop either way. Native EfficientNet-Lite0's "
        "last stage is a single cell at 12x16, whose SAT is always 0.",
    ),
    flags.DEFINE_enum(
        "temporal_fusion",
        "average",
        ["average", "gray_stack", "stack"],
        "How a backbone of single frames reads T of them: features averaged, three grey frames in the colour channels, "
        "or all channels side by side, as is usual with flow.",
    ),
    flags.DEFINE_float("dropout", 0.0, "Fraction of the features dropped before the classifier.", 0, 1),
    flags.DEFINE_string(
        "init_from",
        "auto",
        "Initial weights: a file from python -m stat_tf.convert_weights; imagenet (efficientnet_lite0 only); none; "
        "auto: imagenet for efficientnet_lite0, else none.",
    ),
    flags.DEFINE_enum(
        "frozen_batch_norm",
        "auto",
        ["auto", "true", "false"],
        "All but the first; auto: if the weights are pretrained.",
    ),
    # The clips.
    flags.DEFINE_string("crop_size", None, "HR view, HEIGHTxWIDTH. Default: all of the stored frame."),
    flags.DEFINE_string("lr_size", None, "LR frames, HEIGHTxWIDTH, one of the dataset's sizes. Default: its first."),
    flags.DEFINE_integer("num_segments", None, "K, segments a clip; must be the dataset's, the default.", 1),
    flags.DEFINE_integer("num_frames", None, "T, frames a segment; must be the dataset's, the default.", 1),
    flags.DEFINE_string("scales", "1,0.875,0.75", "Crop sides to draw from, as fractions of the frame."),
    flags.DEFINE_bool("flip", True, "Mirror half of the clips."),
    flags.DEFINE_float("color_jitter", 0.0, "Largest relative change of brightness, contrast, saturation.", 0, 1),
    flags.DEFINE_string(
        "train_splits",
        None,
        "Stages stat and unsupervised: splits to train on, train,unlabeled or one of them; a clip of unlabeled has no "
        "cross-entropy, which, as a mean over all clips, counts less by the share of these. Default: unlabeled in "
        "stage unsupervised, which reads no label of either, else train.",
    ),
    # The losses (equation 4, Table 1); those of transfer are of stages stat and unsupervised.
    flags.DEFINE_enum("weights", "fixed", ["fixed", "rolling"], "Transfer: loss weights over the epochs."),
    flags.DEFINE_string(
        "overall_weights",
        None,
        "Transfer: weights of CE, SAT, TAT. Default: 1/3,1/3,1/3; in stage unsupervised 0,1/2,1/2.",
    ),
    flags.DEFINE_string("sat_weights", None, "Transfer: fixed weights of the stages. Default: 1/4 each."),
    flags.DEFINE_string(
        "tat_weights", None, "Transfer: fixed weights of the TAM's hidden and last layer. Default: 1/2 each."
    ),
    flags.DEFINE_integer("rolling_period", None, "Transfer: epochs a turn of the rolling weights. Default: 10.", 1),
    flags.DEFINE_enum("distance", "l2", ["l2", "squared"], "Transfer: equations 2 and 3 as printed, or squared."),
    flags.DEFINE_float(
        "soft_label_weight", 0.0, "Transfer: weight of the teacher's soft labels beside equation 4; 0: none."
    ),
    flags.DEFINE_float("temperature", None, "Transfer: of the soft labels. Default: 3."),
    # Optimisation.
    flags.DEFINE_integer("epochs", 50, "Epochs in all.", 1),
    flags.DEFINE_integer("batch_size", 256, "Clips a step, over all devices together.", 1),
    flags.DEFINE_integer(
        "accumulation_steps",
        1,
        "Parts in which a batch goes through the networks before one update: less memory, the same gradients where "
        "batch normalisation is frozen; where not, each part is normalised by itself.",
        1,
    ),
    flags.DEFINE_enum("optimizer", "sgd", ["sgd", "adamw"], "The optimizer."),
    flags.DEFINE_float("learning_rate", 0.001, "After warm-up, for the whole batch_size."),
    flags.DEFINE_float("momentum", 0.9, "Of SGD."),
    flags.DEFINE_float("weight_decay", 0.0, "Decoupled, times the rate; not on biases and normalisation.", 0),
    flags.DEFINE_float("clip_norm", 20.0, "Largest global norm of the gradient, as in TSN; 0: no clipping.", 0),
    flags.DEFINE_enum("schedule", "step", ["step", "cosine"], "Of the learning rate."),
    flags.DEFINE_float("warmup_epochs", 5.0, "Epochs over which the rate rises linearly.", 0),
    flags.DEFINE_float("decay_epochs", 20.0, "Schedule step: epochs between two steps."),
    flags.DEFINE_float("decay_factor", 0.1, "Schedule step: what each step multiplies the rate by.", 0, 1),
    # The run.
    flags.DEFINE_string(
        "eval_split",
        "test",
        "Split evaluated after each epoch. It also picks the best checkpoint, whose precision on it is biased upward "
        "by that; empty, and in stage unsupervised: no evaluation, and the last checkpoint is the best.",
    ),
    flags.DEFINE_integer("seed", 0, "Of weights, order, augmentation and dropout.", 0),
    flags.DEFINE_bool("deterministic", True, "Use reproducible kernels only."),
    flags.DEFINE_enum(
        "precision",
        "float32",
        ["float32", "bfloat16", "float16"],
        "Of activations; losses and variables are float32. float16, with loss scaling, is for GPUs.",
    ),
    flags.DEFINE_bool(
        "recompute_grad", False, "R(2+1)D: compute blocks again for the gradient instead of keeping them in memory."
    ),
    flags.DEFINE_enum(
        "strategy",
        "auto",
        ["auto", "one_device", "mirrored", "multi_worker"],
        "Devices: one, all GPUs of this machine, or those of all workers in the environment's TF_CONFIG; auto: as "
        "many as there are. Losses are the same.",
    ),
    flags.DEFINE_integer(
        "checkpoint_steps",
        100,
        "Steps between two checkpoints amid an epoch; 0: none but before evaluation. Several "
        "workers have checkpoints of whole epochs only.",
        0,
    ),
    flags.DEFINE_integer("max_to_keep", 2, "How many checkpoints of epochs and, amid an epoch, of steps are kept.", 1),
    flags.DEFINE_integer("log_steps", 50, "Steps between two points of the TensorBoard curves.", 1),
)
flags.mark_flags_as_mutual_exclusive(["data_dir", "signals"], required=True)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "Where this run is kept.", required=True)


def main() -> None:
    """Checks everything, then trains and says what came of it."""
    from stat_tf.data import info as info_lib
    from stat_tf.training import from_signals, loop, resolve

    settings = {flag.name: flag.value for flag in _SETTINGS}
    if settings["signals"]:
        settings |= {name: None for name in from_signals.DECIDED if not flags.FLAGS[name].present}
    info = info_lib.load_signals(settings["signals"]) if settings["signals"] else info_lib.load(settings["data_dir"])
    config = resolve.resolve(settings, info)
    loop.set_up_runtime(config)
    progress = loop.train(config, info, _RUN_DIR.value)
    if progress:  # the chief's, where there are several workers
        print(loop.summary(config, _RUN_DIR.value, progress))


if __name__ == "__main__":
    command.run(main)
