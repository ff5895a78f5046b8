"""`python -m pipeline.build_dataset` as users start it, in processes of its own."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import tensorflow as tf

from pipeline import beam_options, clips_to_records
from stat_tf import errors
from stat_tf.data import degrade, flow, info, record, sizes, video
from tests import builds, media, processes


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for number in range(24):
        frames = rng.integers(0, 256, (10 + number, 48, 64, 3), np.uint8)
        split, label = ("test", "train")[number % 3 > 0], ("jump", "run")[number % 2]
        media.encode_video(root / split / label / f"{number}.mp4", frames)
    (root / "train" / "run" / "broken.avi").write_text("no video")
    return root


@pytest.fixture(scope="module")
def undisturbed(videos, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "data"
    code, out, err = builds.run("--layout=folders", f"--videos={videos}", f"--output={output}", *builds.FRAMES)
    assert code == 0, err
    assert err == ""
    assert "train: 16 clips in 4 files" in out and "rejected: 1 clips" in out
    assert f"python -m stat_tf.train --stage=teacher --data_dir={output}" in out
    return builds.contents(output)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["tvl1", "dis"])
def test_flow_and_several_sizes_are_the_same_bytes_whatever_the_workers(tmp_path, method):
    frames, _ = media.moving_pattern(14, (1.5, -0.5), size=(24, 32))
    for number in range(6):
        split, label = ("test", "train")[number % 3 > 0], ("jump", "run")[number % 2]
        media.encode_video(tmp_path / "v" / split / label / f"{number}.mp4", frames[number:])
    for name, mode, workers in (("one", "in_memory", 1), ("three", "multi_processing", 3)):
        code, out, err = builds.run(
            *("--layout=folders", f"--videos={tmp_path / 'v'}", f"--output={tmp_path / name}", *builds.FRAMES),
            *("--lr_size=6x8", "--num_frames=2", "--streams=rgb,flow", f"--flow_method={method}"),
            *(f"--direct_running_mode={mode}", f"--direct_num_workers={workers}"),
        )
        assert (code, err) == (0, "") and f"optical flow ({method}, up to 20 HR pixels)" in out
    assert builds.contents(tmp_path / "one") == builds.contents(tmp_path / "three")
    assert info.load(str(tmp_path / "one")).lr_sizes == ((12, 16), (6, 8))


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "workers"), [("multi_processing", 2), ("multi_threading", 3)])
def test_shards_are_the_same_bytes_whatever_the_workers(videos, undisturbed, tmp_path, mode, workers):
    output = tmp_path / "data"
    code, _, err = builds.run(
        *("--layout=folders", "--videos", videos, f"--output={output}", *builds.FRAMES),
        *("--direct_running_mode", mode, f"--direct_num_workers={workers}"),
    )
    assert (code, err) == (0, "")
    assert builds.contents(output) == undisturbed


@pytest.mark.slow
def test_killed_build_leaves_no_dataset_and_a_rerun_is_undisturbed(videos, undisturbed, tmp_path):
    output = tmp_path / "data"
    arguments = ["--layout=folders", f"--videos={videos}", f"--output={output}", *builds.FRAMES]
    process = builds.start(*arguments, "--direct_running_mode=multi_processing", "--direct_num_workers=2")
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("data.building-*/clips/*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    workers = processes.children_of(process.pid)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert workers and not output.exists() and list(tmp_path.glob("data.building-*"))
    deadline = time.monotonic() + 30
    while any(processes.is_running(worker) for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not any(processes.is_running(worker) for worker in workers), "workers outlive their launcher"
    assert process.stderr.read() == ""
    code, _, err = builds.run(*arguments)
    assert code == 0, err
    assert builds.contents(output) == undisturbed
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max_rejecte=0.1"], r"Unknown option --max_rejecte: .* Did you mean --max_rejected\?"),
        (["--direct_num_worker=2"], r"Did you mean --direct_num_workers\?"),
        (["--direct_num_workers=two"], "--direct_num_workers: invalid int value: 'two'"),
        (["-h"], "Unknown option -h"),
        (["--hr_size=96x96"], "different aspect ratios"),
        (["--lr_size=12x16", "--lr_size=6x8", "--lr_size=12x16"], "--lr_size=12x16 is given twice"),
        (["--lr_size=12x16", "--lr_size=6x16"], "--lr_size=6x16 have different aspect ratios"),
        (["--flow_method=tvl1"], "--flow_method has no meaning without optical flow: give --streams=rgb,flow too"),
        (["--flow_bound=20"], "--flow_bound has no meaning without optical flow"),
        (["--split=2"], "--split has no meaning for --layout=folders"),
        (["--annotations=x"], "--layout=folders takes no --annotations"),
        (["--layout=ucf101"], "--layout=ucf101 needs --annotations"),
        (["--videos=/absent"], "There is no directory /absent: check --videos"),
        (["surplus"], "Unknown option surplus"),
    ],
)
def test_mistakes_are_one_sentence_without_a_traceback(videos, tmp_path, arguments, message):
    code, out, err = builds.run("--layout=folders", f"--videos={videos}", f"--output={tmp_path / 'd'}", *arguments)
    assert code == 1 and out == "" and not list(tmp_path.iterdir())
    assert err.startswith("error: ") and err.count("\n") == 1
    assert re.search(message, err), err


@pytest.mark.slow
def test_every_flag_reaches_the_dataset(tmp_path):
    for shift, name in enumerate(("run/v_run_g01_c01.avi", "run/v_run_g02_c01.avi")):
        media.encode_video(tmp_path / "v" / name, media.numbered_frames(60 + shift)[shift:])
    (tmp_path / "v" / "jump").mkdir()
    # A copy: the encoder does not give the same bytes each time.
    shutil.copy(tmp_path / "v" / "run/v_run_g01_c01.avi", tmp_path / "v" / "jump/v_jump_g01_c01.avi")
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 jump\n2 run\n")
    (lists / "trainlist02.txt").write_text("".join(f"run/v_run_g0{n}_c01.avi\n" for n in (1, 2)))
    (lists / "testlist02.txt").write_text("jump/v_jump_g01_c01.avi\nrun/absent.avi\n")
    output = tmp_path / "it's data"
    output.mkdir()
    (output / "dataset.json").write_text("the old one")
    code, out, err = builds.run(
        *("--layout=ucf101", f"--videos={tmp_path / 'v'}", f"--annotations={lists}", "--split=2"),
        *(f"--output={output}", "--overwrite", "--hr_size=36x48", "--lr_size=6x8", "--lr_size=9x12"),
        *("--num_segments=3", "--num_snippets=4", "--num_frames=2", "--frame_stride=5"),
        *("--lens_blur=0.75", "--noise=3.5", "--jpeg_quality=37", "--num_shards=2"),
        *("--max_rejected=0.25", "--duplicates=warn", "--streams=rgb,flow", "--flow_method=dis", "--flow_bound=8"),
    )
    assert (code, err) == (0, "")
    assert f"--data_dir={shlex.quote(str(output))} " in out
    description = info.load(str(output))
    assert (description.hr_size, description.lr_sizes) == ((36, 48), ((6, 8), (9, 12)))
    assert (description.num_segments, description.num_snippets) == (3, 4)
    assert (description.num_frames, description.frame_stride) == (2, 5)
    assert (description.lens_blur, description.noise) == (0.75, 3.5)
    assert {split: len(shards) for split, shards in description.shards.items()} == {"train": 2, "test": 2}
    assert description.flow == info.FlowInfo("dis", 8.0)
    assert "HR frames of 36x48, LR frames of 6x8, 9x12" in out and "optical flow (dis, up to 8 HR pixels)" in out
    assert any("Files of the same content" in warning for warning in description.warnings)
    (serialized,) = tf.data.TFRecordDataset([str(output / shard.name) for shard in description.shards["test"]])
    clip = record.parse(serialized, {"hr": "", "lr": "LR/", "larger": "LR/9x12/", "flow": "FORWARD_FLOW/"})
    assert np.diff(clip["timestamps"].numpy().reshape(3, 4, 2)).tolist() == [[[200000]] * 4] * 3
    source = video.read_clip(
        str(tmp_path / "v" / "jump" / "v_jump_g01_c01.avi"),
        **{"num_segments": 3, "num_snippets": 4, "num_frames": 2, "frame_stride": 5, "size": (36, 48)},
        with_motion=True,
    )
    parameters = (cv2.IMWRITE_JPEG_QUALITY, 37, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
    encoded = cv2.imencode(".jpg", source.frames[0][..., ::-1], parameters)[1].tobytes()
    assert clip["hr"].numpy()[0] == encoded
    seed = clips_to_records.noise_seed(clip["id"].numpy().decode())
    for name, size in (("lr", (6, 8)), ("larger", (9, 12))):
        expected = degrade.degrade(source.frames, degrade.Degradation(size, 0.75, 3.5), seed)
        np.testing.assert_array_equal([tf.io.decode_png(frame) for frame in clip[name]], expected)
    fields = flow.snippet_flow(flow.FlowEstimator("dis"), source.pictures, source.indices, source.count)
    stored = np.stack([tf.io.decode_png(field).numpy() for field in clip["flow"]])
    np.testing.assert_array_equal(stored[..., :2], flow.quantize(fields, 8.0))


def test_help_needs_neither_tensorflow_nor_beam():
    program = (
        "import sys, pipeline.build_dataset as b; sys.exit('tensorflow' in sys.modules or 'apache_beam' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], cwd=builds.ROOT, env=os.environ).returncode == 0
    code, out, _ = builds.run("--help")
    assert "--lr_size" in out and "ucf101" in out


def test_flag_names_are_not_beams():
    from absl import flags

    import pipeline.build_dataset as command

    ours = {flag.name for flag in flags.FLAGS.flags_by_module_dict()[command.__name__]}
    assert len(ours) > 15
    for name in ours:
        with pytest.raises(errors.UserError, match="Unknown option"):
            beam_options.check([f"--{name}=1"], [])


def test_beams_options_are_accepted():
    beam_options.check(["--direct_num_workers=3", "--project", "p", "--save_main_session", "--region=r"], [])


@pytest.mark.parametrize("text", ["96", "96x", "x128", "0x5", "96x128x3", "96 x 128", "-1x5"])
def test_malformed_size_is_named(text):
    with pytest.raises(errors.UserError, match=f"--hr_size={text} is not a size"):
        sizes.parse(text, "hr_size")


def test_sizes_agree_in_aspect_within_two_percent():
    assert sizes.parse_hr_and_lr("112x149", ["12x16", "6x8"]) == ((112, 149), ((12, 16), (6, 8)))
    with pytest.raises(errors.UserError, match="aspect"):
        sizes.parse_hr_and_lr("112x145", ["12x16"])
    with pytest.raises(errors.UserError, match="larger"):
        sizes.parse_hr_and_lr("12x16", ["12x16", "24x32"])
    with pytest.raises(errors.UserError, match="given twice"):
        sizes.parse_hr_and_lr("96x128", ["12x16", "12x16"])
