"""Folders that appear complete: they are filled under a hidden name and then renamed."""

import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.core.files import full_disk, remove_stale

__all__ = ["staged_folder"]


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Yields a hidden folder that is renamed to ``folder`` on success and removed on failure.

    If ``folder`` exists by then, its files stay, and missing files are moved into it one by one. So several processes
    can create the same folder at the same time if they write the same files.

    Raises:
        NfbenchError: the folder cannot be created; the message names it.
    """
    staged = folder.parent / f".{folder.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(folder.parent)
        staged.mkdir()
    except OSError as error:
        raise NfbenchError(f"folder {folder} cannot be created: {error.strerror}") from None
    try:
        yield staged
        _publish(staged, folder)
    except OSError as error:
        reason = error.strerror or error
        raise full_disk(folder, error) or NfbenchError(f"folder {folder} cannot be created: {reason}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _publish(staged: Path, folder: Path) -> None:
    try:
        os.rename(staged, folder)
    except OSError:
        if not folder.is_dir():
            raise
        for path in sorted(path for path in staged.rglob("*") if path.is_file()):
            target = folder / path.relative_to(staged)
            if not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
