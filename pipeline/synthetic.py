"""Renders the demo's videos: people doing eight actions, labelled, encoded, reproducible.

    python -m pipeline.synthetic --output=demo/videos

writes `demo/videos/{train,test}/CLASS/CLASS_actorNN_clipNN.mp4`, the layout `folders` of
`pipeline.build_dataset`. Train and test share no person and no place. A run that was cut short is
completed by running it again.
"""

import shlex

from absl import flags

from stat_tf import command

_OUTPUT = flags.DEFINE_string("output", None, "Directory for the videos.", required=True)
_SEED = flags.DEFINE_integer("seed", 0, "Decides on every pixel.")
_TRAIN_CLIPS = flags.DEFINE_integer("train_clips_per_class", 80, "Training clips of each class.", lower_bound=1)
_TEST_CLIPS = flags.DEFINE_integer("test_clips_per_class", 15, "Test clips of each class.", lower_bound=0)
_UNLABELED_CLIPS = flags.DEFINE_integer(
    "unlabeled_clips", 0, "Clips without a label, of further people.", lower_bound=0
)
_WORKERS = flags.DEFINE_integer("num_workers", None, "Processes; all cores by default.", lower_bound=1)


def main() -> None:
    """Renders what is missing and says what to run next."""
    from pipeline import cores, rendering

    output = _OUTPUT.value
    clips = rendering.list_clips(_TRAIN_CLIPS.value, _TEST_CLIPS.value, _UNLABELED_CLIPS.value)
    workers = _WORKERS.value or cores.available()
    num_rendered = rendering.render_all(output, clips, _SEED.value, workers)
    print(
        f"{len(clips)} clips of {len(rendering.actions.ACTIONS)} actions in {output} "
        f"({num_rendered} rendered now, {len(clips) - num_rendered} were there).\n"
        f"Next: python -m pipeline.build_dataset --layout=folders "
        f"--videos={shlex.quote(output)} --output={shlex.quote(output + '-records')}"
    )


if __name__ == "__main__":
    command.run(main)
