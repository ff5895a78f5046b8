"""Which clips of a dataset are taken for near-duplicates, against comparing each with each in so many words."""

import itertools

import apache_beam as beam
import numpy as np
import pytest
from apache_beam.testing import util

from pipeline.validation import checks, job, judge, near, near_pairs
from pipeline.validation.measures import UNIT, Measures
from pipeline.validation.shard_reader import Facts
from stat_tf.data import info


def signature(frames):
    return np.rint(np.clip(frames, 0, 255)).astype(np.uint8).tobytes()


def clip(clip_id, frames, split, group=None, digest=None):
    look = Measures(digest or clip_id, 0, 0, 50 * UNIT, 0, signature(frames))
    return Facts(clip_id, split, "run", group or clip_id, clip_id, checks.Place("shard", 0), look)


def restated(clips):
    """The pairs that are near-duplicates, by their ids."""
    found = set()
    for one, other in itertools.combinations(clips, 2):
        x, y = (np.frombuffer(each.measures.signature, np.uint8).reshape(-1, 72) for each in (one, other))
        changes = [frames - frames.mean(0) for frames in (x, y)]
        moving = [change.std() >= 0.4 for change in changes]
        appearance = np.corrcoef(x.ravel(), y.ravel())[0, 1]
        if any(moving):
            alike = all(moving) and appearance >= 0.97 and np.corrcoef(*(c.ravel() for c in changes))[0, 1] >= 0.95
        else:
            alike = appearance >= 0.995
        if alike and one.group != other.group and one.measures.digest != other.measures.digest:
            found.add((one.clip_id, other.clip_id))
    return found


def families(pairs):
    """The sets of ids that pairs connect."""
    sets = []
    for pair in pairs:
        touched = [one for one in sets if one & set(pair)]
        sets = [one for one in sets if one not in touched] + [set(pair).union(*touched)]
    return sorted(map(sorted, sets))


def run(clips, check_pairs, num_missed):
    """Runs the steps: `check_pairs` gets (check, (members, splits, count)) of every pair."""
    with beam.Pipeline("DirectRunner") as pipeline:
        bands = near_pairs.bands(pipeline | beam.Create(clips), checks.Thresholds())
        util.assert_that(near_pairs.pairs(bands), check_pairs, "pairs")
        util.assert_that(near_pairs.not_compared(bands), util.equal_to([("not_compared", num_missed)]), "missed")


def looks(clips):
    return [
        near_pairs.Look(one.member(one.split), one.group, one.measures.digest, one.measures.signature)
        for one in sorted(clips, key=lambda one: one.clip_id)
    ]


@pytest.mark.parametrize("seed", range(4))
def test_pairs_connect_what_comparing_each_with_each_connects(seed, monkeypatch):
    monkeypatch.setattr(near, "_ROWS", 7)
    rng = np.random.default_rng(seed)
    clips = []
    for family in range(6):
        scene, motion = rng.uniform(60, 200, (1, 8, 9)), rng.normal(0, 12, (8, 8, 9)) * (family > 1)
        for member in range(8):
            frames = (scene + motion + rng.normal(0, rng.uniform(0, 3), (8, 8, 9)))[: 8 if member else 4]
            group, digest = (f"{family}/{rng.integers(5)}" for _ in range(2))
            clips.append(clip(f"{family}/{member}", frames, "train", group, digest))
    by_length = [[c for c in clips if len(c.measures.signature) == length] for length in (4 * 72, 8 * 72)]
    expected = set().union(*map(restated, by_length))
    pairs = [(one[0], other[0]) for one, other in near_pairs.compare(looks(clips))]
    assert len(expected) > len(pairs) > 5 and set(pairs) <= expected
    assert families(pairs) == families(expected)


def chain():
    """Three clips, each like the one before it, and the first and the last unlike."""
    rng = np.random.default_rng(1)
    base, step = rng.uniform(60, 200, (8, 8, 9)), rng.normal(0, 1, (8, 8, 9))
    for size in np.arange(2, 20, 0.25):
        a, b, c = (base + times * size * step for times in range(3))
        signatures = [signature(frames) for frames in (a, b, c)]
        alike = [near.alike(one, other) for one, other in itertools.combinations(signatures, 2)]
        if alike == [True, False, True]:
            return a, b, c
    raise AssertionError("no such clips")


def test_leak_is_found_by_a_clip_that_looks_like_another_of_its_group():
    a, b, c = chain()
    clips = [clip("a", a, "test", "g"), clip("b", b, "test", "g"), clip("c", c, "train", "h")]
    assert [(one[0], other[0]) for one, other in near_pairs.compare(looks(clips))] == [("b", "c")]


def fixed_camera(count):
    """Clips before one background in which next to nothing happens, and a leak among the last; all share every band."""
    rng = np.random.default_rng(2)
    background = 3.0 * rng.permutation(72).reshape(8, 9)
    clips = []
    for number in range(count):
        frames = np.repeat(background[None], 8, 0)
        frames[np.arange(8), rng.integers(0, 8, 8), rng.integers(0, 8, 8)] += 0.9
        clips.append(clip(f"clip{number:04d}", frames, "train"))
    moving = background * (1 + 0.04 * np.sin(np.arange(8)))[:, None, None]
    return [*clips, clip("y", moving, "train"), clip("z", 1.02 * moving, "test")]


def test_leak_among_hundreds_of_clips_of_one_camera_is_found():
    def check(pairs):
        leaks = [[one[0] for one in members] for name, (members, *_) in pairs if name == "leaked_near_duplicate"]
        assert ["y", "z"] in leaks

    run(fixed_camera(210), check, num_missed=0)


def test_clips_that_are_too_many_to_compare_are_counted_and_warned_of(monkeypatch):
    monkeypatch.setattr(near_pairs, "_MOST_COMPARED", 20)
    run(fixed_camera(23), lambda _: None, num_missed=5)
    findings = job.Findings(not_compared=5)
    anomalies, totals = judge.judge(description(), findings, checks.Policy.of(), checks.Thresholds())
    assert [(one.check, one.severity) for one in anomalies] == [("not_compared", "warning")]
    assert "At least 5 clips were not compared" in anomalies[0].message and totals == {"not_compared": 1}


def description():
    return info.DatasetInfo((), 2, 3, 1, 1, (24, 32), ((12, 16),), 0.5, 0.0, {}, {}, 0, "")


def test_anomaly_of_very_many_clips_lists_the_first_of_each_split():
    middle = ("m", "s", 0, "train")
    pairs = [job.ClipSet(["train"], 2, [(f"a{n:03d}", "s", n, "train"), middle]) for n in range(120)]
    leak = job.ClipSet(["test", "train"], 2, [("z", "s", 0, "test"), middle])
    findings = job.Findings(sets={"near_duplicate": (120, pairs), "leaked_near_duplicate": (1, [leak])})
    anomalies, _ = judge.judge(description(), findings, checks.Policy.of(), checks.Thresholds())
    [anomaly] = anomalies
    assert (anomaly.check, anomaly.num_clips) == ("leaked_near_duplicate", 122)
    assert len(anomaly.clips) == len(anomaly.places) == checks.MOST_CLIPS
    assert anomaly.clips[:3] == ("z", "a000", "a001")
