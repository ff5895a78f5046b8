r"""Runs the pipeline from videos to a served student, each component only where its output is not there yet.

  python -m pipeline.run --flagfile=configs/demo.flags
  python -m pipeline.run --config=configs/ucf101_10 --videos=UCF-101 --set=examples:--annotations=ucfTrainTestlist \
      --output=runs/ucf
  python -m pipeline.run --flagfile=configs/demo.flags --show

The components' settings are flag files in --config: build.flags, teacher.flags, student.flags, stat.flags and, each of
them optional, student_longer, signals, export, validate_examples, validate_export, bless, visualize and videos.flags.

Every output is a directory OUTPUT/NODE/FINGERPRINT with a `manifest.json`. The fingerprint is that of what is in the
inputs, of the settings, and of the code that the component runs, without its comments and docstrings; an output of the
same fingerprint is not made again, and none is ever overwritten. Stop the command as you like: given again, it goes on
where it was, within a training too. A model that is not blessed is not pushed, and no error.
"""

import os
import sys
import time

from absl import flags

from stat_tf import command, files

_CONFIG = flags.DEFINE_string("config", None, "Directory of the components' flag files.", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "Directory of all that is made; local.", required=True)
_VIDEOS = flags.DEFINE_string("videos", "", "Directory of the videos. Default: rendered, if there is a videos.flags.")
_PUSH_DIR = flags.DEFINE_string(
    "push_dir", "", "Where blessed models go: TF Serving's --model_base_path, local or remote. Default: OUTPUT/serving."
)
_SET = flags.DEFINE_multi_string(
    "set", [], "A flag for one component, over its file: --set=stat:--epochs=5. Repeatable."
)
_VALIDATE = flags.DEFINE_bool("validate_examples", True, "Examine the dataset before anything is trained on it.")
_SIGNALS = flags.DEFINE_bool(
    "signals", False, "Store the teacher's attention and train stage stat from it, without teacher or HR frames."
)
_CODE_CHANGES = flags.DEFINE_enum(
    "code_changes",
    "rerun",
    ["rerun", "keep"],
    "What to do with outputs that other code has made from the same inputs and settings.",
)
_SHOW = flags.DEFINE_bool(
    "show", False, "Draw the graph and what is done, stale, failed or to do, and why; run nothing."
)


def main() -> int:
    """Draws the graph, or runs it and says what came of it."""
    from pipeline import closing, drawing, execution, remarks, states, training_graph
    from stat_tf import processes, versions

    output = _OUTPUT.value
    files.check_local(output, "output", "a run locks it and renames there; --push_dir may be remote")
    files.check_local(_CONFIG.value, "config", "flag files are read before anything that knows stores")
    push_dir = _PUSH_DIR.value or os.path.join(output, "serving")
    settings = training_graph.Settings(
        config_dir=_CONFIG.value,
        videos=_VIDEOS.value,
        push_dir=push_dir,
        node_flags=_SET.value,
        validate_examples=_VALIDATE.value,
        signals=_SIGNALS.value,
    )
    versions.check_base(push_dir, "push_dir")
    graph, keep = training_graph.make(settings), _CODE_CHANGES.value == "keep"
    for remark in remarks.of(settings, graph):
        print(f"warning: {remark}", file=sys.stderr)
    if _SHOW.value:
        print(drawing.draw(states.survey(graph, output, keep), processes.is_locked(output)))
        return 0
    # A store that refuses is to say so before anything is trained.
    versions.numbers(push_dir)
    start = time.monotonic()
    with processes.locked(output, "pipeline.run") as lock, processes.Commands(lock) as commands:
        try:
            found = execution.run(graph, output, commands, keep)
            print(closing.text(found, output, push_dir), flush=True)
            if example := closing.example_prediction(found):
                label, predict = example
                print(f"\n== A test clip, whose class is {label}\n$ {processes.shown(predict)}", flush=True)
                commands.run_in_view(predict)
        except processes.Stopped as stopped:
            print("Stopped; the same command goes on from here.", file=sys.stderr)
            return 128 + stopped.signal
    print(f"\nThis took {(time.monotonic() - start) / 60:.1f} minutes.")
    return 0


if __name__ == "__main__":
    command.run(main)
