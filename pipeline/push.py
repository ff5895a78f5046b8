"""Pushes a blessed, validated export to where TF Serving looks for it, as the next version (the Pusher).

  python -m pipeline.push --model=EXPORT/VERSION --blessing=DIR --validation=DIR --push_dir=SERVED --output=DIR

The version appears whole or not at all; in a remote store it is copied with `saved_model.pb`, without which it is no
model, last. Nothing locks a remote directory: push to it from one place at a time. `pushed.json` in --output says which
version it is. A model that is the newest version already is not pushed again.
"""

from absl import flags

from stat_tf import command

_MODEL = flags.DEFINE_string("model", None, "The export's version.", required=True)
_BLESSING = flags.DEFINE_string("blessing", None, "What python -m pipeline.bless wrote of it.", required=True)
_VALIDATION = flags.DEFINE_string(
    "validation", None, "What python -m pipeline.validate_export wrote of it.", required=True
)
_PUSH_DIR = flags.DEFINE_string(
    "push_dir",
    None,
    "TF Serving's --model_base_path: the directory of versions, local or remote; made if missing.",
    required=True,
)
_OUTPUT = flags.DEFINE_string("output", None, "Where to note what was pushed.", required=True)


def main() -> None:
    """Checks, pushes and says where to."""
    from pipeline import pushing

    pushed = pushing.push(_MODEL.value, _BLESSING.value, _VALIDATION.value, _PUSH_DIR.value)
    pushing.write(_OUTPUT.value, pushed)
    print(f"Version {pushed.version} of {_PUSH_DIR.value} is {_MODEL.value}.")


if __name__ == "__main__":
    command.run(main)
