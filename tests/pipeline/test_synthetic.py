"""The rendered data set: files, bytes, actors, resumption, and that its classes can be told apart."""

import hashlib
import os
import pathlib
import shlex
import subprocess
import sys

import av
import numpy as np
import pytest

from pipeline import actions, cores, rendering, scenes
from stat_tf import errors


def run_command(output, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "pipeline.synthetic", f"--output={output}", "--train_clips_per_class=1", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def digests(directory):
    files = sorted(pathlib.Path(directory).rglob("*.mp4"))
    return {str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    output = tmp_path_factory.mktemp("rendered") / "the videos"
    result = run_command(output, "--test_clips_per_class=1", "--unlabeled_clips=2", "--num_workers=2")
    assert result.returncode == 0, result.stderr
    return output, result


def test_command_writes_the_folders_layout_and_says_what_to_run_next(rendered):
    output, result = rendered
    names = set(digests(output))
    assert {name for name in names if name.startswith("test/")} == {
        f"test/{action}/{action}_actor20_clip00.mp4" for action in actions.ACTIONS
    }
    assert {name for name in names if name.startswith("unlabeled/")} == {
        "unlabeled/actor30_clip00.mp4",
        "unlabeled/actor31_clip00.mp4",
    }
    assert len(names) == 2 * len(actions.ACTIONS) + 2
    assert f"pipeline.build_dataset --layout=folders --videos={shlex.quote(str(output))} --output=" in result.stdout


def test_videos_decode_as_h264_with_the_frames_that_were_drawn(rendered):
    output, _ = rendered
    clip = rendering.ClipSpec("train", "kick", 0)
    with av.open(str(output / clip.path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 25)
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])
    drawn = rendering.render_clip(clip, seed=0)
    assert decoded.shape == drawn.shape == (len(drawn), *scenes.FRAME_SIZE, 3)
    assert 65 <= len(drawn) <= 85
    assert np.abs(decoded.astype(int) - drawn).mean() < 6


def test_two_processes_write_the_same_bytes_whatever_their_number_of_workers(rendered, tmp_path):
    output, _ = rendered
    again = run_command(tmp_path / "again", "--test_clips_per_class=1", "--unlabeled_clips=2", "--num_workers=1")
    assert again.returncode == 0, again.stderr
    assert digests(tmp_path / "again") == digests(output)


def test_encoder_gives_the_same_bytes_again_and_again_whatever_lies_in_memory(tmp_path):
    # These clips' bytes vary under x264's defaults, which read memory that is not set.
    rng = np.random.default_rng(0)
    for clip in (rendering.ClipSpec("test", "box", 0), rendering.ClipSpec("test", "jumping_jack", 0)):
        frames = rendering.render_clip(clip, seed=0)
        encodings = set()
        for _ in range(8):
            rng.bytes(int(rng.integers(1, 3_000_000)))
            rendering.write_video(str(tmp_path / "clip.mp4"), frames)
            encodings.add((tmp_path / "clip.mp4").read_bytes())
        assert len(encodings) == 1


def test_rerun_renders_only_what_is_missing_and_to_the_same_bytes(rendered):
    output, _ = rendered
    before = digests(output)
    removed, kept = (output / rendering.ClipSpec(split, "bow", 0).path for split in ("test", "train"))
    # As a killed run leaves it: not there under its own name, begun under another.
    removed.rename(f"{removed}.part")
    written = kept.stat().st_mtime_ns
    result = run_command(output, "--test_clips_per_class=1", "--unlabeled_clips=2")
    assert "1 rendered now, 17 were there" in result.stdout
    assert digests(output) == before
    assert kept.stat().st_mtime_ns == written
    assert not list(output.rglob("*.part"))


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (("--seed=1", "--test_clips_per_class=1", "--unlabeled_clips=2"), "clips rendered otherwise"),
        (("--test_clips_per_class=0", "--unlabeled_clips=2"), "which this rendering does not include"),
    ],
)
def test_directory_of_other_clips_is_refused_in_one_sentence(rendered, arguments, reason):
    output, _ = rendered
    before = digests(output)
    result = run_command(output, *arguments)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert str(output) in result.stderr and reason in result.stderr
    assert digests(output) == before


def test_failed_encoding_leaves_no_file(tmp_path):
    odd = np.zeros((3, 31, 40, 3), np.uint8)  # yuv420p takes even sizes only
    with pytest.raises(av.error.FFmpegError):
        rendering.write_video(str(tmp_path / "odd.mp4"), odd)
    assert list(tmp_path.iterdir()) == []


def test_splits_share_no_actor_and_file_names_name_them():
    clips = rendering.list_clips(45, 25, 30)
    by_split = {split: {c.actor for c in clips if c.split == split} for split in ("train", "test", "unlabeled")}
    assert by_split["train"].isdisjoint(by_split["test"] | by_split["unlabeled"])
    assert by_split["test"].isdisjoint(by_split["unlabeled"])
    assert all(f"actor{clip.actor:02d}_" in clip.path for clip in clips)
    assert len({clip.path for clip in clips}) == len(clips)


def test_more_clips_extend_the_list_and_leave_the_others_as_they_were():
    assert set(rendering.list_clips(2, 1, 3)) < set(rendering.list_clips(5, 2, 6))


def test_seed_class_and_index_each_change_the_clip():
    first = rendering.render_clip(rendering.ClipSpec("train", "wave", 0), seed=0)
    others = (
        rendering.render_clip(rendering.ClipSpec("train", "wave", 0), seed=1),
        rendering.render_clip(rendering.ClipSpec("train", "squat", 0), seed=0),
        rendering.render_clip(rendering.ClipSpec("train", "wave", 1), seed=0),
    )
    for other in others:
        assert other.shape != first.shape or np.any(other != first)


def test_background_does_not_depend_on_the_class(monkeypatch):
    seen = []
    monkeypatch.setattr(scenes, "render", lambda action, look, passer_by, background, rng: seen.append(background))
    for action in ("bow", "kick"):
        rendering.render_clip(rendering.ClipSpec("train", action, 5), seed=0)
    np.testing.assert_array_equal(*seen)


def test_action_fills_part_of_the_clip_and_people_idle_in_the_rest():
    weights = [scenes.random_timing(np.random.default_rng(seed)).weight() for seed in range(200)]
    shares = np.array([(weight > 0.5).mean() for weight in weights])
    assert shares.min() > 0.35 and shares.max() < 0.85
    idle_first, idle_last = (np.mean([weight[i] == 0 for weight in weights]) for i in (3, -4))
    assert min(idle_first, idle_last) > 0.5


def test_missing_output_is_said(tmp_path):
    del tmp_path
    result = subprocess.run([sys.executable, "-m", "pipeline.synthetic"], capture_output=True, text=True, timeout=60)
    assert result.returncode == 1 and "--output" in result.stderr


def test_output_that_cannot_be_written_is_one_sentence():
    result = run_command("/proc/absent/videos")
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith("error: /proc/absent/videos cannot be written (No such file or directory)")
    assert result.stderr.count("\n") == 1


def test_all_cores_are_used_where_the_system_does_not_tell_which(monkeypatch):
    assert cores.available() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 7)
    assert cores.available() == 7


def test_output_that_is_a_file_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(errors.UserError, match="is not a directory"):
        rendering.render_all(str(tmp_path / "file"), rendering.list_clips(1, 0, 0), seed=0, num_workers=1)
