"""Blessings against what is counted by hand."""

import json
import subprocess
import sys

import pytest

from pipeline import blessing
from stat_tf import comparison, errors

CLASSES = ("jump", "run")


def evaluation(right, model=False):
    """Whether clips 0, 1, ... were got right; the first half are of class jump. Both prec@1 follow."""
    half = len(right) // 2
    parts = {"jump": right[:half], "run": right[half:]}
    metrics = {
        "prec@1": sum(right) / len(right),
        "num_clips": len(right),
        "per_class": {
            name: {"num_clips": len(part), "prec@1": sum(part) / len(part) if part else None}
            for name, part in parts.items()
        },
    }
    if model:
        metrics |= {"model": "export/1", "model_digest": "abc"}
    return comparison.Evaluation(metrics, {str(clip): bool(hit) for clip, hit in enumerate(right)})


def thresholds(**changes):
    return blessing.Thresholds(
        **{"min_gain": 0.0, "min_gain_over_pushed": 0.0, "max_class_drop": 20.0, "min_class_clips": 5} | changes
    )


# 20 clips: 10 a class.
GOOD = [1] * 8 + [0] * 2 + [1] * 6 + [0] * 4  # jump 80 %, run 60 %: 70 %
LESS = [1] * 5 + [0] * 5 + [1] * 7 + [0] * 3  # jump 50 %, run 70 %: 60 %


def judge(candidate, baseline, pushed=None, **changes):
    return blessing.judge(
        evaluation(candidate, model=True),
        {"student": evaluation(baseline)},
        evaluation(pushed, model=True) if pushed else None,
        thresholds(**changes),
    )


def test_gain_over_the_baseline_is_blessed_up_to_the_threshold():
    verdict = judge(GOOD, LESS, min_gain=10.0)
    assert verdict["blessed"] and verdict["reasons"] == []
    assert (verdict["prec@1"], verdict["num_clips"], verdict["model_digest"]) == (0.7, 20, "abc")
    (against,) = verdict["comparisons"]
    assert (against["points"], against["worst_class"], against["worst_points"]) == (10.0, "run", -10.0)
    # Three clips of jump were won, one of run lost: 2 * P(at most 1 of 4 heads) = 2 * 5 / 16.
    assert against["p_value"] == pytest.approx(10 / 16)

    verdict = judge(GOOD, LESS, min_gain=10.5)
    assert not verdict["blessed"]
    assert verdict["reasons"] == ["It is +10.00 points of prec@1 from student, and +10.50 are asked for."]


def test_class_that_loses_too_much_stops_a_model_that_is_better_overall():
    assert judge(GOOD, LESS, max_class_drop=10.0)["blessed"]
    verdict = judge(GOOD, LESS, max_class_drop=9.0)
    assert verdict["reasons"] == ["In class run it is -10.00 points from student, and -9.00 are allowed."]


def test_class_with_few_clips_is_not_looked_at():
    assert judge(GOOD, LESS, max_class_drop=9.0, min_class_clips=11)["blessed"]


def test_pushed_model_has_a_threshold_of_its_own():
    blessed = judge(GOOD, LESS, pushed=GOOD)
    assert blessed["blessed"] and blessed["pushed_digest"] == "abc" and judge(GOOD, LESS)["pushed_digest"] == ""
    verdict = judge(GOOD, LESS, pushed=GOOD, min_gain_over_pushed=1.0)
    assert verdict["reasons"] == ["It is +0.00 points of prec@1 from the pushed model, and +1.00 are asked for."]
    assert judge(LESS, GOOD, min_gain=-10.0, max_class_drop=30.0)["blessed"]


def test_other_classes_are_not_compared():
    candidate, baseline = evaluation(GOOD, model=True), evaluation(LESS)
    baseline.metrics["per_class"]["walk"] = baseline.metrics["per_class"].pop("run")
    with pytest.raises(errors.UserError, match="student and the candidate have other classes"):
        blessing.judge(candidate, {"student": baseline}, None, thresholds())


def test_five_points_are_five_points():
    candidate, baseline = [1] * 11 + [0] * 9, [1] * 12 + [0] * 8
    assert judge(candidate, baseline, min_gain=-5.0, max_class_drop=100.0)["blessed"]


def test_class_without_clips_is_passed_over():
    candidate, baseline = evaluation(GOOD, model=True), evaluation(LESS)
    for each in (candidate, baseline):
        each.metrics["per_class"]["swim"] = {"num_clips": 0, "prec@1": None}
    assert blessing.judge(candidate, {"student": baseline}, None, thresholds())["blessed"]


def test_other_clips_are_refused():
    with pytest.raises(errors.UserError, match="different clips"):
        judge(GOOD, LESS[:10])


def test_command_writes_the_verdict_and_ends_well_either_way(tmp_path):
    for name, right in (("candidate", GOOD), ("student", LESS)):
        (tmp_path / name).mkdir()
        found = evaluation(right, model=name == "candidate")
        (tmp_path / name / "metrics.json").write_text(json.dumps(found.metrics))
        lines = [f"{clip},a,{'a' if hit else 'b'}" for clip, hit in found.correct.items()]
        (tmp_path / name / "predictions.csv").write_text("clip_id,label,top_1\n" + "\n".join(lines) + "\n")
    flags = [f"--baseline={tmp_path / 'student'}", f"--output={tmp_path / 'out'}", "--min_gain=11"]

    def bless(candidate, *more):
        command = [sys.executable, "-m", "pipeline.bless", f"--candidate={tmp_path / candidate}", *flags, *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    done = bless("candidate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Not blessed. It is +10.00 points of prec@1 from student, and +11.00 are asked for.")
    assert (tmp_path / "out" / "blessing.txt").read_text() == done.stdout
    assert json.loads((tmp_path / "out" / "blessing.json").read_text())["blessed"] is False

    refused = bless("student")
    assert refused.returncode == 1 and "is the evaluation of a run" in refused.stderr
    refused = bless("candidate", "--min_gain_over_pushed=nan")
    assert (
        refused.returncode == 1 and refused.stderr == "error: --min_gain_over_pushed=nan is no number: give points.\n"
    )
