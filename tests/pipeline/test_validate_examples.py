"""`python -m pipeline.validate_examples` as users start it, on a dataset built from encoded videos."""

import html
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from pipeline import beam_options, build, sources
from pipeline.validation import checks, validate
from stat_tf import errors
from stat_tf.data import info
from tests import builds, media

ROOT = pathlib.Path(__file__).parents[2]
SETTINGS = builds.record_settings()


def run(*arguments):
    command = [sys.executable, "-m", "pipeline.validate_examples", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Twelve clips, one of which is in test once more, encoded anew."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for number in range(12):
        grid = rng.uniform(0, 255, (1, 6, 8, 3))
        drift = rng.uniform(-60, 60, (20, 6, 8, 3)).cumsum(0) / 1.5
        frames = np.clip(grid + drift, 0, 255).astype(np.uint8).repeat(8, 1).repeat(8, 2)
        split, label = ("test", "train")[number % 3 > 0], ("jump", "run")[number % 2]
        media.encode_video(root / split / label / f"{number}.mp4", frames)
    media.encode_video(root / "test" / "jump" / "copy.avi", frames, codec="mpeg4")
    listing = sources.read("folders", str(root), None, 1)
    output = tmp_path_factory.mktemp("data") / "data"
    build.build(listing, build.BuildConfig(str(root), str(output), SETTINGS), beam_options.parse([], 0))
    return output


def test_report_that_was_being_replaced_by_a_killed_job_is_put_back(data, tmp_path):
    replaced = tmp_path / "report.building-0123abcd" / "replaced"
    replaced.mkdir(parents=True)
    (replaced / "report.json").write_text("{}")
    (replaced / "report.html").write_text("old")
    with pytest.raises(errors.UserError, match="already holds a report"):
        validate.validate(
            *(str(data), info.load(str(data)), str(tmp_path / "report"), beam_options.parse([], 0)),
            policy=checks.Policy.of(),
            thresholds=checks.Thresholds(),
        )
    assert (tmp_path / "report" / "report.html").read_text() == "old"


@pytest.mark.slow
def test_leak_fails_with_a_sentence_and_two_workers_write_the_same_report(data, tmp_path):
    done = run(f"--data_dir={data}", f"--output={tmp_path / 'two'}", "--direct_num_workers=2", "--ignore=missing_class")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: The dataset fails its validation, leaked_near_duplicate (1), first: Nearly the same frames are stored "
        "2 times, in test and train: test/jump/copy.avi = train/run/11.mp4. "
        f"All is in {tmp_path / 'two'}/report.html.\n"
    )
    policy = checks.Policy.of(ignore=["missing_class"])
    description = info.load(str(data))
    outcome = validate.validate(
        *(str(data), description, str(tmp_path / "one"), beam_options.parse([], 0)),
        policy=policy,
        thresholds=checks.Thresholds(),
    )
    assert [anomaly.clips for anomaly in outcome.anomalies] == [("test/jump/copy.avi", "train/run/11.mp4")]
    for name in ("report.json", "report.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert json.loads((tmp_path / "two" / "report.json").read_text())["verdict"] == "fail"
    assert "test/jump/copy.avi = train/run/11.mp4" in html.unescape((tmp_path / "two" / "report.html").read_text())


@pytest.mark.slow
def test_warnings_are_printed_and_end_well(data, tmp_path):
    done = run(f"--data_dir={data}", f"--output={tmp_path / 'report'}", "--warn_on=leaked_near_duplicate")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("warning: Nearly the same frames are stored 2 times, in test and train: test/jump/")
    assert done.stdout.endswith(f"The dataset passes. The report is in {tmp_path / 'report'}/report.html.\n")


def test_check_that_does_not_exist_is_named_before_anything_is_read(tmp_path):
    done = run(f"--data_dir={tmp_path}", f"--output={tmp_path / 'report'}", "--ignore=blank,frosen")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.startswith("error: --ignore=frosen: there is no such check, only shard, schema,")


@pytest.mark.slow
def test_directory_that_is_no_dataset_is_named(tmp_path):
    done = run(f"--data_dir={tmp_path}", f"--output={tmp_path / 'report'}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path} is not a dataset: it has no dataset.json")
    assert list(tmp_path.iterdir()) == []
