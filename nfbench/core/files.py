"""Write files atomically: a reader sees the old file or the new one, never a part."""

import csv
import errno
import io
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from nfbench.core.errors import NfbenchError, one_line

__all__ = [
    "atomic_path",
    "full_disk",
    "read_json",
    "read_model",
    "remove_stale",
    "remove_tree",
    "shield",
    "sync",
    "unshield",
    "write_csv",
    "write_json",
    "write_text",
]

M = TypeVar("M", bound=BaseModel)

_FORMULA = tuple("=+-@\t\r'")
"""What text begins with that spreadsheets read as a formula, and the apostrophe that keeps them from it."""
_STEM = 40
_DELETE = "delete it and run again"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path next to ``path``: renamed to it if the block succeeds, removed if it fails.

    The temporary name keeps the ending, on which NumPy and matplotlib depend. The content is flushed to the disk before
    the file is renamed, so that an existing file is complete even after a power failure.

    Raises:
        NfbenchError: the disk is full; nothing is left behind.
        OSError: it cannot be written for another reason; names ``path``.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = _temporary(path)
        yield temporary
        sync(temporary)
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if full := full_disk(path, error):
            raise full from error
        if temporary is None:
            error.filename2 = str(path)
        elif error.errno is not None and error.filename in (None, str(temporary)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """An empty file next to ``path`` that names this process; its name is no longer than file systems allow."""
    prefix = f".{path.stem[:_STEM]}.{socket.gethostname()}.{os.getpid()}."
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=prefix, suffix=path.suffix)
    except OSError as error:
        error.filename = str(path.parent)
        raise
    os.close(handle)
    return Path(name)


def sync(path: Path) -> None:
    """Flushes the content of a file to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_tree(folder: Path) -> None:
    """Removes a folder if it exists. Unlike ``shutil.rmtree``, it has no limit of depth."""
    waiting, folders = [folder] if folder.is_dir() and not folder.is_symlink() else [], []
    while waiting:
        folders.append(waiting.pop())
        with os.scandir(folders[-1]) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                else:
                    os.unlink(entry.path)
    for emptied in reversed(folders):
        emptied.rmdir()


def full_disk(path: Path, error: BaseException) -> NfbenchError | None:
    """The error to raise if a full disk at ``path`` caused ``error``; None for other causes."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NfbenchError(f"{path}: the disk is full; free some space and run again")
    return None


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_csv(path: str | Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes a CSV file atomically, floats with nine significant digits, text through ``shield``."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([f"{value:.9g}" if isinstance(value, float) else shield(value) for value in row] for row in rows)
    write_text(path, buffer.getvalue())


def shield(value: Any) -> Any:
    """A value for a CSV cell: text that a spreadsheet would read as a formula gets an apostrophe in front."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def unshield(text: str) -> str:
    """The inverse of ``shield``."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def write_json(path: str | Path, value: Any) -> None:
    """Writes indented JSON atomically. NaN is an error, because it is not valid JSON."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads JSON.

    Raises:
        NfbenchError: the file is missing or is not JSON; names the file.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise NfbenchError(f"{path} is missing") from None
    except (ValueError, RecursionError) as error:
        raise NfbenchError(f"{path} is not valid JSON: {one_line(error)}; {_DELETE}") from None


def read_model(model: type[M], path: str | Path) -> M:
    """Reads JSON into a pydantic model.

    Raises:
        NfbenchError: the file is missing, is not JSON or has another form; names file and key.
    """
    try:
        return model.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise NfbenchError(f"{path}: '{'.'.join(map(str, first['loc']))}': {first['msg']}; {_DELETE}") from None


def remove_stale(folder: str | Path) -> None:
    """Removes temporary files and folders that killed processes of this machine left in ``folder``."""
    import psutil

    of_process = re.compile(rf"\..*\.{re.escape(socket.gethostname())}\.([0-9]{{1,9}})\..*")
    for path in Path(folder).glob(".*"):
        named = of_process.fullmatch(path.name)
        if named and not psutil.pid_exists(int(named[1])):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
