"""What must not harm a dataset: workers that die, a full disk, what nobody may read, being told to end."""

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile

import numpy as np
import pytest

from pipeline import shards
from stat_tf import errors
from tests import builds, media, processes

WORKERS = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")
NUM_SHARDS = 12  # many, so that there is time to disturb their writing


def arguments(videos, output):
    """The command's."""
    return (
        "--layout=folders",
        f"--videos={videos}",
        f"--output={output}",
        f"--num_shards={NUM_SHARDS}",
        *builds.FRAMES,
    )


def build_here(videos, output, **kwargs):
    """What the command does, on one worker in this process."""
    return builds.build_here(videos, output, num_shards=NUM_SHARDS, **kwargs)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    for number in range(24):
        frames = rng.integers(0, 256, (8, 48, 64, 3), np.uint8)
        split, label = ("test", "train")[number % 3 > 0], ("jump", "run")[number % 2]
        media.encode_video(root / split / label / f"{number}.mp4", frames)
    (root / "train" / "run" / "broken.avi").write_text("no video")
    return root


@pytest.fixture(scope="module")
def undisturbed(videos, tmp_path_factory):
    found = build_here(videos, tmp_path_factory.mktemp("undisturbed") / "data")
    (rejected,) = map(json.loads, found["rejected.jsonl"].splitlines())
    assert rejected["id"] == "train/run/broken.avi"
    return found


@contextlib.contextmanager
def disturbed(moment, videos, output):
    """Starts a build on two workers; yields it and them, by id, when it is as far as `moment`, a staging folder."""
    process = builds.start(*arguments(videos, output), *WORKERS, start_new_session=True)

    def reached(folder):
        return process.poll() is not None or any(output.parent.glob(f"{output.name}.building-*/{folder}/*"))

    def workers():
        return processes.children_of(process.pid, "pipeline.worker")

    try:
        processes.wait_until(lambda: process.poll() is not None or len(workers()) == 2, "no workers")
        found = workers()
        processes.wait_until(lambda: moment == "start" or reached("clips"), "no clips", 0.01)
        companions = [companion for worker in found for companion in processes.children_of(worker)]
        processes.wait_until(lambda: moment != "shards" or reached("shards"), "no shards", 0.001)
        yield process, found
        process.wait(processes.PATIENCE)
        processes.wait_until(lambda: not any(map(processes.is_running, found + companions)), "processes are left")
    finally:
        process.kill()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["start", "clips", "shards"])
def test_build_that_loses_a_worker_ends_with_a_sentence_and_can_be_repeated(videos, undisturbed, tmp_path, moment):
    output = tmp_path / "data"
    for which in (0, 1, 0, 1):
        with disturbed(moment, videos, output) as (process, workers):
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[which], signal.SIGKILL)
            out, err = process.communicate(timeout=processes.PATIENCE)
        if process.returncode:
            break
        shutil.rmtree(output)  # all was done when the worker was killed
    assert (process.returncode, out) == (1, "") and re.fullmatch("error: A worker process died .*\n", err), err
    assert not list(tmp_path.iterdir())
    assert build_here(videos, output) == undisturbed


@pytest.mark.slow
def test_interrupt_from_the_terminal_says_so_once_and_leaves_nothing(videos, tmp_path):
    with disturbed("clips", videos, tmp_path / "data") as (process, _):
        os.killpg(process.pid, signal.SIGINT)
        assert process.communicate(timeout=processes.PATIENCE) == ("", "Interrupted.\n")
    assert process.returncode == 130 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGTERM, errors.StoppedBySignal), (signal.SIGINT, KeyboardInterrupt)]
)
def test_signal_amid_the_shards_leaves_nothing(videos, undisturbed, tmp_path, monkeypatch, number, error):
    output, written, original = tmp_path / "data", [], shards._write_records

    def write_two(path, records):
        written.append(path)
        if len(written) == 3:
            os.kill(os.getpid(), number)
            processes.wait_until(lambda: not os.path.exists(written[0]), "the first goes on")
        return original(path, records)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "_write_records", write_two)
        before = signal.getsignal(number)
        with pytest.raises(error, match="what was begun is deleted" if number == signal.SIGTERM else None):
            build_here(videos, output)
        assert signal.getsignal(number) is before
    assert len(written) == 3 and not list(tmp_path.iterdir())
    assert build_here(videos, output) == undisturbed


@pytest.fixture
def disk(tmp_path):
    """A small file system of its own, and a function that sets its size in KiB."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(*options):
        return subprocess.run(["mount", *options, str(place)], capture_output=True, text=True)

    mounted = mount("-t", "tmpfs", "-o", "size=64k", "tmpfs")
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield place, lambda size: mount("-o", f"remount,size={size}k").check_returncode()
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("size", [(64, ""), (160, "clips"), (480, "shards")])
def test_full_disk_is_named_and_serves_when_it_has_room(videos, undisturbed, disk, size):
    place, resize = disk
    resize(size[0])
    expected = rf"{place}/data\.building-\w+/?{size[1]} cannot be written \(no space left on device\): make room"
    with pytest.raises(errors.UserError, match=expected):
        build_here(videos, place / "data")
    assert not list(place.iterdir())
    resize(8000)
    assert build_here(videos, place / "data") == undisturbed


@pytest.mark.slow
def test_full_disk_is_what_workers_say_too(videos, disk, capfd):
    place, resize = disk
    resize(480)
    with pytest.raises(errors.UserError, match=rf"^{place}/data\.\S+ cannot be written \(no space .*: make room[^[]*$"):
        build_here(videos, place / "data", beam=WORKERS)
    assert capfd.readouterr() == ("", "") and not list(place.iterdir())


def test_no_room_for_temporary_files_is_said(videos, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(errors.UserError, match="A temporary file cannot be made .* TMPDIR"):
        build_here(videos, tmp_path / "data")
    assert not list(tmp_path.iterdir())


def obey_permissions():
    """Before a program starts: takes from it what lets root read what nobody may."""
    drop_from_bounding_set, override, read_search = 24, 1, 2
    for capability in (override, read_search):
        ctypes.CDLL(None).prctl(drop_from_bounding_set, capability, 0, 0, 0)


@pytest.mark.slow
def test_what_nobody_may_read_is_told_of(videos, tmp_path):
    copy, output = tmp_path / "videos", tmp_path / "data"
    shutil.copytree(videos, copy)
    (copy / "test" / "run" / "3.mp4").chmod(0)
    code, out, err = builds.run(*arguments(copy, output), "--max_rejected=0.08", preexec_fn=obey_permissions)
    assert (code, err) == (0, "") and "rejected: 2 clips" in out
    lines = (output / "rejected.jsonl").read_text().splitlines()
    reasons = {one["id"]: one["reason"] for one in map(json.loads, lines)}
    assert len(reasons) == 2 and reasons["test/run/3.mp4"] == "it is missing or cannot be opened"
    shutil.rmtree(output)
    (copy / "test" / "run").chmod(0)
    code, out, err = builds.run(*arguments(copy, output), preexec_fn=obey_permissions)
    (copy / "test" / "run").chmod(0o700)
    assert (code, out) == (1, "") and not output.exists()
    assert err == f"error: The directory {copy}/test/run cannot be read (permission denied): check --videos.\n"
