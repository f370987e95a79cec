"""Start work in threads ahead of time, and finish it in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["in_order"]

T = TypeVar("T")
R = TypeVar("R")


def in_order(begin: Callable[[T], Callable[[], R]], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Starts the work on items ahead of time and yields the results in order.

    Args:
        begin: starts the work on an item, for example in a pool, and returns a function that waits for the result.
        items: items to work on.
        ahead: number of items to start before the current one has finished, at least 0.

    Yields:
        The result of each item. An error in the work on an item is raised when its result is due.
    """
    begun: deque[Callable[[], R]] = deque()
    for item in items:
        begun.append(begin(item))
        if len(begun) > ahead:
            yield begun.popleft()()
    while begun:
        yield begun.popleft()()
