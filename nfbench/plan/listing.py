"""Check whether the files of a category have changed since its manifest was written.

Names, sizes and times usually suffice. If only times differ, as after a copy, the contents of these files are compared
with their hashes, so that a category that was moved is not prepared again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError, valid_utf8
from nfbench.core.provenance import file_sha256
from nfbench.core.seals import KnownFile, read_sealed
from nfbench.plan.specs import PrepareSpec

__all__ = ["FileState", "ManifestRecord", "digest", "list_files", "token"]

Place = tuple[str, int, int]
"""Path, size in bytes, and modification time in nanoseconds."""


class FileState(Model):
    """State of a file when the manifest was written."""

    path: str
    size: int
    mtime_ns: int
    sha256: str


class ManifestRecord(Model):
    """Inputs and hash of a manifest: ``<category>.json`` next to ``<category>.csv``."""

    spec: PrepareSpec
    files: tuple[FileState, ...]
    written: dict[str, KnownFile] = {}


def list_files(paths: Sequence[Path]) -> list[Place]:
    """Returns the state of each file, in the order of ``paths``; omits files that disappear meanwhile."""
    found = []
    for path in paths:
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return found


def digest(places: Sequence[Place]) -> str:
    """Returns a short hash of the states of files; empty without files."""
    return hashlib.sha256(repr(sorted(places)).encode(errors="surrogateescape")).hexdigest()[:16] if places else ""


def token(record: Path, places: Sequence[Place]) -> str:
    """Returns ``PrepareSpec.files``: the value in ``record`` while the contents are unchanged, else a new digest.

    Args:
        record: record of the manifest; it may be missing.
        places: current state of the files.
    """
    try:
        known = read_sealed(ManifestRecord, record)
    except NfbenchError:
        return digest(places)
    return known.spec.files if _agrees({file.path: file for file in known.files}, places) else digest(places)


def _agrees(known: Mapping[str, FileState], places: Sequence[Place]) -> bool:
    if known.keys() != {valid_utf8(path) for path, _, _ in places}:
        return False
    states = [(path, size, mtime_ns, known[valid_utf8(path)]) for path, size, mtime_ns in places]
    if any(state.size != size for _, size, _, state in states):
        return False
    return all(file_sha256(path) == state.sha256 for path, _, mtime_ns, state in states if state.mtime_ns != mtime_ns)
