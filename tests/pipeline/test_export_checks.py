"""Exports damaged in ways that still load: each must be found before it is served."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pipeline import export_checks
from stat_tf.inference import evaluation, export_evaluation, model_card, serving
from stat_tf.training import checkpoints
from tests import datasets, runs


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("checks")
    datasets.write_dataset(root / "data", classes=("jump", "run", "walk"), clips={"train": 3, "test": 5})
    runs.untrained(root / "data", root / "run")
    serving.export_run(str(root / "run"), str(root / "export"), warmup_data_dir=str(root / "data"))
    return root


def check(root, model, max_latency_ms=0.0):
    return export_checks.check(str(model), [str(root / "run")], max_latency_ms, latency_requests=5)


@pytest.fixture
def copy(root, tmp_path):
    return shutil.copytree(root / "export" / "1", tmp_path / "1")


def altered(root, directory, alter):
    """An export of the run whose network has been altered first, the rest as it was."""
    recognizer, config = checkpoints.load_recognizer(str(root / "run"))
    alter(recognizer)
    card = model_card.of_runs({str(root / "run"): config}, "best", 0.5)
    return serving.write({"rgb": recognizer}, card, str(directory))


def test_sound_export_passes(root):
    report = check(root, root / "export")
    assert (report["verdict"], report["problems"]) == ("pass", [])
    assert report["model"] == str(root / "export" / "1") and report["largest_difference"] < 1e-5
    assert 0 < report["latency_ms"]["median"] <= report["latency_ms"]["p95"]


def test_weight_that_was_changed_is_found(root, tmp_path):
    def alter(recognizer):
        kernel = recognizer.classifier.kernel
        kernel.assign(kernel + 0.05 * np.random.default_rng(0).normal(size=kernel.shape))

    report = check(root, altered(root, tmp_path, alter))
    assert report["verdict"] == "fail" and "probabilities differ by up to" in report["problems"][0]


def test_nan_is_found(root, tmp_path):
    report = check(root, altered(root, tmp_path, lambda each: each.classifier.bias.assign([np.nan] * 3)))
    assert "probabilities holds values that are not finite" in report["problems"][0]


def test_other_number_of_classes_is_found(root, copy):
    card = json.loads((copy / "assets" / "model.json").read_text())
    (copy / "assets" / "model.json").write_text(json.dumps(card | {"classes": [*card["classes"], "swim"]}))
    report = check(root, copy)
    assert "probabilities has the shape (1, 3), not (1, 4)" in report["problems"][0]


def test_other_labels_are_found(root, copy):
    (copy / "assets" / "labels.txt").write_text("jump\nwalk\nrun\n")
    assert "labels.txt does not have the 3 classes" in check(root, copy)["problems"][0]


@pytest.mark.parametrize("name", ["saved_model.pb", "variables/variables.data-00000-of-00001"])
def test_damaged_file_is_found(root, copy, name):
    with open(copy / name, "r+b") as file:
        file.truncate(500)
    report = check(root, copy)
    assert report["verdict"] == "fail" and "damaged SavedModel" in report["problems"][0]


def test_missing_warm_up_requests_are_found(root, copy):
    shutil.rmtree(copy / "assets.extra")
    assert "holds no warm-up requests" in check(root, copy)["problems"][0]


def test_slow_model_is_found(root):
    report = check(root, root / "export", max_latency_ms=1e-3)
    assert "A request of one clip takes" in report["problems"][0]


def test_probabilities_that_do_not_sum_to_one_are_found(root):
    served = serving.ServedModel(str(root / "export"))
    answers, _ = export_checks.replay(served, str(root / "export" / "1"))
    assert list(export_checks.problems_of(answers[1], served.card)) == []
    answers[1].outputs["probabilities"] = answers[1].outputs["probabilities"] * 0.9
    assert list(export_checks.problems_of(answers[1], served.card)) == [
        "warm-up request 2: probabilities do not sum to 1."
    ]


def test_command_says_what_is_wrong_and_writes_the_report(root, copy, tmp_path):
    os.remove(copy / "assets" / "labels.txt")
    flags = [f"--model={copy}", f"--run_dir={root / 'run'}", f"--output={tmp_path / 'out'}"]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.validate_export", *flags], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith(f"error: {copy} is not fit to be served: ")
    assert json.loads((tmp_path / "out" / "validation.json").read_text())["verdict"] == "fail"


@pytest.mark.parametrize("looks", [{}, {"num_snippets": 3, "flips": True}])
def test_export_evaluates_as_the_run_it_was_made_of(root, looks):
    data = str(root / "data")
    expected, predictions = evaluation.evaluate_run(str(root / "run"), data, "test", **looks)
    results, found = export_evaluation.evaluate_export(str(root / "export"), data, "test", batch_size=2, **looks)
    assert found.ids == predictions.ids and len(found.ids) == 5
    np.testing.assert_allclose(found.probabilities, predictions.probabilities, atol=1e-5)
    np.testing.assert_allclose(found.attention, predictions.attention, atol=1e-5)
    for name in ("prec@1", "prec@5", "per_class", "confusion_matrix", "dataset_fingerprint"):
        assert results[name] == expected[name]
    assert results["model"] == str(root / "export" / "1") and len(results["model_digest"]) == 64
