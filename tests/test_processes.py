"""Commands that are stopped with the one that runs them, and the lock that outlives it."""

import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from stat_tf import errors, processes

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Runs the module `work` of the current directory under the lock, as stat_tf.reproduce runs stat_tf.train.
_OUTER = """
import sys
from stat_tf import processes
with processes.locked("out", "work") as lock, processes.Commands(lock) as commands:
    try:
        commands.run(["work"], "out/log", lambda seconds: None)
    except processes.Stopped as stopped:
        sys.exit(128 + stopped.signal)
"""
# Says its process id, then takes a while to end on SIGTERM.
_STUBBORN = """
import os, signal, time
def end(number, frame):
    time.sleep(0.5)
    print("ended", number, flush=True)
    os._exit(128 + number)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
print("pid", os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A directory from which `python -m work` runs what `work(code)` wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    return tmp_path


def work(here, code):
    (here / "work.py").write_text(textwrap.dedent(code))


def run(*arguments, watch=lambda seconds: None):
    with processes.locked("out", "work") as lock, processes.Commands(lock) as commands:
        commands.run(["work", *arguments], "out/log", watch)


def outer_and_inner(here):
    """Starts both processes; returns the outer one and the inner one's id once it is at work."""
    work(here, _STUBBORN)
    outer = subprocess.Popen([sys.executable, "-c", _OUTER])
    deadline = time.monotonic() + 30
    while True:
        assert time.monotonic() < deadline and outer.poll() is None
        log = (here / "out" / "log").read_text() if (here / "out" / "log").exists() else ""
        if "pid" in log and log.endswith("\n"):
            return outer, int(log.split()[-1])
        time.sleep(0.02)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def test_log_holds_the_commands_and_what_they_print(here):
    work(here, "import sys; print('to stdout', *sys.argv[1:]); print('to stderr', file=sys.stderr)")
    run("--a=1 2")
    run("--a=3")
    log = (here / "out" / "log").read_text()
    assert log.count("$ python -m work '--a=1 2'\n") == log.count("$ python -m work --a=3\n") == 1
    assert "to stdout --a=1 2\n" in log and log.count("to stderr\n") == 2


def test_failure_is_told_in_the_commands_own_words(here):
    work(here, "print('error: of the first time')")
    run()
    work(here, "import sys; print('a warning'); print('error: The shard is damaged.'); print('bye'); sys.exit(3)")
    with pytest.raises(errors.UserError, match="work failed with exit code 3: The shard is damaged. Its log: out/log"):
        run()
    work(here, "raise ValueError('no sentence')")
    with pytest.raises(errors.UserError, match="exit code 1: ValueError: no sentence"):
        run()
    work(here, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(errors.UserError, match="was killed by SIGKILL: It said nothing."):
        run()


def test_command_in_view_prints_here_and_says_itself_why_it_failed(here, capfd):
    work(
        here, "import sys; print('a table'); print('error: No such run.', file=sys.stderr); sys.exit(int(sys.argv[1]))"
    )
    with processes.locked("out", "work") as lock, processes.Commands(lock) as commands:
        commands.run_in_view(["work", "0"])
        assert capfd.readouterr() == ("a table\n", "error: No such run.\n")
        with pytest.raises(errors.UserError, match="work failed with exit code 3; what it said stands above"):
            commands.run_in_view(["work", "3"])


def test_lock_is_seen_without_being_taken(here):
    assert not processes.is_locked("out")
    with processes.locked("out", "work"):
        assert processes.is_locked("out")
    assert not processes.is_locked("out")


def test_lock_that_is_held_for_an_instant_is_waited_for(here):
    os.makedirs("out")
    with open("out/.lock", "w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        done = threading.Timer(0.05, looking.close)
        done.start()
        with processes.locked("out", "work"):
            done.join()


def test_it_is_watched_to_the_end(here):
    work(here, "import time; time.sleep(1.2)")
    seen = []
    run(watch=seen.append)
    assert len(seen) >= 2 and seen == sorted(seen) and seen[-1] >= 1.2


@pytest.mark.parametrize(
    ("number", "passed_on"),
    [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT), (signal.SIGHUP, signal.SIGTERM)],
)
def test_signal_is_passed_on_and_the_command_waited_for(here, number, passed_on):
    outer, inner = outer_and_inner(here)
    outer.send_signal(number)
    assert outer.wait(timeout=30) == 128 + number
    assert not alive(inner)
    assert (here / "out" / "log").read_text().endswith(f"ended {int(passed_on)}\n")


def test_command_that_ends_well_despite_a_signal_is_done_and_the_next_not_begun(here):
    work(
        here,
        """
        import os, signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getppid(), signal.SIGTERM)
        """,
    )
    with processes.locked("out", "work") as lock, processes.Commands(lock) as commands:
        commands.run(["work"], "out/log", lambda seconds: None)
        with pytest.raises(processes.Stopped):
            commands.run_in_view(["work"])


def test_ignored_signal_stays_ignored(here, monkeypatch):
    work(here, "import time; time.sleep(0.5)")
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with processes.locked("out", "work") as lock, processes.Commands(lock) as commands:
            os.kill(os.getpid(), signal.SIGHUP)
            commands.run(["work"], "out/log", lambda seconds: os.kill(os.getpid(), signal.SIGHUP))
            commands.check()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_command_left_alone_holds_the_lock(here):
    outer, inner = outer_and_inner(here)
    outer.kill()
    outer.wait(timeout=30)
    assert alive(inner)
    with pytest.raises(errors.UserError, match="is at work in out: wait for its end"), processes.locked("out", "work"):
        pass
    os.kill(inner, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while alive(inner):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with processes.locked("out", "work"):
        pass


def test_second_command_says_so_and_stops(here):
    message = "Another python -m work"
    with (
        processes.locked("out", "work"),
        pytest.raises(errors.UserError, match=message),
        processes.locked("out", "work"),
    ):
        pass


def test_signals_are_the_callers_again_afterwards(here):
    before = signal.getsignal(signal.SIGTERM)
    work(here, "")
    run()
    assert signal.getsignal(signal.SIGTERM) == before


def test_no_command_is_left_when_watching_it_fails(here):
    work(here, "import time; time.sleep(60)")

    def fail(seconds):
        raise OSError("disk full")

    start = time.monotonic()
    with pytest.raises(OSError, match="disk full"):
        run(watch=fail)
    assert time.monotonic() - start < 30
    with processes.locked("out", "work"):  # nobody holds it
        pass
