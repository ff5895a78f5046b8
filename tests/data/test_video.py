"""Real files, compared with a plain decode of every frame by FFmpeg's own loop."""

import os
import subprocess
import sys
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from stat_tf.data import sampling, video
from tests import media

LOSSLESS = {"crf": "0", "preset": "ultrafast"}
B_FRAMES = {"crf": "2", "bf": "3", "g": "12", "b_strategy": "0", "sc_threshold": "0"}


def read(path, shape=(4, 3, 1), size=(48, 64), **kwargs):
    return video.read_clip(
        str(path), num_segments=shape[0], num_snippets=shape[1], num_frames=shape[2], size=size, **kwargs
    )


def assert_same_frames(clip, expected, tolerance=0):
    assert clip.frames.shape == expected.shape and clip.frames.dtype == np.uint8
    assert np.abs(clip.frames.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "mov", "avi", "ts"])
@pytest.mark.parametrize("shape", [(4, 3, 1), (2, 2, 5)])
def test_b_frames_come_in_order_of_presentation(tmp_path, suffix, shape):
    path = media.encode_video(tmp_path / f"v.{suffix}", media.numbered_frames(60), options=B_FRAMES)
    assert any(f.pict_type == av.video.frame.PictureType.B for f in av.open(str(path)).decode(video=0))
    clip = read(path, shape)
    chosen = sampling.sample_frames(range(60), *shape)
    assert [media.number_of(frame) for frame in clip.frames] == chosen
    assert_same_frames(clip, media.decode_all(path)[chosen])
    steps = np.diff(clip.timestamps)
    np.testing.assert_allclose(steps, np.diff(chosen) * 40000, atol=1000)
    assert clip.frame_rate == pytest.approx(25, rel=0.01)


@pytest.mark.parametrize(("codec", "suffix"), [("mpeg4", "avi"), ("mpeg2video", "mpg"), ("libvpx-vp9", "webm")])
def test_other_codecs(tmp_path, codec, suffix):
    path = media.encode_video(tmp_path / f"v.{suffix}", media.numbered_frames(30), codec=codec, options={"b": "4M"})
    chosen = sampling.sample_frames(range(30), 4, 3, 1)
    assert_same_frames(read(path), media.decode_all(path)[chosen])


def test_variable_frame_rate_gives_segments_of_equal_time(tmp_path):
    times = [*range(0, 40), *range(40, 400, 40)]  # 40 quick frames, then 9 slow ones
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(49), times=times, options=LOSSLESS)
    clip = read(path, (4, 1, 1))
    shown = [media.number_of(frame) for frame in clip.frames]
    assert shown == sampling.sample_frames(times, 4, 1, 1)
    assert shown[0] >= 38  # by frame numbers it would be frame 6
    assert clip.timestamps == [times[n] * 40000 for n in shown]
    assert clip.frame_rate == pytest.approx(48 / (360 / 25))


def test_negative_and_late_starts(tmp_path):
    for start in (-7, 90000):
        times = [start + n for n in range(30)]
        path = media.encode_video(tmp_path / f"{start}.mkv", media.numbered_frames(30), times=times, options=LOSSLESS)
        shown = [media.number_of(frame) for frame in read(path).frames]
        assert shown == sampling.sample_frames(range(30), 4, 3, 1)


def test_stream_without_timestamps(tmp_path):
    path = media.encode_video(tmp_path / "v.h264", media.numbered_frames(30), options=B_FRAMES)
    assert any(packet.pts is None for packet in av.open(str(path)).demux(video=0) if packet.size)
    shown = [media.number_of(frame) for frame in read(path).frames]
    assert shown == sampling.sample_frames(range(30), 4, 3, 1)


def test_untrue_timestamps_do_not_disorder_frames(tmp_path):
    source = media.encode_video(tmp_path / "source.mp4", media.numbered_frames(60), options=B_FRAMES)
    path = tmp_path / "v.mkv"
    with av.open(str(source)) as reader, av.open(str(path), "w") as writer:
        stream = writer.add_stream_from_template(reader.streams.video[0])
        for number, packet in enumerate(packet for packet in reader.demux(video=0) if packet.size):
            packet.pts = packet.dts = number * 512  # B frames are not shown in the order they are stored in
            packet.stream = stream
            writer.mux(packet)
    for num_segments in range(1, 8):
        shown = [media.number_of(frame) for frame in read(path, (num_segments, 1, 1)).frames]
        assert shown == sampling.sample_frames(range(60), num_segments, 1, 1)


def test_short_clip_repeats_its_frames_in_order(tmp_path):
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(3), options=LOSSLESS)
    assert [media.number_of(f) for f in read(path, (4, 1, 2)).frames] == [0, 0, 0, 1, 1, 1, 2, 2]


def test_single_frame(tmp_path):
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(1), options=LOSSLESS)
    assert read(path, (2, 2, 3)).frames.shape == (12, 48, 64, 3)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_rotation_metadata_turns_the_picture_upright(tmp_path, degrees):
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(8), rotation=degrees, options=LOSSLESS)
    with av.open(str(path)) as container:
        turns = next(container.decode(video=0)).rotation // 90
    assert turns % 4 != 0
    size = (48, 64) if degrees == 180 else (64, 48)
    chosen = sampling.sample_frames(range(8), 2, 1, 1)
    assert_same_frames(read(path, (2, 1, 1), size), np.rot90(media.decode_all(path), turns, (1, 2))[chosen])


def test_mirrored_display_matrix(tmp_path):
    path = tmp_path / "v.mp4"
    frames = media.numbered_frames(4)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=LOSSLESS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(0, hflip=True)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    assert_same_frames(read(path, (2, 1, 1)), media.decode_all(path)[[1, 3], :, ::-1])


def test_pixels_that_are_not_square(tmp_path):
    # 48x48 pixels of 4:3 are shown as 48x64: nothing is cropped.
    frames = media.numbered_frames(4, (48, 48))
    path = media.encode_video(
        tmp_path / "v.mp4", frames, pix_fmt="yuv444p", pixel_aspect=Fraction(4, 3), options=LOSSLESS
    )
    expected = np.stack([cv2.resize(frame, (32, 24), interpolation=cv2.INTER_AREA) for frame in frames[[1, 3]]])
    assert_same_frames(read(path, (2, 1, 1), (24, 32)), expected, tolerance=4)


def test_wide_video_is_cropped_at_the_centre(tmp_path):
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(4, (48, 96)), options=LOSSLESS)
    assert_same_frames(read(path, (2, 1, 1)), media.decode_all(path)[[1, 3], :, 16:80])


@pytest.mark.parametrize(("codec", "pix_fmt"), [("libx264", "yuv444p"), ("png", "rgb24")])
def test_shrinking_averages_areas(tmp_path, codec, pix_fmt):
    # Level 40 to 215: means of noise that clipping would not change.
    noise = np.random.default_rng(0).integers(40, 216, (4, 96, 128, 3), np.uint8)
    options = LOSSLESS if codec == "libx264" else None
    path = media.encode_video(tmp_path / "v.mov", noise, codec=codec, pix_fmt=pix_fmt, options=options)
    means = media.decode_all(path)[[1, 3]].reshape(2, 24, 4, 32, 4, 3).mean((2, 4))
    clip = read(path, (2, 1, 1), (24, 32))
    assert np.abs(clip.frames - means).mean() < 0.5
    assert_same_frames(clip, means, tolerance=2.5)


def test_shrinking_by_a_fraction_averages_areas(tmp_path):
    noise = np.random.default_rng(0).integers(40, 216, (4, 60, 80, 3), np.uint8)
    path = media.encode_video(tmp_path / "v.mov", noise, codec="png", pix_fmt="rgb24")
    expected = np.stack([cv2.resize(f, (32, 24), interpolation=cv2.INTER_AREA) for f in noise[[1, 3]]])
    assert_same_frames(read(path, (2, 1, 1), (24, 32)), expected, tolerance=3)


def test_small_video_is_enlarged(tmp_path):
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(8, (24, 32)), options=LOSSLESS)
    clip = read(path, (2, 1, 1), (96, 128))
    assert clip.frames.shape == (2, 96, 128, 3)
    assert [media.number_of(frame) for frame in clip.frames] == [2, 6]


@pytest.mark.parametrize(
    ("codec", "suffix", "pix_fmt", "size"),
    [
        ("libx264", "mp4", "yuv444p", (47, 63)),
        ("libx264", "mp4", "yuv422p", (48, 64)),
        ("libx264", "mp4", "gray", (48, 64)),
        ("libx264", "mkv", "yuv420p10le", (48, 64)),
        ("ffv1", "mkv", "yuva420p", (48, 64)),
        ("png", "mov", "rgba", (31, 41)),
        ("gif", "gif", "rgb8", (48, 64)),
    ],
)
def test_pixel_formats_and_odd_sizes(tmp_path, codec, suffix, pix_fmt, size):
    path = media.encode_video(tmp_path / f"v.{suffix}", media.numbered_frames(8, size), codec=codec, pix_fmt=pix_fmt)
    assert_same_frames(read(path, (2, 1, 1), size), media.decode_all(path)[[2, 6]])


def test_file_object_is_read_like_a_path(tmp_path):
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(30), options=B_FRAMES)
    with open(path, "rb") as file:
        clip = read("elsewhere/v.mp4", file=file)
    assert_same_frames(clip, read(path).frames)


def test_long_gaps_are_skipped_not_decoded(tmp_path, monkeypatch):
    frames = np.repeat(media.numbered_frames(100), 15, axis=0)[:, ::2, ::2]
    path = media.encode_video(tmp_path / "v.mp4", frames, options=B_FRAMES | {"g": "50", "keyint_min": "50"})
    decoded = []
    frames_of = video.decoding.frames_of
    monkeypatch.setattr(video.decoding, "frames_of", lambda *a: (decoded.append(f) or f for f in frames_of(*a)))
    clip = read(path, (4, 1, 3), (24, 32))
    chosen = sampling.sample_frames(range(1500), 4, 1, 3)
    assert len(decoded) < 4 * 60
    assert_same_frames(clip, media.decode_all(path)[chosen])


def test_frames_that_motion_needs_are_read_in_the_same_pass(tmp_path, monkeypatch):
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(60), options=B_FRAMES)
    passes = []
    open_file = video.decoding.open_video
    monkeypatch.setattr(video.decoding, "open_video", lambda *args: passes.append(args) or open_file(*args))
    plain = read(path, (3, 1, 2), frame_stride=4)
    num_passes = len(passes)
    clip = read(path, (3, 1, 2), frame_stride=4, with_motion=True)
    assert len(passes) == 2 * num_passes
    chosen = sampling.sample_frames(range(60), 3, 1, 2, 4)
    assert plain.indices == clip.indices == chosen and plain.count == clip.count == 60
    assert plain.others == {} and sorted(clip.others) == [i + 1 for i in chosen]
    assert_same_frames(clip, plain.frames)
    everything = media.decode_all(path)
    assert sorted(clip.pictures) == sorted({*chosen, *clip.others})
    for index, picture in clip.pictures.items():
        np.testing.assert_array_equal(picture, everything[index])


@pytest.mark.parametrize(("count", "others"), [(1, []), (2, []), (5, [3])])
def test_last_frame_needs_the_one_before_it(tmp_path, count, others):
    path = media.encode_video(tmp_path / "v.mp4", media.numbered_frames(count), options=LOSSLESS)
    clip = read(path, (1, 1, 2), frame_stride=4, with_motion=True)
    assert clip.indices == [0, count - 1] and clip.count == count
    assert sorted(clip.others) == ([1, *others] if others else [])


def test_damaged_frames_are_replaced_by_those_that_decode(tmp_path):
    path = media.encode_video(tmp_path / "v.mov", media.numbered_frames(60), codec="png", pix_fmt="rgb24")
    packets = [packet for packet in av.open(str(path)).demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for packet in packets[20:40]:  # pictures without their header do not decode
        content[packet.pos : packet.pos + packet.size] = content[packet.pos : packet.pos + packet.size].replace(
            b"\x89PNG", b"\0\0\0\0"
        )
    path.write_bytes(content)
    survivors = [*range(20), *range(40, 60)]
    times = [n * 40 for n in survivors]
    shown = [media.number_of(frame) for frame in read(path, (4, 1, 1)).frames]
    assert shown == [survivors[i] for i in sampling.sample_frames(times, 4, 1, 1)]


def test_frame_that_only_motion_needs_may_be_damaged_too(tmp_path):
    path = media.encode_video(tmp_path / "v.mov", media.numbered_frames(20), codec="png", pix_fmt="rgb24")
    (chosen,) = read(path, (1, 1, 1)).indices
    packets = [packet for packet in av.open(str(path)).demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    start = packets[chosen + 1].pos
    content[start : start + 8] = bytes(8)
    path.write_bytes(content)
    clip = read(path, (1, 1, 1), with_motion=True)
    assert clip.count == 19
    numbers = [n for n in range(20) if n != chosen + 1]
    assert {i: media.number_of(picture) for i, picture in clip.pictures.items()} == {
        i: numbers[i] for i in (clip.indices[0], clip.indices[0] + 1)
    }


def test_truncated_video_keeps_what_is_left(tmp_path):
    path = media.encode_video(tmp_path / "v.avi", media.numbered_frames(120), options=B_FRAMES)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    shown = [media.number_of(frame) for frame in read(path, (4, 1, 1)).frames]
    assert shown == sorted(shown) and 50 < shown[-1] < 90 and shown[0] < 20


def _truncated_mp4(path):
    media.encode_video(path, media.numbered_frames(30))
    path.write_bytes(path.read_bytes()[:-400])


def _undecodable(path):
    media.encode_video(path, media.numbered_frames(5), codec="png", pix_fmt="rgb24")
    path.write_bytes(path.read_bytes().replace(b"\x89PNG", b"\0\0\0\0"))


@pytest.mark.parametrize(
    ("name", "write", "reason"),
    [
        ("text.avi", lambda path: path.write_text("no video at all\n" * 100), "it is no video file"),
        ("empty.avi", lambda path: path.write_bytes(b""), "it is empty"),
        ("sound.mp4", media.encode_sound, "it has no video stream"),
        ("cut.mp4", _truncated_mp4, "a part of it is missing"),
        ("noise.mkv", lambda path: path.write_bytes(os.urandom(10000)), "it is no video file"),
        ("blind.mov", _undecodable, "no frame of it can be decoded"),
        ("absent.mp4", lambda path: None, "no such file"),
        ("folder.mp4", lambda path: path.mkdir(), "directory"),
    ],
)
def test_unusable_file_is_named_with_the_reason(tmp_path, name, write, reason):
    write(tmp_path / name)
    with pytest.raises(video.VideoError, match=reason) as caught:
        read(tmp_path / name)
    assert name in str(caught.value) and str(caught.value).count("\n") == 0


@pytest.mark.slow
def test_memory_does_not_grow_with_the_clip(tmp_path):
    peaks = []
    for count in (50, 1000):
        frames = np.broadcast_to(media.numbered_frames(1, (120, 160)), (count, 120, 160, 3))
        path = media.encode_video(tmp_path / f"{count}.mp4", frames, options=LOSSLESS)
        program = (
            "import sys; from stat_tf.data import video;"
            "video.read_clip(sys.argv[1], num_segments=8, num_snippets=1, num_frames=1, size=(24, 32));"
            "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')).split()[1])"
        )
        run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, check=True, text=True)
        peaks.append(int(run.stdout))
    assert peaks[1] - peaks[0] < 15_000  # KiB; the longer clip's frames are 57 MB
