"""Flag files to the settings of each stage: read, shortened, and freed of what a stage does not know.

Settings are flags of `stat_tf.train` by name, values as text.
"""

import math
import os
from collections.abc import Mapping, Sequence

from stat_tf import errors, flag_files

# What stat_tf.train takes where a configuration says nothing; tests/reproduction/test_settings.py holds them to it.
TRAIN_DEFAULTS = {"epochs": 50, "batch_size": 256, "warmup_epochs": 5.0, "decay_epochs": 20.0}

# What decides the losses' weights, which rows of a table set together.
_WEIGHTS = ("weights", "overall_weights", "sat_weights", "tat_weights")
# What has no meaning without a teacher.
_OF_TRANSFER = (
    *_WEIGHTS,
    "rolling_period",
    "distance",
    "soft_label_weight",
    "temperature",
    "train_splits",
)
# What this package decides by itself.
_OURS = ("stage", "data_dir", "signals", "run_dir", "teacher_run", "init_run", "seed")
# What nobody can set for a whole table: it, its rows or --seeds do.
DECIDED = (*_OURS, *_WEIGHTS, "stream")
# The paper's 50 epochs have five turns of the rolling weights.
_TURNS = 5


def read(config_dir: str, stage: str, stream: str, train_flags: Sequence[str]) -> dict[str, str]:
    """The settings of a stage.

    A student trained on has stage stat's without what is the teacher's, so that the two differ in nothing else;
    stage "unsupervised" has stage stat's where there is no file of its own.

    Args:
      config_dir: Holds `STAGE.flags` or `STREAM_STAGE.flags`, STAGE being teacher, student, stat or unsupervised.
      stage: "teacher", "student", "student_longer", "unsupervised" or "stat".
      stream: "rgb" or "flow".
      train_flags: More flags, `--name=value`, for every stage that knows them.

    Returns:
      Settings; the evaluation split is "" unless they name one. Weights are left to the table's rows, but in a file of
      stage "unsupervised".

    Raises:
      UserError: A file is missing, or holds something else than flags.
    """
    path = _file(config_dir, "stat" if stage == "student_longer" else stage, stream)
    own = path is not None
    path = path or _file(config_dir, "stat", stream)
    if path is None:
        raise errors.UserError(
            f"{config_dir} has no flag file for stage {stage}, stream {stream}: give --config a directory with "
            "teacher.flags, student.flags and stat.flags, and run from the root of the repository."
        )
    settings = {"eval_split": ""} | parse([f"--flagfile={path}"], path)
    settings |= parse(train_flags, "--train_flag")
    unused = {*_OURS}
    if stage in ("teacher", "student", "student_longer"):
        unused |= {*_OF_TRANSFER}
    elif stage == "stat" or not own:
        unused |= {*_WEIGHTS}
    if stage == "unsupervised" and not own:
        # Stage stat's clips; these ones are the unlabelled clips.
        unused.add("train_splits")
    if stage == "teacher":
        unused.add("lr_size")
    if stage not in ("teacher", "student"):
        unused.add("init_from")
    settings = {name: value for name, value in settings.items() if name not in unused}
    if stream != "rgb":
        settings["stream"] = stream
    if stage == "unsupervised":
        settings["eval_split"] = ""  # it reads no label to evaluate by
    return settings


def parse(arguments: Sequence[str], origin: str) -> dict[str, str]:
    """Flags as on a command line to settings; of a flag that stands there twice, the last one counts.

    Raises:
      UserError: Something is no flag, or a flag file is missing.
    """
    return dict(flag_files.read(arguments, origin))


def scaled(settings: Mapping[str, str], scale: float) -> dict[str, str]:
    """Settings of a shorter or longer training: epochs, warm-up, decay and rolling period times `scale`.

    Rolling weights without a period get one: five turns a training, as the paper's.

    Raises:
      UserError: One of them is no number.
    """
    changed = dict(settings)
    epochs = max(1, round(number(settings, "epochs") * scale))
    changed["epochs"] = str(epochs)
    for name in ("warmup_epochs", "decay_epochs"):
        changed[name] = f"{number(settings, name) * scale:g}"
    if settings.get("weights") == "rolling":
        period = float(settings["rolling_period"]) * scale if "rolling_period" in settings else epochs / _TURNS
        changed["rolling_period"] = str(max(1, round(period)))
    else:
        changed.pop("rolling_period", None)
    return changed


def shortened(settings: Mapping[str, str], epochs: int) -> dict[str, str]:
    """Settings that `scaled` made, with other epochs: the schedule keeps its shape, the rolling weights their turns."""
    share = epochs / int(settings["epochs"])
    if share == 1:
        return dict(settings)
    changed = dict(settings) | {"epochs": str(epochs)}
    for name in ("warmup_epochs", "decay_epochs"):
        changed[name] = f"{number(settings, name) * share:g}"
    if "rolling_period" in settings:
        # Turns begun, the last of which may be shorter.
        turns = math.ceil(int(settings["epochs"]) / int(settings["rolling_period"]))
        period = min(range(1, epochs + 1), key=lambda period: abs(math.ceil(epochs / period) - turns))
        changed["rolling_period"] = str(period)
    return changed


def number(settings: Mapping[str, str], name: str) -> float:
    """A setting of `TRAIN_DEFAULTS`.

    Raises:
      UserError: It is no number above, or of the warm-up at least, 0.
    """
    text = settings.get(name, TRAIN_DEFAULTS[name])
    try:
        value = float(text)
    except ValueError:
        raise errors.UserError(f"--{name}={text} is no number.") from None
    if not (0 < value < float("inf") or (value == 0 and name == "warmup_epochs")):
        raise errors.UserError(f"--{name}={text} must be above 0.")
    return value


def has_file(config_dir: str, stage: str, stream: str) -> bool:
    """Whether a stage has a flag file of its own."""
    return _file(config_dir, stage, stream) is not None


def _file(config_dir: str, stage: str, stream: str) -> str | None:
    for name in (f"{stream}_{stage}.flags", f"{stage}.flags"):
        if os.path.isfile(os.path.join(config_dir, name)):
            return os.path.join(config_dir, name)
    return None
