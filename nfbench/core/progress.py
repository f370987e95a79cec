"""Progress of long tasks: a bar with the time left on a terminal, and lines in the log."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["progress"]

_log = logging.getLogger(__name__)
_SECONDS_BETWEEN_LINES = 15.0
_T = TypeVar("_T")


def progress(
    items: Iterable[_T], *, total: int, label: str, done: int = 0, details: Callable[[], str] = str
) -> Iterator[_T]:
    """Yields items and shows the progress.

    Args:
        items: items to yield.
        total: number of items, including those done before.
        label: name of the task.
        done: number of items done before, by a run that is resumed.
        details: called after each item; returns more to show, such as the log-likelihood.

    Yields:
        The items.
    """
    from tqdm import tqdm

    bar = tqdm(total=total, initial=done, desc=label, disable=not sys.stderr.isatty(), leave=False)
    started = last_line = time.monotonic()
    with bar:
        for count, item in enumerate(items, start=done + 1):
            yield item
            bar.set_postfix_str(details(), refresh=False)
            bar.update()
            now = time.monotonic()
            if now - last_line > _SECONDS_BETWEEN_LINES:
                left = (now - started) / (count - done) * (total - count)
                _log.info("%s: %d of %d, about %.0f s left %s", label, count, total, left, details())
                last_line = now
