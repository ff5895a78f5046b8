"""The main job on rendered videos: from clips to a served low-resolution student.

    python -m pipeline.demo --output=demo

renders the videos, builds the dataset, trains teacher, student and STAT, evaluates all of them,
exports the STAT student, predicts one test clip and prints a comparison. Each step is a command
that is shown before it runs and can be run by hand. Run it from the root of the repository; run it
again to go on after an interruption: trainings continue where they were.
"""

import glob
import os
import shlex
import subprocess
import sys
import time

from absl import flags

from stat_tf import command, errors, files

_OUTPUT = flags.DEFINE_string("output", "demo", "Directory for all that the demo makes.")
_SHORT = flags.DEFINE_bool("short", False, "A few clips and epochs: shows that each step works, and no more.")

_CONFIGS = "configs/demo"

# Run directory, flag file, what to call it in the table.
_RUNS = (
    ("teacher", "teacher", "Teacher: HR, cross-entropy"),
    ("student", "student", "Student: LR, cross-entropy"),
    ("student_longer", "student_longer", "Student, trained on: LR, cross-entropy"),
    ("stat", "stat", "Student, trained on with STAT: LR, CE + SAT + TAT"),
)


def steps(output: str, short: bool) -> list[tuple[str, list[str]]]:
    """The demo's commands in order, each with a title.

    Args:
      output: Directory for all that the demo makes.
      short: Whether to make it as small as it can be.
    """
    videos, data = os.path.join(output, "videos"), os.path.join(output, "records")
    runs = {name: os.path.join(output, name) for name, _, _ in _RUNS}
    clips = ["--train_clips_per_class=4", "--test_clips_per_class=2"] if short else []
    fewer = ["--epochs=2"] if short else []
    from_student = [f"--init_run={runs['student']}"]
    extra = {
        "student_longer": from_student,
        "stat": [*from_student, f"--teacher_run={runs['teacher']}"],
    }
    build = ["--layout=folders", f"--videos={videos}", f"--output={data}", "--overwrite"]
    sizes = [
        "--hr_size=48x64",
        "--lr_size=12x16",
        "--num_segments=8",
        "--num_snippets=3",
        "--num_frames=3",
        "--frame_stride=3",
    ]
    made = [
        ("Render the videos", ["pipeline.synthetic", f"--output={videos}", *clips]),
        ("Build the dataset", ["pipeline.build_dataset", *build, *sizes]),
    ]
    for name, flag_file, title in _RUNS:
        where = [f"--data_dir={data}", f"--run_dir={runs[name]}"]
        config = f"--flagfile={_CONFIGS}/{flag_file}.flags"
        made.append((f"Train. {title}", ["stat_tf.train", config, *where, *extra.get(name, []), *fewer]))
    for name, _, title in _RUNS:
        made.append((f"Evaluate. {title}", ["stat_tf.evaluate", f"--run_dir={runs[name]}", f"--data_dir={data}"]))
    export = os.path.join(output, "export")
    compared = [f"--compare_run={runs[name]}" for name in ("student_longer", "stat")]
    figures = [f"--run_dir={runs['teacher']}", *compared, f"--data_dir={data}", f"--output={output}/figures"]
    return [
        *made,
        ("Export the STAT student", ["stat_tf.export", f"--run_dir={runs['stat']}", f"--output={export}"]),
        ("Draw where and when they look", ["stat_tf.visualize", *figures]),
    ]


def _run(title: str, arguments: list[str]) -> None:
    shown = shlex.join(["python", "-m", *arguments])
    print(f"\n== {title}\n$ {shown}", flush=True)
    start = time.monotonic()
    code = subprocess.run([sys.executable, "-m", *arguments], check=False).returncode
    if code:
        raise errors.UserError(f"The demo stopped: {shown} failed with exit code {code}; its message stands above.")
    print(f"   ({time.monotonic() - start:.0f} s)", flush=True)


def _table(output: str) -> str:
    import tabulate

    from stat_tf import comparison

    results = {name: comparison.load(os.path.join(output, name, "eval-test")) for name, _, _ in _RUNS}
    rows = [
        (title, 100 * results[name].metrics["prec@1"], 100 * results[name].metrics["prec@5"])
        for name, _, title in _RUNS
    ]
    table = tabulate.tabulate(rows, headers=["Run", "prec@1 (%)", "prec@5 (%)"], floatfmt=".1f")
    points, p_value = comparison.difference(results["student_longer"], results["stat"])
    clips = len(results["stat"].correct)
    verdict = (
        "That is more than chance explains at the 5% level."
        if p_value < 0.05
        else "So small a difference on so few clips may well be chance."
    )
    return (
        f"{table}\n\nSTAT against the same student trained on as long without a teacher: {points:+.1f} points of "
        f"prec@1 on {clips} test clips, one seed (exact McNemar test, p = {p_value:.2f}). {verdict}"
    )


def main() -> None:
    """Runs the steps and prints the comparison."""
    output = _OUTPUT.value
    files.check_local(output, "output", "the demo renders its videos there")
    if not os.path.isdir(_CONFIGS):
        raise errors.UserError(f"There is no {_CONFIGS} here: run the demo from the root of the repository.")
    start = time.monotonic()
    for title, arguments in steps(output, _SHORT.value):
        _run(title, arguments)
    video = sorted(glob.glob(os.path.join(output, "videos", "test", "*", "*.mp4")))[0]
    label = os.path.basename(os.path.dirname(video))
    predict = ["stat_tf.predict", f"--model={output}/export", f"--videos={video}"]
    _run(f"Predict a test clip, whose class is {label}", predict)
    print(
        f"\n== The comparison\n{_table(output)}\n\n"
        f"Look at next:\n"
        f"  {output}/figures/                     where and when each network looks\n"
        f"  {output}/stat/eval-test/              metrics, predictions, confusion matrix\n"
        f"  {output}/export/                      the student as a SavedModel, for TF Serving\n"
        f"  tensorboard --logdir={output}         curves of all four trainings\n"
        f"The demo took {(time.monotonic() - start) / 60:.1f} minutes."
    )


if __name__ == "__main__":
    command.run(main)
