"""Time limits interrupt waiting code and leave no timer behind."""

import signal
import threading
import time

import pytest

from nfbench.core.deadline import deadline


def test_what_takes_longer_is_interrupted_and_the_signal_is_given_back():
    before, started = signal.getsignal(signal.SIGALRM), time.monotonic()
    with pytest.raises(TimeoutError, match=r"no end within 0\.05 s"), deadline(0.05):
        time.sleep(30)
    assert time.monotonic() - started < 10
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_code_that_tries_again_is_interrupted_again(monkeypatch):
    monkeypatch.setattr("nfbench.core.deadline._AGAIN", 0.05)
    caught = 0
    with deadline(0.05):
        for _ in range(3):
            try:
                time.sleep(30)
            except TimeoutError:
                caught += 1
    assert caught == 3


def test_what_ends_in_time_is_left_alone():
    with deadline(60):
        found = 5
    assert found == 5
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_an_error_of_the_block_stays():
    with pytest.raises(KeyError), deadline(60):
        raise KeyError
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_another_thread_has_no_limit():
    done = []

    def run():
        with deadline(0.01):
            time.sleep(0.1)
        done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]
