"""What is left to set of a run that learns from stored teacher signals: how clips look is decided already."""

from collections.abc import Mapping
from typing import Any

from stat_tf import errors
from stat_tf.data import info as info_lib
from stat_tf.data import sizes
from stat_tf.training.run_config import RunConfig

# Settings that the views were made with.
DECIDED = ("crop_size", "scales", "flip", "color_jitter")


def settle(settings: Mapping[str, Any], info: info_lib.DatasetInfo) -> dict[str, Any]:
    """Puts what the signals decide in place of the flags that decide it elsewhere.

    Args:
      settings: As of `resolve.resolve`; those of `DECIDED` None where not given.
      info: The description of the signals at `settings["signals"]`.

    Returns:
      The settings, `data_dir` being the directory of signals.

    Raises:
      UserError: A setting asks for what signals do not hold.
    """
    signals_dir = settings["signals"]
    for condition, flag, reason in (
        (settings["stage"] == "teacher", "--stage=teacher", "a teacher reads HR frames"),
        (settings["teacher_run"], f"--teacher_run={settings['teacher_run']}", "they are what their teacher said"),
        (settings["stream"] != "rgb", f"--stream={settings['stream']}", "they are of RGB frames"),
        (
            settings["eval_split"] not in ("", "test"),
            f"--eval_split={settings['eval_split']}",
            "they have frames to evaluate of split test alone",
        ),
    ):
        if condition:
            raise errors.UserError(
                f"{flag} does not go with the teacher signals in {signals_dir}: {reason}. Leave it out, or train with "
                "--data_dir, a dataset with HR frames."
            )
    stored = {
        "crop_size": sizes.text(info.signals.crop_size),
        "scales": ",".join(map(repr, info.signals.scales)),
        "flip": info.signals.flip,
        "color_jitter": info.signals.color_jitter,
    }
    given = {name: settings[name] for name in DECIDED if settings[name] is not None}
    return {**settings, **stored, **given, "data_dir": signals_dir}


def check_views(config: RunConfig, info: info_lib.DatasetInfo) -> None:
    """Checks that flags that were given ask for clips as the stored views show them.

    Raises:
      UserError: They do not.
    """
    for name in DECIDED:
        asked, stored = getattr(config, name), getattr(info.signals, name)
        if asked != stored:
            raise errors.UserError(
                f"--{name} asks for {asked}, but the views in {config.data_dir} were made with {stored}: leave it out, "
                "or run python -m pipeline.teacher_signals again."
            )
