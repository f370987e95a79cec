"""Folders that appear whole, by one rename; what is half-made lies in a hidden folder next to them."""

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
    """A hidden folder that takes the name ``folder`` when the block ends well, and is removed when it does not.

    Where ``folder`` is there by then, its files stay, and those that it lacks are moved in one by one. So several
    processes may make one folder at once, if they make the same files.

    Raises:
        NfbenchError: the folder cannot be made; names it.
    """
    staged = folder.parent / f".{folder.name}.{socket.gethostname()}.{os.getpid()}.{secrets.token_hex(4)}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(folder.parent)
        staged.mkdir()
    except OSError as error:
        raise NfbenchError(f"folder {folder} cannot be made: {error.strerror}") from None
    try:
        yield staged
        _publish(staged, folder)
    except OSError as error:
        reason = error.strerror or error
        raise full_disk(folder, error) or NfbenchError(f"folder {folder} cannot be made: {reason}") from error
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
