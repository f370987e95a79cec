"""A limit of time for what others may draw out for ever, such as the answer of a server."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["deadline"]

_AGAIN = 1.0


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Ends a block that takes longer; what it waits for is interrupted.

    The error is raised once a second until the block ends, as code that tries again would go on otherwise. Signals
    reach the main thread only; in another thread, there is no limit.

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
