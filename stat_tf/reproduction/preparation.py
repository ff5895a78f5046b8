"""From the command's flags to a session: all that can be wrong before anything trains."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Sequence

from stat_tf import errors, files
from stat_tf.data import info as info_lib
from stat_tf.reproduction import plan, runner, settings, tables
from stat_tf.reproduction.session import Session

# What a network's input depends on.
_SAME_CLIPS = ("num_segments", "num_frames", "frame_stride")


def prepare(
    *,
    table: str,
    rows: Sequence[str],
    data_dir: str,
    unlabeled_dir: str,
    config_dir: str | None,
    train_flags: Sequence[str],
    seeds: int,
    scale: float,
    output: str,
) -> Session:
    """Checks what was asked for, and plans it.

    Args:
      table: One of `tables.TABLES`.
      rows: Names of rows; empty for all.
      data_dir: The dataset directory.
      unlabeled_dir: The dataset directory of unlabelled clips; "" for `data_dir`.
      config_dir: The directory of flag files; None for the paper's.
      train_flags: More flags for every training, `--name=value`.
      seeds: How many seeds.
      scale: Factor on the length of every training.
      output: Where tables and runs go.

    Raises:
      UserError: What is wrong with which flag.
    """
    files.check_local(output, "output", "its trainings are locked, and their logs kept, there; copy it when it is done")
    files.check_local(config_dir or "", "config", "flag files are read before anything that knows stores")
    if not 0 < scale < math.inf:
        raise errors.UserError(f"--scale={scale:g} must be above 0 and finite.")
    for name in settings.parse(train_flags, "--train_flag"):
        if name in settings.DECIDED:
            raise errors.UserError(f"--train_flag=--{name}: the table decides it itself (--seeds, rows).")
    chosen = tables.load(table)
    config_dir = os.path.normpath(config_dir or chosen.config)
    if not os.path.isdir(config_dir):
        raise errors.UserError(
            f"There is no directory {config_dir}: give --config, or run from the root of the repository."
        )
    info = info_lib.load(data_dir)
    for split in ("train", "test"):
        if not info.num_clips(split):
            raise errors.UserError(f"{data_dir} has no clips in split {split}: a table needs train and test.")
    unlabeled = info_lib.load(unlabeled_dir) if unlabeled_dir else info
    for name in _SAME_CLIPS:
        if getattr(unlabeled, name) != getattr(info, name):
            raise errors.UserError(
                f"{unlabeled_dir} has {name}={getattr(unlabeled, name)}, {data_dir} has {name}={getattr(info, name)}: "
                "build the unlabelled clips like the others."
            )
    planner = plan.Planner(info, unlabeled, data_dir, unlabeled_dir or data_dir, config_dir, tuple(train_flags), scale)
    session = Session(chosen, planner, runner.Places(output, data_dir, unlabeled_dir), seeds, chosen.choose(rows))
    refused = [reason for name, reason in session.left_out.items() if name in rows or len(session.wanted) == 0]
    if refused:
        raise errors.UserError(refused[0])
    _check_flags(session)
    return session


def _check_flags(session: Session) -> None:
    """Lets `stat_tf.train` read the flags of each kind of training now, rather than after hours of other trainings.

    Raises:
      UserError: It does not understand one.
    """
    first = [run for (seed, _), runs in session.wanted.items() if seed == 0 for run in runs]
    for run in plan.in_order(first):
        command = [sys.executable, "-m", *session.places.training(run), "--only_check_args"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            found = re.search(r"FATAL Flags parsing error:\s*(.*)", done.stderr)
            said = found[1].strip().rstrip(".") if found else done.stderr.strip()
            raise errors.UserError(
                f"python -m stat_tf.train does not take the flags of {run.name}: {said}. "
                f"They come from {session.planner.config_dir} and --train_flag."
            )
