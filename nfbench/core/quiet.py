"""Keeps messages of libraries out of the log."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

__all__ = ["quieted"]


@contextmanager
def quieted(names: Iterable[str]) -> Iterator[None]:
    """Limits the loggers with these names to errors."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
