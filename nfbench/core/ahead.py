"""Work that threads begin ahead of its turn, and that is finished in order."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

__all__ = ["in_order"]

T = TypeVar("T")
R = TypeVar("R")


def in_order(begin: Callable[[T], Callable[[], R]], items: Iterable[T], ahead: int) -> Iterator[R]:
    """Begins items ahead of their turn, and finishes each in its turn.

    Args:
        begin: begins the work on an item, such as by handing it to a pool, and returns what waits for its result.
        items: what to work on.
        ahead: how many items are begun before the one that is asked for has been finished, at least 0.

    Yields:
        The result of each item. What the work on an item raises is raised in that item's turn.
    """
    begun: deque[Callable[[], R]] = deque()
    for item in items:
        begun.append(begin(item))
        if len(begun) > ahead:
            yield begun.popleft()()
    while begun:
        yield begun.popleft()()
