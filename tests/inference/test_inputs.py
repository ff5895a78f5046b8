"""Videos, arrays and image folders to the clip a model takes, against frames worked out in NumPy."""

import cv2
import numpy as np
import pytest

from stat_tf import errors, files
from stat_tf.data import flow
from stat_tf.inference import inputs, model_card
from tests import media

K, T, SIZE, HR = 2, 2, (12, 16), (48, 64)


def card(view="lr", noise=0.0, lens_blur=0.0, frame_size=SIZE, frame_stride=1, num_frames=T, streams=("rgb",)):
    """What inputs read of a loaded export."""
    network = model_card.Network("student", "resnet18", run_dir="", checkpoint="best", epoch=1)
    return model_card.ModelCard(
        networks=dict.fromkeys(streams, network), classes=("a", "b"), view=view, num_segments=K, num_frames=num_frames,
        frame_stride=frame_stride, frame_size=frame_size, hr_size=HR, lens_blur=lens_blur, noise=noise,
        flow_method="tvl1", flow_bound=20.0,
    )  # fmt: skip


def clip_from_video(path, card):
    """The centre snippet's RGB clip."""
    (clip,) = inputs.clips_from_video(str(path), card)["rgb"].numpy()
    return clip


def clip_from_frames(path, card):
    (clip,) = inputs.clips_from_frames(str(path), card)["rgb"].numpy()
    return clip


def gradients(count, size):
    """Smooth frames, which codecs keep; the third channel tells them apart."""
    height, width = size
    rows = np.linspace(20, 220, height)[:, None] * np.ones((1, width))
    columns = np.ones((height, 1)) * np.linspace(20, 220, width)[None]
    frames = [np.stack([rows, columns, np.full_like(rows, 15 + 20 * n)], -1) for n in range(count)]
    return np.stack(frames).round().astype(np.uint8)


def block_means(frames, size):
    height, width = size
    count, rows, columns, _ = frames.shape
    return frames.reshape(count, height, rows // height, width, columns // width, 3).mean(axis=(2, 4))


def frame_numbers(clip):
    return np.round((np.asarray(clip)[..., 2].astype(float).mean(axis=(2, 3)) - 15) / 20).astype(int).tolist()


def test_video_is_cropped_sampled_and_area_averaged(tmp_path):
    frames = gradients(10, HR)
    # Grey bars left and right, which the centre crop to 4:3 takes off.
    wide = np.pad(frames, [(0, 0), (0, 0), (16, 16), (0, 0)], constant_values=128)
    media.encode_video(tmp_path / "wide.mp4", wide)
    clip = clip_from_video(tmp_path / "wide.mp4", card())
    assert clip.shape == (K, T, *SIZE, 3) and clip.dtype == np.uint8
    chosen = frame_numbers(clip)
    assert all(first + 1 == second for first, second in chosen)
    assert chosen[0][0] in (1, 2) and chosen[1][0] in (6, 7)
    expected = block_means(frames[np.ravel(chosen)], SIZE).reshape(clip.shape)
    # Coding blurs colours, the more at the bars; a wrong crop would be off by dozens of grey levels.
    assert np.abs(clip - expected).mean() < 3


def test_teacher_gets_frames_of_its_own_size_undegraded(tmp_path):
    frames = gradients(10, (96, 128))
    media.encode_video(tmp_path / "a.mp4", frames)
    clip = clip_from_video(tmp_path / "a.mp4", card(view="hr", noise=50.0, lens_blur=2.0, frame_size=(24, 32)))
    expected = block_means(frames[np.ravel(frame_numbers(clip))], (24, 32)).reshape(clip.shape)
    assert np.abs(clip - expected).mean() < 3


def test_noise_is_the_cameras_and_repeats(tmp_path):
    media.encode_video(tmp_path / "a.mp4", gradients(10, HR))
    noisy, again = (clip_from_video(tmp_path / "a.mp4", card(noise=5.0)) for _ in range(2))
    clean = clip_from_video(tmp_path / "a.mp4", card())
    np.testing.assert_array_equal(noisy, again)
    assert 4 < np.std(noisy.astype(float) - clean) < 6


def test_clip_array_is_taken_as_it_is(tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (K, T, *SIZE, 3), np.uint8)
    np.save(tmp_path / "clip.npy", clip)
    np.testing.assert_array_equal(clip_from_frames(tmp_path / "clip.npy", card()), clip)


def test_frames_are_as_far_apart_as_the_model_was_trained_with(tmp_path):
    apart = card(frame_stride=3)
    np.save(tmp_path / "frames.npy", gradients(10, SIZE))
    media.encode_video(tmp_path / "a.mp4", gradients(10, HR))
    for clip in (
        clip_from_frames(tmp_path / "frames.npy", apart),
        clip_from_video(tmp_path / "a.mp4", apart),
    ):
        assert [second - first for first, second in frame_numbers(clip)] == [3, 3]


def test_remote_inputs_are_as_local_ones(tmp_path):
    media.encode_video(tmp_path / "a.mp4", gradients(10, HR))
    np.save(tmp_path / "frames.npy", gradients(10, SIZE))
    files.make_dirs("ram://inputs/folder")
    for number, frame in enumerate(gradients(10, SIZE)):
        cv2.imwrite(str(tmp_path / f"{number}.png"), frame[..., ::-1])
        files.write_bytes(f"ram://inputs/folder/{number}.png", (tmp_path / f"{number}.png").read_bytes())
    for name, read in (("a.mp4", clip_from_video), ("frames.npy", clip_from_frames)):
        files.write_bytes(f"ram://inputs/{name}", (tmp_path / name).read_bytes())
        np.testing.assert_array_equal(read(f"ram://inputs/{name}", card()), read(tmp_path / name, card()))
        with pytest.raises(errors.UserError, match=f"ram://inputs/no{name}"):
            read(f"ram://inputs/no{name}", card())
    frames = clip_from_frames(tmp_path / "frames.npy", card())
    np.testing.assert_array_equal(clip_from_frames("ram://inputs/folder", card()), frames)


@pytest.mark.parametrize("count", [10, 3])
def test_array_and_folder_of_frames_are_sampled_alike(tmp_path, count):
    frames = gradients(count, SIZE)
    np.save(tmp_path / "frames.npy", frames)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames, 1):  # frame_2 sorts before frame_10
        cv2.imwrite(str(tmp_path / "frames" / f"frame_{number}.png"), frame[..., ::-1])
    (tmp_path / "frames" / "notes.txt").write_text("not a frame")
    from_array = clip_from_frames(tmp_path / "frames.npy", card())
    from_folder = clip_from_frames(tmp_path / "frames", card())
    np.testing.assert_array_equal(from_array, from_folder)
    numbers = frame_numbers(from_array)
    if count == 10:
        assert all(first + 1 == second for first, second in numbers)
        assert numbers[0][0] in (1, 2) and numbers[1][0] in (6, 7)
    else:
        assert np.ravel(numbers).tolist() == sorted(np.ravel(numbers)) and set(np.ravel(numbers)) == {0, 1, 2}


def waves(count, size, shift):
    """Frames of a smooth pattern that moves by `shift` pixels a frame to the right."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    frames = [
        127 + 60 * np.sin(2 * np.pi * (columns - shift * n) / width) + 60 * np.cos(2 * np.pi * rows / height)
        for n in range(count)
    ]
    return np.stack(frames).round().astype(np.uint8)[..., None].repeat(3, -1)


def field(before, after):
    """The motion between two LR frames as levels: 20 HR pixels are 5 LR pixels either way."""
    motion = flow.FlowEstimator("tvl1")(before, after)
    return np.rint(255 * (motion.clip(-5, 5) + 5) / 10)


def test_frames_of_a_sequence_move_towards_the_next_one(tmp_path):
    frames = waves(9, SIZE, 1)
    np.save(tmp_path / "frames.npy", frames)
    two = card(streams=("rgb", "flow"))
    clips = inputs.clips_from_frames(str(tmp_path / "frames.npy"), two)
    assert clips["flow"].shape == (1, K, T, *SIZE, 2) and clips["flow"].dtype == "uint8"
    for rgb, levels in zip(clips["rgb"].numpy().reshape(-1, *SIZE, 3), clips["flow"].numpy().reshape(-1, *SIZE, 2)):
        (number,) = (n for n, frame in enumerate(frames) if (frame == rgb).all())
        np.testing.assert_array_equal(levels, field(frames[number], frames[number + 1]))
        # A pixel to the right is a tenth of 255 levels from the middle.
        assert abs(np.median(levels[..., 0]) - 153) < 8 and abs(np.median(levels[..., 1]) - 128) < 8

    alone = inputs.clips_from_frames(str(tmp_path / "frames.npy"), card(streams=("flow",)))
    assert list(alone) == ["flow"]
    np.testing.assert_array_equal(alone["flow"], clips["flow"])


def test_last_frame_of_a_segment_takes_the_motion_that_led_to_it(tmp_path):
    clip = np.stack([waves(3, SIZE, 1), waves(3, SIZE, -2)])
    np.save(tmp_path / "clip.npy", clip)
    levels = inputs.clips_from_frames(str(tmp_path / "clip.npy"), card(num_frames=3, streams=("flow",)))["flow"][0]
    for segment, fields in zip(clip, levels.numpy(), strict=True):
        for number, (before, after) in enumerate([(0, 1), (1, 2), (1, 2)]):
            np.testing.assert_array_equal(fields[number], field(segment[before], segment[after]))


@pytest.mark.parametrize(("num_frames", "frame_stride"), [(1, 1), (2, 3)])
def test_clip_array_without_successive_frames_has_no_flow(tmp_path, num_frames, frame_stride):
    np.save(tmp_path / "clip.npy", np.zeros((K, num_frames, *SIZE, 3), np.uint8))
    flow_card = card(num_frames=num_frames, frame_stride=frame_stride, streams=("rgb", "flow"))
    with pytest.raises(errors.UserError, match=r"clip\.npy has no two successive frames.*give \[N,12,16,3\] frames"):
        inputs.clips_from_frames(str(tmp_path / "clip.npy"), flow_card)


def test_flow_is_of_the_very_lr_frames_that_the_rgb_stream_sees(tmp_path):
    media.encode_video(tmp_path / "a.mp4", waves(10, HR, 4))
    clips = inputs.clips_from_video(str(tmp_path / "a.mp4"), card(noise=5.0, streams=("rgb", "flow")), num_snippets=3)
    for frames, fields in zip(
        clips["rgb"].numpy().reshape(-1, T, *SIZE, 3), clips["flow"].numpy().reshape(-1, T, *SIZE, 2)
    ):
        np.testing.assert_array_equal(fields[0], field(frames[0], frames[1]))


def test_snippets_are_spread_over_each_segment(tmp_path):
    frames = gradients(12, SIZE)
    np.save(tmp_path / "frames.npy", frames)
    media.encode_video(tmp_path / "a.mp4", gradients(12, HR))
    read = {"frames.npy": inputs.clips_from_frames, "a.mp4": inputs.clips_from_video}
    for name, clips_from in read.items():
        clips = clips_from(str(tmp_path / name), card(), 3)["rgb"].numpy()
        assert clips.shape == (3, K, T, *SIZE, 3)
        np.testing.assert_array_equal(clips[1], clips_from(str(tmp_path / name), card())["rgb"][0])
        # 2 frames around each third of a segment's 6.
        assert [frame_numbers(clip) for clip in clips] == [[[0, 1], [6, 7]], [[2, 3], [8, 9]], [[4, 5], [10, 11]]]
        # Two are the first and the last of three, as they are of a dataset with three.
        np.testing.assert_array_equal(clips_from(str(tmp_path / name), card(), 2)["rgb"], clips[::2])


def save(path, array):
    np.save(path, array)
    return path


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda d: d / "none.npy", "There is no file"),
        (lambda d: save(d / "a.npy", np.zeros((4, *SIZE, 3), np.float32)), "float32"),
        (lambda d: save(d / "a.npy", np.zeros((4, 24, 32, 3), np.uint8)), r"\[4,24,32,3\].*\[2,2,12,16,3\]"),
        (lambda d: save(d / "a.npy", np.zeros((0, *SIZE, 3), np.uint8)), r"\[0,12,16,3\]"),
        (lambda d: save(d / "a.npy", np.zeros((3, 2, *SIZE, 3), np.uint8)), r"\[3,2,12,16,3\]"),
        (lambda d: save(d / "a.npy", np.array([{"pickled": 1}])), "not a .npy array"),
        (lambda d: (d / "a.npy").write_text("text") and d / "a.npy", "not a .npy array"),
        (lambda d: (d / "a.npy").touch() or d / "a.npy", "not a .npy array"),
        (lambda d: (d / "folder").mkdir() or d / "folder", "has no images"),
    ],
)
def test_frames_that_cannot_be_used_are_named(tmp_path, make, sentence):
    path = make(tmp_path)
    with pytest.raises(errors.UserError, match=sentence) as caught:
        inputs.clips_from_frames(str(path), card())
    assert str(path) in str(caught.value)


def test_bad_and_odd_images_in_a_folder_are_named(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "2.png").write_text("not an image")
    with pytest.raises(errors.UserError, match=r"2\.png is not an image"):
        inputs.clips_from_frames(str(tmp_path), card())
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(errors.UserError, match=r"2\.png is 24x32, the images before it 12x16"):
        inputs.clips_from_frames(str(tmp_path), card())
