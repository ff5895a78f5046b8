"""Whether a model is good enough to be served: better than its baselines and than the one that is served now.

All differences are in points, hundredths, of prec@1 on the same clips.
"""

import dataclasses
import os
from collections.abc import Mapping, Sequence

import tabulate

from pipeline import verdicts
from stat_tf import comparison, errors

TEXT_NAME = "blessing.txt"


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """What is asked of a candidate.

    Attributes:
      min_gain: Over each baseline, in points; negative: how much worse it may be.
      min_gain_over_pushed: Over the pushed model.
      max_class_drop: How much worse than any of them it may be in a class.
      min_class_clips: Clips a class must have for that; with fewer, chance decides.
    """

    min_gain: float
    min_gain_over_pushed: float
    max_class_drop: float
    min_class_clips: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A candidate beside one other model.

    Attributes:
      name: The other's.
      points: Of prec@1 that the candidate is better.
      p_value: Of the exact McNemar test.
      wanted: Points that it must be better.
      worst_class: The class, of those with enough clips, in which it loses most; "" where there is none.
      worst_points: Points that it is better there, mostly negative.
    """

    name: str
    points: float
    p_value: float
    wanted: float
    worst_class: str
    worst_points: float

    def objections(self, max_class_drop: float) -> list[str]:
        """What speaks against the candidate, a sentence each."""
        said = []
        if self.points < self.wanted:
            said.append(
                f"It is {self.points:+.2f} points of prec@1 from {self.name}, and {self.wanted:+.2f} are asked for."
            )
        if self.worst_points < -max_class_drop:
            said.append(
                f"In class {self.worst_class} it is {self.worst_points:+.2f} points from {self.name}, and "
                f"-{max_class_drop:.2f} are allowed."
            )
        return said


def compare(
    name: str, candidate: comparison.Evaluation, other: comparison.Evaluation, wanted: float, min_class_clips: int
) -> Comparison:
    """Compares a candidate with one other model.

    Raises:
      UserError: They were evaluated on different clips or classes.
    """
    points, p_value = comparison.difference(other, candidate)
    if candidate.metrics["per_class"].keys() != other.metrics["per_class"].keys():
        raise errors.UserError(f"{name} and the candidate have other classes and cannot be compared.")
    drops = []
    for label, entry in candidate.metrics["per_class"].items():
        before = other.metrics["per_class"][label]["prec@1"]
        if entry["num_clips"] >= max(1, min_class_clips):
            drops.append((_points(entry["prec@1"] - before), label))
    worst_points, worst_class = min(drops, default=(0.0, ""))
    return Comparison(name, _points(points / 100), p_value, wanted, worst_class, worst_points)


def judge(
    candidate: comparison.Evaluation,
    baselines: Mapping[str, comparison.Evaluation],
    pushed: comparison.Evaluation | None,
    thresholds: Thresholds,
) -> dict[str, object]:
    """Blesses a candidate, or says why not.

    Args:
      candidate: The evaluation of the model that is to be pushed.
      baselines: Those of the models that it must beat, by name.
      pushed: That of the model that is served now; None where there is none.
      thresholds: What is asked.

    Returns:
      The contents of `blessing.json`: `blessed`, `reasons` (sentences, none of a blessed model), `model` and
      `model_digest` of the candidate, `num_clips`, `prec@1`, `pushed_digest` ("" where nothing is served now),
      `comparisons` and `thresholds`.

    Raises:
      UserError: They were evaluated on different clips or classes.
    """
    others = [(name, other, thresholds.min_gain) for name, other in baselines.items()]
    if pushed:
        others.append(("the pushed model", pushed, thresholds.min_gain_over_pushed))
    compared = [compare(name, candidate, other, wanted, thresholds.min_class_clips) for name, other, wanted in others]
    reasons = [reason for each in compared for reason in each.objections(thresholds.max_class_drop)]
    return {
        "blessed": not reasons,
        "reasons": reasons,
        **{name: candidate.metrics[name] for name in ("model", "model_digest", "num_clips", "prec@1")},
        "pushed_digest": pushed.metrics["model_digest"] if pushed else "",
        "comparisons": [dataclasses.asdict(each) for each in compared],
        "thresholds": dataclasses.asdict(thresholds),
    }


def write(output: str, blessing: Mapping[str, object]) -> None:
    """Writes `blessing.txt` and, last, `blessing.json`, each whole or not at all.

    Raises:
      UserError: The directory cannot be written to.
    """
    verdicts.write(output, verdicts.BLESSING, blessing, {TEXT_NAME: text(blessing) + "\n"})


def text(blessing: Mapping[str, object]) -> str:
    """A blessing to read: the verdict, and a line a comparison."""
    verdict = "Blessed." if blessing["blessed"] else f"Not blessed. {' '.join(blessing['reasons'])}"
    rows = [
        [
            each["name"],
            f"{each['points']:+.2f}",
            f"{each['wanted']:+.2f}",
            f"{each['p_value']:.3f}",
            f"{each['worst_class']} {each['worst_points']:+.2f}" if each["worst_class"] else "-",
        ]
        for each in blessing["comparisons"]
    ]
    table = tabulate.tabulate(
        rows,
        headers=["compared with", "points", "asked for", "p (McNemar)", "worst class"],
        disable_numparse=True,
        colalign=("left", "right", "right", "right", "left"),
    )
    return (
        f"{verdict}\nprec@1 {100 * blessing['prec@1']:.2f} % of {blessing['num_clips']} clips: {blessing['model']}"
        f"\n\n{table}"
    )


def load_evaluations(directories: Sequence[str]) -> dict[str, comparison.Evaluation]:
    """Evaluations by the names of their directories.

    Raises:
      UserError: One is missing, or two have one name.
    """
    found = {}
    for directory in directories:
        name = os.path.basename(os.path.normpath(directory))
        if name in found:
            raise errors.UserError(f"Two baselines are called {name}: give directories of different names.")
        found[name] = comparison.load(directory)
    return found


def _points(fraction: float) -> float:
    """Hundredths, free of what floating point adds: 5 points are not 5.000000000000004."""
    return round(100 * fraction, 6)
