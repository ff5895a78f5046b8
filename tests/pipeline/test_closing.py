"""What a finished pipeline says at the end, against numbers counted by hand."""

import json
import types

import pytest

from pipeline import closing, verdicts
from pipeline.states import Status


def write_evaluation(directory, right, clips=10):
    directory.mkdir()
    lines = [f"{clip},a,{'a' if clip in right else 'b'}" for clip in range(clips)]
    (directory / "predictions.csv").write_text("clip_id,label,top_1\n" + "\n".join(lines) + "\n")
    (directory / "metrics.json").write_text(json.dumps({"prec@1": len(right) / clips, "prec@5": 1.0}))


@pytest.fixture
def evaluation(tmp_path):
    write_evaluation(tmp_path / "teacher", range(9))
    write_evaluation(tmp_path / "student", range(4))
    write_evaluation(tmp_path / "student_longer", range(5))
    write_evaluation(tmp_path / "candidate", range(1, 8))
    return tmp_path


def test_table_compares_with_the_student_trained_on(evaluation):
    text = closing.table(str(evaluation))
    rows = [line.split()[-2:] for line in text.splitlines()[2:6]]
    assert rows == [["90.0", "100.0"], ["40.0", "100.0"], ["50.0", "100.0"], ["70.0", "100.0"]]
    # Three clips won, one lost: 2 * P(at most 1 of 4 heads) = 2 * 5 / 16.
    assert "trained on as long without a teacher: +20.0 points of prec@1 on 10 test clips" in text
    assert "p = 0.62). So small a difference on so few clips may well be chance." in text


def test_table_without_it_compares_with_the_student(evaluation):
    (evaluation / "student_longer" / "metrics.json").unlink()
    text = closing.table(str(evaluation))
    assert "STAT against the student that it was trained on from: +30.0 points" in text


def test_whether_and_where_a_model_was_pushed_is_said(evaluation, tmp_path):
    def states(push):
        other = types.SimpleNamespace(output=str(evaluation), status=Status.DONE, reason="")
        return {"evaluation": other, "figures": other, "export": other, "push": push}

    withheld = types.SimpleNamespace(output="", status=Status.WITHHELD, reason="not blessed. It is worse.")
    said = closing.text(states(withheld), "out", "served")
    assert "No model was pushed to served: not blessed. It is worse." in said
    assert "tensorboard --logdir=out" in said
    verdicts.write(
        str(tmp_path / "pushed"), verdicts.PUSHED, {"version": 3, "directory": "served/3", "model_digest": "abc"}
    )
    pushed = types.SimpleNamespace(output=str(tmp_path / "pushed"), status=Status.DONE, reason="")
    assert "pushed: version 3 of served." in closing.text(states(pushed), "out", "served")
    assert f"--model_base_path={tmp_path}/served" in closing.text(states(pushed), "out", f"{tmp_path}/served")
    assert "--model_base_path=s3://bucket/served\n" in closing.text(states(pushed), "out", "s3://bucket/served")
