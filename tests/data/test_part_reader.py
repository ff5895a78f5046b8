"""The clips read of a cut video, against the frames that its parts hold, told by the numbers that they show."""

import av
import numpy as np
import pytest

from stat_tf.data import cutting, decoding, part_reader, sampling, video
from tests import media

B_FRAMES = {"crf": "2", "b": "9M", "bf": "3", "g": "12", "b_strategy": "0", "sc_threshold": "0"}
SHAPE = {"num_segments": 3, "num_snippets": 2, "num_frames": 1, "frame_stride": 1, "size": (24, 32)}
CHOSEN = sampling.sample_frames(range(10), 3, 2, 1)  # of a part of ten frames
CONTAINERS = [*((s, "libx264") for s in ("mp4", "mkv", "mov", "ts", "flv", "avi")), ("mpg", "mpeg2video")]


def encode(path, count=80, codec="libx264", **kwargs):
    kwargs.setdefault("options", B_FRAMES)
    return media.encode_video(path, media.numbered_frames(count, (24, 32)), 25, codec, **kwargs)


def read(path, runs, **changes):
    """Results by fragment."""
    reader = part_reader.PartReader(**SHAPE | changes)
    found = [pair for run in runs for pair in reader.read(str(path), run)]
    assert len({part.start for part, _ in found}) == len(found) == sum(len(run.parts) for run in runs)
    return {part.fragment: result for part, result in sorted(found, key=lambda pair: pair[0].start)}


def numbers(clip):
    return [media.number_of(frame) for frame in clip.frames]


@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
@pytest.mark.parametrize("run_seconds", [60, 0.7])
def test_parts_show_their_own_frames_and_no_others(tmp_path, monkeypatch, suffix, codec, run_seconds):
    monkeypatch.setattr(cutting, "_RUN_SECONDS", run_seconds)
    path = encode(tmp_path / f"v.{suffix}", codec=codec)
    runs = cutting.cut_video(str(path), 0.4)
    assert len(runs) == (1 if run_seconds == 60 or suffix == "avi" else 4)
    clips = read(path, runs[::-1])
    assert len(clips) == 8
    for number in range(8):
        clip = clips[f"t={number * 0.4:g},{(number + 1) * 0.4:g}"]
        assert numbers(clip) == [10 * number + i for i in CHOSEN]
        assert clip.indices == CHOSEN and clip.count == 10
        assert np.diff(clip.timestamps).tolist() == (np.diff(CHOSEN) * 40_000).tolist()
        assert clip.frame_rate == pytest.approx(25)


@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
def test_video_of_one_part_is_read_as_a_whole_one(tmp_path, suffix, codec):
    path = encode(tmp_path / f"v.{suffix}", codec=codec)
    changes = {"num_frames": 2, "frame_stride": 3}
    (clip,) = read(path, cutting.cut_video(str(path), 100), **changes, with_motion=True).values()
    whole = video.read_clip(str(path), **SHAPE | changes, with_motion=True)
    np.testing.assert_array_equal(clip.frames, whole.frames)
    assert (clip.indices, clip.count, sorted(clip.others)) == (whole.indices, whole.count, sorted(whole.others))
    for position, picture in whole.others.items():
        np.testing.assert_array_equal(clip.others[position], picture)
    if suffix != "avi":  # which does not tell presentation times
        assert (clip.timestamps, clip.frame_rate) == (whole.timestamps, whole.frame_rate)


def test_motion_stays_within_the_part(tmp_path):
    path = encode(tmp_path / "v.mp4")
    clips = read(path, cutting.cut_video(str(path), 0.4), num_segments=10, num_snippets=1, with_motion=True)
    for number, clip in enumerate(clips.values()):
        shown = {i: media.number_of(picture) for i, picture in clip.pictures.items()}
        assert shown == {i: 10 * number + i for i in range(10)}


def test_file_object_is_read_like_a_path(tmp_path):
    path = encode(tmp_path / "v.mp4")
    with open(path, "rb") as file:
        runs = cutting.cut_video("elsewhere/v.mp4", 0.4, file)
        assert runs == cutting.cut_video(str(path), 0.4)
        clips = dict(part_reader.PartReader(**SHAPE).read("elsewhere/v.mp4", runs[0], file))
    for fragment, clip in read(path, runs).items():
        (other,) = (clip for part, clip in clips.items() if part.fragment == fragment)
        np.testing.assert_array_equal(clip.frames, other.frames)


@pytest.mark.parametrize("suffix", ["mp4", "ts"])
def test_each_frame_is_decoded_about_once(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(cutting, "_RUN_SECONDS", 4)
    path = media.encode_video(
        tmp_path / f"v.{suffix}", media.numbered_frames(1000, (24, 32)), options=B_FRAMES | {"g": "25"}
    )
    decoded = []
    decode = decoding.decode_packets
    monkeypatch.setattr(
        decoding, "decode_packets", lambda packets: (decoded.append(1) or item for item in decode(packets))
    )
    runs = cutting.cut_video(str(path), 1.0)
    assert len(runs) == 10 and not decoded
    clips = read(path, runs)
    assert len(clips) == 40 and all(isinstance(clip, video.VideoClip) for clip in clips.values())
    assert len(decoded) < 1100


def test_long_gaps_are_skipped_not_decoded(tmp_path, monkeypatch):
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(1000, (24, 32)), options=B_FRAMES | {"g": "20"})
    decoded = []
    decode = decoding.decode_packets
    monkeypatch.setattr(
        decoding, "decode_packets", lambda packets: (decoded.append(1) or item for item in decode(packets))
    )
    clips = read(path, cutting.cut_video(str(path), 10.0), num_segments=1, num_snippets=1)
    assert [numbers(clip)[0] for clip in clips.values()] == [n % 85 for n in (125, 375, 625, 875)]
    assert len(decoded) < 4 * 30


def spoil(path, first, last):
    """Overwrites some packets in the order of the file; returns the numbers of their frames."""
    packets = [packet for packet in av.open(str(path)).demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for packet in packets[first:last]:
        content[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    path.write_bytes(content)
    return [round(packet.pts * packet.time_base * 25) for packet in packets[first:last]]


@pytest.mark.parametrize("run_seconds", [60, 0.5])
@pytest.mark.parametrize(("first", "last"), [(0, 1), (24, 25), (25, 26), (30, 34), (40, 41), (77, 80)])
def test_damaged_spot_costs_the_parts_that_need_it(tmp_path, monkeypatch, run_seconds, first, last):
    monkeypatch.setattr(cutting, "_RUN_SECONDS", run_seconds)
    path = encode(tmp_path / "v.mp4")
    start = min(spoil(path, first, last))
    # Up to the next key frame, one of every 12 frames, what follows builds on what is lost.
    lost = range(start, min(80, start // 12 * 12 + 12))
    damaged = {i for i in range(8) if any(10 * i + j in lost for j in CHOSEN)}
    results = list(read(path, cutting.cut_video(str(path), 0.4)).values())
    assert {i for i, result in enumerate(results) if isinstance(result, video.VideoError)} == damaged
    assert 1 <= len(damaged) < 3
    for i, result in enumerate(results):
        if i in damaged:
            assert result.reason == "a piece of it is damaged"
        else:
            assert numbers(result) == [10 * i + j for j in CHOSEN]


def test_frames_after_a_damaged_spot_keep_their_time_where_they_have_to_be_counted(tmp_path):
    path = encode(tmp_path / "v.avi")
    spoil(path, 27, 33)
    results = read(path, cutting.cut_video(str(path), 0.4))
    for number in (0, 1, 4, 5, 6, 7):
        (clip,) = (result for fragment, result in results.items() if fragment.startswith(f"t={number * 0.4:g},"))
        assert numbers(clip) == [10 * number + j for j in CHOSEN]


def test_frames_are_chosen_among_those_that_packets_give(tmp_path, monkeypatch):
    path = encode(tmp_path / "v.mp4")
    runs = cutting.cut_video(str(path), 0.4)
    decode = decoding.decode_packets
    hidden = {*range(20, 30, 2), *range(50, 60)}  # as a field of interlaced video may have a packet and no frame

    def without_hidden(packets):
        return (item for item in decode(packets) if round(item.pts * item.time_base * 25) not in hidden)

    monkeypatch.setattr(decoding, "decode_packets", without_hidden)
    results = list(read(path, runs).values())
    assert numbers(results[2]) == [[21, 23, 25, 27, 29][i] for i in sampling.sample_frames(range(5), 3, 2, 1)]
    assert results[2].count == 5
    assert results[5].reason == "no frame of it can be decoded"
    for i in (0, 1, 3, 4, 6, 7):
        assert numbers(results[i]) == [10 * i + j for j in CHOSEN]


@pytest.mark.parametrize(
    ("spoil_file", "reason"),
    [
        (lambda path: path.unlink(), "no such file or directory"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(b"no video" * 99), "it is no video file, or a part of it is missing"),
    ],
)
def test_file_that_was_spoiled_since_it_was_cut_costs_all_parts(tmp_path, spoil_file, reason):
    path = encode(tmp_path / "v.mp4")
    runs = cutting.cut_video(str(path), 0.4)
    spoil_file(path)
    results = read(path, runs)
    assert len(results) == 8 and {error.reason for error in results.values()} == {reason}
