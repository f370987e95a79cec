"""A time limit for code that may never end, such as waiting for a server."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["deadline"]

_AGAIN = 1.0


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Interrupts a block that takes longer than ``seconds``.

    The error is raised once a second until the block ends, because code that retries would otherwise continue. Signals
    reach the main thread only, so there is no limit in other threads.

    Raises:
        TimeoutError: the block took longer.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise TimeoutError(f"no end within {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3), _AGAIN)
    try:
        yield
    finally:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0)
        finally:  # also where the signal comes just now
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
