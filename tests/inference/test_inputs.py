"""Videos, arrays and image folders to the clip a model takes, against frames worked out in NumPy."""

import dataclasses
import types

import cv2
import numpy as np
import pytest

from stat_tf import errors
from stat_tf.inference import inputs, serving
from tests import media

K, T, SIZE, HR = 2, 2, (12, 16), (48, 64)


def model(view="lr", noise=0.0, lens_blur=0.0, frame_size=SIZE):
    """What inputs read of a loaded export."""
    card = serving.ModelCard(
        stage="student", view=view, backbone="resnet18", classes=("a", "b"), num_segments=K, num_frames=T,
        frame_stride=1, frame_size=frame_size, hr_size=HR, lens_blur=lens_blur, noise=noise, run_dir="",
        checkpoint="best", epoch=1,
    )  # fmt: skip
    return types.SimpleNamespace(card=card, clip_shape=(K, T, *frame_size, 3))


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
    clip = inputs.clip_from_video(str(tmp_path / "wide.mp4"), model()).numpy()
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
    clip = inputs.clip_from_video(
        str(tmp_path / "a.mp4"), model(view="hr", noise=50.0, lens_blur=2.0, frame_size=(24, 32))
    ).numpy()
    expected = block_means(frames[np.ravel(frame_numbers(clip))], (24, 32)).reshape(clip.shape)
    assert np.abs(clip - expected).mean() < 3


def test_noise_is_the_cameras_and_repeats(tmp_path):
    media.encode_video(tmp_path / "a.mp4", gradients(10, HR))
    noisy, again = (inputs.clip_from_video(str(tmp_path / "a.mp4"), model(noise=5.0)).numpy() for _ in range(2))
    clean = inputs.clip_from_video(str(tmp_path / "a.mp4"), model()).numpy()
    np.testing.assert_array_equal(noisy, again)
    assert 4 < np.std(noisy.astype(float) - clean) < 6


def test_clip_array_is_taken_as_it_is(tmp_path):
    clip = np.random.default_rng(0).integers(0, 256, (K, T, *SIZE, 3), np.uint8)
    np.save(tmp_path / "clip.npy", clip)
    np.testing.assert_array_equal(inputs.clip_from_frames(str(tmp_path / "clip.npy"), model()), clip)


def test_frames_are_as_far_apart_as_the_model_was_trained_with(tmp_path):
    apart = model()
    apart.card = dataclasses.replace(apart.card, frame_stride=3)
    np.save(tmp_path / "frames.npy", gradients(10, SIZE))
    media.encode_video(tmp_path / "a.mp4", gradients(10, HR))
    for clip in (
        inputs.clip_from_frames(str(tmp_path / "frames.npy"), apart),
        inputs.clip_from_video(str(tmp_path / "a.mp4"), apart),
    ):
        assert [second - first for first, second in frame_numbers(clip)] == [3, 3]


@pytest.mark.parametrize("count", [10, 3])
def test_array_and_folder_of_frames_are_sampled_alike(tmp_path, count):
    frames = gradients(count, SIZE)
    np.save(tmp_path / "frames.npy", frames)
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(frames, 1):  # frame_2 sorts before frame_10
        cv2.imwrite(str(tmp_path / "frames" / f"frame_{number}.png"), frame[..., ::-1])
    (tmp_path / "frames" / "notes.txt").write_text("not a frame")
    from_array = inputs.clip_from_frames(str(tmp_path / "frames.npy"), model())
    from_folder = inputs.clip_from_frames(str(tmp_path / "frames"), model())
    np.testing.assert_array_equal(from_array, from_folder)
    numbers = frame_numbers(from_array)
    if count == 10:
        assert all(first + 1 == second for first, second in numbers)
        assert numbers[0][0] in (1, 2) and numbers[1][0] in (6, 7)
    else:
        assert np.ravel(numbers).tolist() == sorted(np.ravel(numbers)) and set(np.ravel(numbers)) == {0, 1, 2}


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
        inputs.clip_from_frames(str(path), model())
    assert str(path) in str(caught.value)


def test_bad_and_odd_images_in_a_folder_are_named(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((*SIZE, 3), np.uint8))
    (tmp_path / "2.png").write_text("not an image")
    with pytest.raises(errors.UserError, match=r"2\.png is not an image"):
        inputs.clip_from_frames(str(tmp_path), model())
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((24, 32, 3), np.uint8))
    with pytest.raises(errors.UserError, match=r"2\.png is 24x32, the images before it 12x16"):
        inputs.clip_from_frames(str(tmp_path), model())
