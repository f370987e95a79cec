"""The exception that users see as one line, and the line for errors of the operating system."""

import errno
import os
import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

__all__ = [
    "NfbenchError",
    "faults_of",
    "is_of_memory",
    "memory_faults",
    "one_line",
    "required",
    "system_error",
    "valid_utf8",
]

T = TypeVar("T")

_WHAT_TO_DO = {
    errno.ENOSPC: "free some space and run again",
    errno.EDQUOT: "free some space or raise the quota, and run again",
    errno.EROFS: "take a folder that can be written to ('results_root' and 'data_root' of config.yaml)",
    errno.EACCES: "change its permissions, or take another folder",
    errno.EPERM: "change its permissions, or take another folder",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.EEXIST: "a file is where a folder has to be; move it, or take another path",
    errno.ENOTDIR: "a file is where a folder has to be; move it, or take another path",
    errno.EISDIR: "a folder is where a file has to be; move it, or take another path",
    errno.EMFILE: "raise the limit of open files ('ulimit -n')",
    errno.ESTALE: "the shared disk has lost it; run again",
}

_NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|ALLOC_FAILED", re.IGNORECASE)
"""What CUDA, cuBLAS and torch's allocator for CPUs say in a plain ``RuntimeError``."""


class NfbenchError(Exception):
    """An error that a user can fix: names the file, key or cell, what is wrong, and what to do.

    The command line prints it as one line and exits with status 1; the trace goes to the log.
    """

    def __init__(self, message: str) -> None:
        super().__init__(valid_utf8(message))


def required(value: T | None, what: str) -> T:
    """A value that an earlier check has ensured, for the type checker.

    Raises:
        ValueError: it is None; the message names ``what``.
    """
    if value is None:
        raise ValueError(f"{what} is missing")
    return value


def valid_utf8(text: str) -> str:
    """The text in valid UTF-8: other bytes of file names become escapes."""
    return text.encode(errors="backslashreplace").decode()


def system_error(error: OSError) -> NfbenchError:
    """The line for an error of the operating system: the path, what is wrong and, if known, what to do."""
    if error.errno is None:  # of a library that derives its own errors from OSError
        return NfbenchError(one_line(error))
    paths = [os.fsdecode(path) for path in (error.filename, error.filename2) if isinstance(path, str | bytes)]
    where = ", for ".join(paths) or "a file that the system does not name"
    hint = _WHAT_TO_DO.get(error.errno)
    return NfbenchError(f"{where}: {error.strerror or os.strerror(error.errno)}{f'; {hint}' if hint else ''}")


@contextmanager
def faults_of(plugin: str) -> Iterator[None]:
    """Turns an error in a plug-in into one line: the plug-in, the error, and the line of code that raised it.

    ``NfbenchError``, errors of the operating system and memory errors pass unchanged.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, NfbenchError | OSError) or is_of_memory(error):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = "" if isinstance(error, SyntaxError) else f" ({os.path.basename(last.filename)}, line {last.lineno})"
        raise NfbenchError(f"{plugin}: {type(error).__name__}: {one_line(error)}{place}") from error


@contextmanager
def memory_faults(what: str, hint: str) -> Iterator[None]:
    """Turns a memory error, of a GPU or the machine, into one line: what failed, the error, a hint."""
    try:
        yield
    except Exception as error:
        if not is_of_memory(error):
            raise
        said = one_line(error, 120).rstrip(".")
        raise NfbenchError(f"{what}: out of memory ({said}); {hint}") from error


def is_of_memory(error: Exception) -> bool:
    """Whether the memory of a GPU or of the machine ran out; does not import torch."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def one_line(error: object, limit: int = 300) -> str:
    """The text of an error as one printable line of at most ``limit`` characters; its type if it has no text."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(c if c.isprintable() else "?" for c in text)[:limit]
