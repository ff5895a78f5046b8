"""Small training runs for tests: `stat_tf.train`'s settings, and finished runs without the command."""

import tensorflow as tf

from stat_tf.data import info as info_lib
from stat_tf.training import assembly, checkpoints, loop, resolve

# The command's flags; the smallest network, and little else that takes time.
SETTINGS = {
    "stage": "student",
    "data_dir": None,
    "signals": None,
    "teacher_run": "",
    "init_run": "",
    "allow_other_data": False,
    "backbone": "resnet18",
    "stream": "rgb",
    "width": 0.125,
    "student_input": "native",
    "temporal_fusion": "average",
    "dropout": 0.25,
    "init_from": "auto",
    "frozen_batch_norm": "auto",
    "crop_size": None,
    "lr_size": None,
    "num_segments": None,
    "num_frames": None,
    "scales": "1,3/4",
    "flip": True,
    "color_jitter": 0.1,
    "weights": "fixed",
    "overall_weights": None,
    "train_splits": None,
    "soft_label_weight": 0.0,
    "temperature": None,
    "sat_weights": None,
    "tat_weights": None,
    "rolling_period": None,
    "distance": "l2",
    "epochs": 2,
    "batch_size": 4,
    "accumulation_steps": 1,
    "optimizer": "sgd",
    "learning_rate": 0.01,
    "momentum": 0.9,
    "weight_decay": 0.0,
    "clip_norm": 20.0,
    "schedule": "step",
    "warmup_epochs": 1.0,
    "decay_epochs": 1.0,
    "decay_factor": 0.1,
    "eval_split": "test",
    "seed": 0,
    "deterministic": False,
    "precision": "float32",
    "recompute_grad": False,
    "strategy": "one_device",
    "log_steps": 1,
    "checkpoint_steps": 1,
    "max_to_keep": 2,
}


def make_config(data_dir, **changes):
    """The resolved configuration of a small run on a dataset."""
    settings = SETTINGS | {"data_dir": str(data_dir)} | changes
    return resolve.resolve(settings, info_lib.load(str(data_dir)))


def train(data_dir, run_dir, **changes):
    """Trains a small run to its end in this process; returns its progress."""
    config = make_config(data_dir, **changes)
    return loop.train(config, info_lib.load(str(data_dir)), str(run_dir))


def untrained(data_dir, run_dir, **changes):
    """A finished run of one epoch whose checkpoint holds its initial weights; returns its configuration."""
    config = make_config(data_dir, **changes | {"epochs": 1})
    config.save(str(run_dir))
    model = assembly.build(config, info_lib.load(str(data_dir)))
    saved = checkpoints.RunCheckpoints(str(run_dir), model.student, model.optimizer)
    saved.save(checkpoints.Progress().after_epoch({"step": 0, "val_prec@1": 0.5}, 0.5))
    return config


def freeze_batch_norm(model):
    """Puts all batch normalisation in inference mode: its statistics are those of a batch on one replica."""
    for layer in model.student._flatten_layers():
        if isinstance(layer, tf.keras.layers.BatchNormalization):
            layer.trainable = False
    model.compile(optimizer=model.optimizer)  # Keras puts back what held when it was compiled
