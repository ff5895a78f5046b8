"""Signals that tell a job's command to end."""

import os
import signal
import threading

import apache_beam as beam
import pytest

from pipeline import beam_options, staging, stopping, worker
from stat_tf import errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_staging_directory_is_deleted_and_the_code_is_the_signals(tmp_path, number):
    before = signal.getsignal(number)
    with (
        pytest.raises(errors.StoppedBySignal, match=f"{number.name}: the job is cancelled, and what") as stopped,
        staging.directory(str(tmp_path / "data")) as place,
        staging.writing("s3://b/elsewhere"),
    ):
        assert os.path.isdir(place)
        os.kill(os.getpid(), number)
    assert stopped.value.exit_code == 128 + number
    assert not list(tmp_path.iterdir()) and signal.getsignal(number) == before


def test_signal_in_the_midst_of_a_step_is_not_taken_for_its_failure(tmp_path):
    """Beam makes a RuntimeError of whatever ends a step in this process."""
    with (
        pytest.raises(errors.StoppedBySignal, match="SIGTERM"),
        staging.directory(str(tmp_path / "data")),
        beam_options.running(beam_options.parse([], 1)) as pipeline,
    ):
        _ = pipeline | beam.Create([os.getpid()]) | beam.Map(os.kill, signal.SIGTERM)
    assert not list(tmp_path.iterdir())


def test_second_signal_does_not_end_the_undoing():
    undone = []
    with pytest.raises(errors.StoppedBySignal, match="SIGHUP: gone."), stopping.in_order("gone."):
        try:
            os.kill(os.getpid(), signal.SIGHUP)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)
            undone.append(True)
    assert undone


def test_workers_are_told_to_end_before_anything_waits_for_them(tmp_path, monkeypatch):
    running = tmp_path / "running"
    running.touch()
    monkeypatch.setenv(worker.RUNNING, str(running))
    seen = []
    with pytest.raises(errors.StoppedBySignal), stopping.in_order(""):
        try:
            os.kill(os.getpid(), signal.SIGINT)
        finally:
            seen.append(running.exists())
    assert seen == [False]


def test_signal_that_is_ignored_stays_so():
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stopping.in_order(""):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_other_threads_may_make_staging_directories(tmp_path):
    made = []

    def make():
        with staging.directory(str(tmp_path / "data")) as place:
            made.append(place)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert len(made) == 1
