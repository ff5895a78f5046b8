"""The decoding process: what it reads, against the same read without it; and what it must survive, done to it."""

import errno
import io
import os
import signal
import struct
import time

import numpy as np
import pytest

from pipeline import decoder, decoder_process
from stat_tf import errors
from stat_tf.data import cutting, part_reader, video
from tests import media, processes

WANTED = {"num_segments": 2, "num_snippets": 3, "num_frames": 1, "size": (24, 32)}


@pytest.fixture
def reader():
    made = decoder.Decoder(timeout=60)
    yield made
    made.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return media.encode_video(tmp_path_factory.mktemp("v") / "v.mp4", media.numbered_frames(60))


class Elsewhere(io.FileIO):
    """A file that only the worker can open; `on_read` is called with the number of each read."""

    def __init__(self, path, on_read):
        super().__init__(path)
        self._on_read, self._reads = on_read, 0

    def read(self, size=-1):
        self._reads += 1
        self._on_read(self._reads)
        return super().read(size)


@pytest.fixture
def elsewhere(monkeypatch, path):
    """Makes the path of the video in a store that calls `on_read`."""

    def make(on_read=lambda count: None):
        monkeypatch.setattr(decoder.FileSystems, "open", lambda *args, **kwargs: Elsewhere(path, on_read))
        return "store://b/v.mp4"

    return make


def test_clip_is_what_reading_it_here_gives(reader, path, elsewhere):
    expected = video.read_clip(str(path), **WANTED)
    for location in (str(path), elsewhere()):
        digest, clip = reader.read_clip("v.mp4", location, WANTED)
        np.testing.assert_array_equal(clip.frames, expected.frames)
        assert (clip.timestamps, clip.indices, clip.count) == (expected.timestamps, expected.indices, expected.count)
        assert len(digest) == 64


def test_parts_are_what_reading_them_here_gives(reader, path, elsewhere):
    wanted = WANTED | {"frame_stride": 1}
    expected_runs = cutting.cut_video(str(path), 0.4)
    for location in (str(path), elsewhere()):
        _, runs = reader.cut_video("v.mp4", location, 0.4)
        assert runs == expected_runs
        expected = dict(part_reader.PartReader(**wanted).read(str(path), runs[0]))
        parts = dict(reader.read_parts("v.mp4", location, runs[0], wanted))
        assert parts.keys() == expected.keys() and len(parts) == 6
        for part, clip in parts.items():
            np.testing.assert_array_equal(clip.frames, expected[part].frames)


def test_one_process_reads_all_and_ends_with_its_decoder(reader, path):
    reader.read_clip("v.mp4", str(path), WANTED)
    process = reader._process.pid
    reader.read_clip("absent.mp4", "/absent.mp4", WANTED)
    reader.read_clip("v.mp4", str(path), WANTED)
    assert reader._process.pid == process and processes.is_running(process)
    reader.close()
    assert not processes.is_running(process)


def test_video_on_which_the_process_crashes_each_time_is_given_up(reader, path, elsewhere):
    location = elsewhere(lambda count: os.kill(reader._process.pid, signal.SIGSEGV))
    digest, error = reader.read_clip("v.mp4", location, WANTED)
    assert digest == "" and error.reason == "the decoder crashes on it (SIGSEGV)"
    assert isinstance(reader.read_clip("v.mp4", str(path), WANTED)[1], video.VideoClip)


def test_process_that_is_killed_once_costs_nothing(reader, path, elsewhere):
    killed = []

    def kill_once(count):
        if not killed:
            killed.append(reader._process.pid)
            os.kill(reader._process.pid, signal.SIGKILL)

    _, clip = reader.read_clip("v.mp4", elsewhere(kill_once), WANTED)
    assert killed and isinstance(clip, video.VideoClip)


def test_parts_read_before_a_crash_are_kept(reader, path, elsewhere):
    _, (run,) = reader.cut_video("v.mp4", str(path), 0.4)
    found = {}
    for part, result in reader.read_parts("v.mp4", elsewhere(), run, WANTED | {"frame_stride": 1}):
        found[part] = result
        if len(found) == 2:  # some of what follows may be on its way already; what is tried again is not
            reader._process.send_signal(signal.SIGSTOP)
            reader._timeout = 0.2
    kept = [isinstance(found[part], video.VideoClip) for part in run.parts]
    assert len(found) == len(run.parts) and kept[:2] == [True, True]


def test_process_that_hangs_is_ended_after_the_timeout(reader, path, elsewhere):
    reader._timeout = 1
    location = elsewhere(lambda count: os.kill(reader._process.pid, signal.SIGSTOP))
    start = time.monotonic()
    _, error = reader.read_clip("v.mp4", location, WANTED)
    assert error.reason == "reading it takes longer than 1 s"
    assert 1 <= time.monotonic() - start < 30
    reader._timeout = 60
    assert isinstance(reader.read_clip("v.mp4", str(path), WANTED)[1], video.VideoClip)


def test_named_pipe_is_not_waited_for(reader, tmp_path):
    os.mkfifo(tmp_path / "v.mp4")
    assert reader.read_clip("v.mp4", str(tmp_path / "v.mp4"), WANTED)[1].reason == "it is no regular file"


def test_pictures_that_claim_gigabytes_get_no_more_than_two(reader, tmp_path):
    frames = media.numbered_frames(8)
    path = media.encode_video(tmp_path / "v.gif", frames, codec="gif", pix_fmt="rgb8")
    content = path.read_bytes()
    size = struct.pack("<HH", frames.shape[2], frames.shape[1])
    assert content.count(size) > 1
    path.write_bytes(content.replace(size, struct.pack("<HH", 16000, 16000)))  # a gigabyte a picture
    _, error = reader.read_clip("v.gif", str(path), WANTED)
    assert error.reason == "reading it takes too much memory"
    with open(f"/proc/{reader._process.pid}/status") as file:
        peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
    assert peak < 2.2 * (1 << 20)  # KiB


def test_consumer_that_stops_halfway_leaves_no_answers_behind(reader, path):
    _, (run,) = reader.cut_video("v.mp4", str(path), 0.4)
    next(iter(reader.read_parts("v.mp4", str(path), run, WANTED | {"frame_stride": 1})))
    assert isinstance(reader.read_clip("v.mp4", str(path), WANTED)[1], video.VideoClip)


class StoreError(Exception):
    """No OSError, as of Google's client."""


@pytest.mark.parametrize("error", [StoreError("404 no such object"), ConnectionError("reset by peer")])
@pytest.mark.parametrize("exists", [True, False, StoreError("no route")])
@pytest.mark.parametrize("when", ["open", "read"])
def test_remote_video_is_rejected_only_if_the_store_says_that_it_is_not_there(
    reader, path, elsewhere, monkeypatch, error, exists, when
):
    def fail(*arguments, **named):
        raise error

    def ask(location):
        if isinstance(exists, Exception):
            raise exists
        return exists

    location = elsewhere(fail)
    if when == "open":
        monkeypatch.setattr(decoder.FileSystems, "open", fail)
    monkeypatch.setattr(decoder.FileSystems, "exists", ask)
    if exists is False:
        assert reader.read_clip("v.mp4", location, WANTED)[1].reason == "it is missing or cannot be opened"
    else:
        why = error if exists is True else exists
        with pytest.raises(errors.UserError, match=rf"v.mp4 cannot be read, for a reason .* \({why}\): see"):
            reader.read_clip("v.mp4", location, WANTED)
    assert isinstance(reader.read_clip("v.mp4", str(path), WANTED)[1], video.VideoClip)


class Failing(decoder_process._LocalFile):
    """A file that cannot be read beyond its first bytes: what is open then is a directory."""

    def readinto(self, buffer):
        if self.tell():
            directory = os.open("/", os.O_RDONLY)
            os.dup2(directory, self.fileno())
            os.close(directory)
        return super().readinto(memoryview(buffer)[:512])


def answers(path):
    return list(decoder_process._answers(None, "read_clip", "v.mp4", str(path), (WANTED,)))


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE])
def test_disk_that_fails_is_told_from_a_video_that_is_missing(path, tmp_path, monkeypatch, number):
    def fail(*arguments):
        raise OSError(number, os.strerror(number))

    assert answers(tmp_path / "none.mp4") == [("rejected", "it is missing or cannot be opened")]
    monkeypatch.setattr(decoder_process.os, "stat", fail)
    assert answers(path) == [("unread", os.strerror(number).lower())]


def test_disk_that_fails_amid_a_video_is_told_from_damage(path, monkeypatch):
    assert [kind for kind, _ in answers(path)] == ["item", "item", "done"]
    monkeypatch.setattr(decoder_process, "_LocalFile", Failing)
    assert answers(path)[-1] == ("unread", "is a directory")
