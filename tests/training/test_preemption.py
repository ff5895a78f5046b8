"""What SIGTERM and Ctrl-C do while a run is asked for them."""

import os
import signal
import threading

import pytest

from stat_tf import errors
from stat_tf.training import preemption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_says_so_and_the_handlers_come_back(number, capfd):
    before = signal.getsignal(number)
    with preemption.stop_requests() as request:
        assert request.signal_number is None
        os.kill(os.getpid(), number)
        assert request.signal_number == number
    assert signal.getsignal(number) is before
    assert f"{number.name}: stopping after this step" in capfd.readouterr().err


def test_asking_twice_is_patient_with_sigterm_and_not_with_ctrl_c():
    with preemption.stop_requests() as request:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert request.signal_number == signal.SIGINT


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with preemption.stop_requests() as request:
            os.kill(os.getpid(), signal.SIGINT)
            assert request.signal_number is None
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_can_train_without_handlers():
    seen = []

    def train():
        with preemption.stop_requests() as request:
            seen.append(request.signal_number)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == [None]


def test_exit_codes_are_those_of_killed_processes():
    stopped = errors.StoppedBySignal(signal.SIGTERM, "kept in RUN.")
    assert (stopped.exit_code, str(stopped)) == (143, "Stopped by SIGTERM: kept in RUN.")
    assert errors.StoppedBySignal(signal.SIGINT, "").exit_code == 130
