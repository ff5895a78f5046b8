"""What a finished pipeline has to say: the networks side by side, the verdict, and what to look at next."""

import os
import shlex
from collections.abc import Mapping

import tabulate

from pipeline import components, verdicts
from pipeline.states import State, Status
from stat_tf import comparison, files

_TITLES = {
    "teacher": "Teacher: HR, cross-entropy",
    "student": "Student: LR, cross-entropy",
    "student_longer": "Student, trained on: LR, cross-entropy",
    components.CANDIDATE: "Student, trained on with STAT: LR, CE + SAT + TAT",
    components.PUSHED: "The model pushed before",
}


def text(found: Mapping[str, State], root: str, push_dir: str) -> str:
    """The comparison, the verdict and where things are.

    Args:
      found: The states of a finished training graph.
      root: The directory of all outputs.
      push_dir: The directory of versions that is served from.
    """
    evaluation = found["evaluation"].output
    lines = [
        ("figures/", found["figures"].output, "where and when each network looks"),
        ("evaluation/", evaluation, "metrics, predictions and confusion matrix of each network; the blessing"),
        ("export/", found["export"].output, "the student as a SavedModel, for TF Serving"),
    ]
    places = [f"  {path}/\n      {what}" for _, path, what in lines]
    places.append(f"  tensorboard --logdir={shlex.quote(root)}\n      curves of all trainings")
    return f"\n== The comparison\n{table(evaluation)}\n\n{_outcome(found, push_dir)}\n\nLook at next:\n" + "\n".join(
        places
    )


def table(evaluation: str) -> str:
    """The networks side by side, and whether STAT has helped, or chance."""
    present = [name for name in _TITLES if comparison.exists(os.path.join(evaluation, name))]
    results = {name: comparison.load(os.path.join(evaluation, name)) for name in present}
    rows = [
        (_TITLES[name], 100 * result.metrics["prec@1"], 100 * result.metrics["prec@5"])
        for name, result in results.items()
    ]
    drawn = tabulate.tabulate(rows, headers=["Run", "prec@1 (%)", "prec@5 (%)"], floatfmt=".1f")
    name, against = ("student_longer", "the same student trained on as long without a teacher")
    if name not in results:
        name, against = "student", "the student that it was trained on from"
    points, p_value = comparison.difference(results[name], results[components.CANDIDATE])
    verdict = (
        "That is more than chance explains at the 5% level."
        if p_value < 0.05
        else "So small a difference on so few clips may well be chance."
    )
    return (
        f"{drawn}\n\nSTAT against {against}: {points:+.1f} points of prec@1 on "
        f"{len(results[name].correct)} test clips, one seed (exact McNemar test, p = {p_value:.2f}). {verdict}"
    )


def _outcome(found: Mapping[str, State], push_dir: str) -> str:
    state = found["push"]
    if state.status is Status.WITHHELD:
        return f"No model was pushed to {push_dir}: {state.reason}"
    pushed = verdicts.load(state.output, verdicts.PUSHED)
    base_path = push_dir if files.is_remote(push_dir) else os.path.abspath(push_dir)
    return (
        f"The model is blessed, validated and pushed: version {pushed['version']} of {push_dir}.\n"
        f"  tensorflow_model_server --model_name=stat --model_base_path={shlex.quote(base_path)}"
    )


def example_prediction(found: Mapping[str, State]) -> tuple[str, list[str]] | None:
    """A class and the command that predicts a rendered test clip of it; None where the videos are the user's."""
    if "videos" not in found:
        return None
    test = os.path.join(found["videos"].output, "test")
    label = min(os.listdir(test))
    video = os.path.join(test, label, min(os.listdir(os.path.join(test, label))))
    return label, ["stat_tf.predict", f"--model={found['export'].output}", f"--videos={video}"]
