"""Parts of really encoded videos, whose frames show their number."""

import math
from fractions import Fraction

import numpy as np
import pytest

from stat_tf.data import cutting, decoding, video
from tests import media

B_FRAMES = {"bf": "3", "g": "12", "b_strategy": "0", "sc_threshold": "0"}


def encode(path, count=100, fps=25, codec="libx264", **kwargs):
    kwargs.setdefault("options", B_FRAMES)
    return media.encode_video(path, media.numbered_frames(count, (16, 16)), fps, codec, **kwargs)


def parts_of(path, seconds):
    return [part for run in cutting.cut_video(str(path), seconds) for part in run.parts]


@pytest.mark.parametrize(
    ("suffix", "codec"), [*((s, "libx264") for s in ("mp4", "mkv", "ts", "avi")), ("mpg", "mpeg2video")]
)
def test_parts_tile_the_video(tmp_path, suffix, codec):
    path = encode(tmp_path / f"v.{suffix}", codec=codec)
    parts = parts_of(path, 0.7)
    # Frame n is presented at n / 25 seconds; the last half second is more than half a part.
    numbers = np.arange(100) * 10 // 175
    assert [part.count for part in parts] == np.bincount(numbers).tolist()
    fragments = [part.fragment for part in parts]
    assert fragments == ["t=0,0.7", "t=0.7,1.4", "t=1.4,2.1", "t=2.1,2.8", "t=2.8,3.5", "t=3.5,4"]


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (1, [("t=0,0.04", 1)]),
        (24, [("t=0,0.96", 24)]),
        (61, [("t=0,1", 25), ("t=1,2.44", 36)]),
        (62, [("t=0,1", 25), ("t=1,2.48", 37)]),
        (63, [("t=0,1", 25), ("t=1,2", 25), ("t=2,2.52", 13)]),
        (75, [("t=0,1", 25), ("t=1,2", 25), ("t=2,3", 25)]),
    ],
)
def test_short_last_part_joins_the_one_before(tmp_path, count, expected):
    path = encode(tmp_path / "v.mp4", count)
    assert [(part.fragment, part.count) for part in parts_of(path, 1.0)] == expected


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("seconds", [0.1, 0.33, 2.0, 7.5])
def test_irregular_frames_lie_in_the_part_of_their_time(tmp_path, monkeypatch, seed, seconds):
    rng = np.random.default_rng(seed)
    steps = rng.choice([1, 2, 3, 5, 300], size=79, p=[0.4, 0.3, 0.2, 0.08, 0.02])  # with breaks longer than a part
    times = 40 + np.concatenate([[0], np.cumsum(steps)])
    path = encode(tmp_path / "v.mp4", 80, 30, times=times.tolist())
    monkeypatch.setattr(cutting, "_RUN_SECONDS", rng.choice([0.5, 3, 60]))
    moments = [Fraction(int(time - times[0]), 30) for time in times]
    length = Fraction(str(seconds))
    duration = moments[-1] * Fraction(80, 79)
    last = max(1, math.floor(duration / length + Fraction(1, 2))) - 1
    expected = {}
    for moment in moments:
        expected.setdefault(min(last, moment // length), []).append(moment)
    parts = parts_of(path, seconds)
    assert [part.count for part in parts] == [len(members) for members in expected.values()]
    for part, (number, members) in zip(parts, expected.items(), strict=True):
        assert part.start == number * length and part.end == (duration if number == last else (number + 1) * length)
        assert all(part.start <= moment < part.end for moment in members)


def test_run_holds_the_times_of_its_frames_from_the_key_frame_on(tmp_path, monkeypatch):
    monkeypatch.setattr(cutting, "_RUN_SECONDS", 1)
    path = encode(tmp_path / "v.mkv")
    runs = cutting.cut_video(str(path), 0.6)
    assert [len(run.parts) for run in runs] == [2, 2, 2, 1]
    assert [run.from_start for run in runs] == [True, False, False, False]
    first = 0
    for run in runs:
        key_frame = first // 12 * 12
        count = sum(part.count for part in run.parts)
        assert run.times().tolist() == [40 * n for n in range(key_frame, first + count)]
        assert run.lead == first - key_frame and run.key_frames == tuple(range(0, run.lead + count, 12))
        first += count
    assert first == 100


def test_video_without_key_frames_to_start_from_is_one_run(tmp_path, monkeypatch):
    monkeypatch.setattr(cutting, "_RUN_SECONDS", 0.5)
    path = encode(tmp_path / "v.mp4", options={"g": "1000", "sc_threshold": "0"})
    (run,) = cutting.cut_video(str(path), 0.5)
    assert len(run.parts) == 8
    path = encode(tmp_path / "v.avi")  # tells no presentation times
    assert len(cutting.cut_video(str(path), 0.5)) == 1


def test_nothing_is_decoded_where_the_container_tells_the_times(tmp_path, monkeypatch):
    path = encode(tmp_path / "v.mp4")
    monkeypatch.setattr(decoding, "decode_packets", None)
    assert sum(part.count for part in parts_of(path, 1.0)) == 100


def test_regular_times_take_little_room(tmp_path):
    path = encode(tmp_path / "v.mp4", 3000, options={"g": "100", "preset": "ultrafast"})
    runs = cutting.cut_video(str(path), 4.0)
    assert len(runs) == 2 and all(len(run.packed_steps) < 200 for run in runs)


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("text.avi", lambda path: path.write_text("no video at all\n" * 100), "it is no video file"),
        ("empty.mp4", lambda path: path.write_bytes(b""), "it is empty"),
        ("sound.mp4", media.encode_sound, "it has no video stream"),
        ("absent.mp4", lambda path: None, "no such file"),
    ],
)
def test_unusable_file_is_named_with_the_reason(tmp_path, name, write, reason):
    write(tmp_path / name)
    with pytest.raises(video.VideoError, match=f"{name} cannot be used as a video: .*{reason}"):
        cutting.cut_video(str(tmp_path / name), 1.0)
