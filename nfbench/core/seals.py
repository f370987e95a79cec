"""Records with hashes of themselves and of the files next to them, and readers that check both.

A stage writes its record last: the record lists the size and SHA-256 of the files that the stage wrote, and its seal is
a hash of all its values. A file that has changed since is an error that names it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError

from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_json, write_json
from nfbench.core.provenance import file_sha256
from nfbench.core.record import Record

__all__ = [
    "KnownFile",
    "files_in",
    "known_files",
    "read_sealed",
    "read_sealed_values",
    "resized",
    "seal_of",
    "verified",
    "write_sealed",
]

M = TypeVar("M", bound=BaseModel)
_SEAL = "seal"


class KnownFile(Record):
    """State of a file when its record was written."""

    size: int = Field(ge=0)
    sha256: str


def known_files(folder: str | Path, names: Iterable[str]) -> dict[str, KnownFile]:
    """Sizes and hashes of files in a folder, by name, for the key ``written`` of a record."""
    paths = {name: Path(folder, name) for name in names}
    return {name: KnownFile(size=path.stat().st_size, sha256=_sha256(path)) for name, path in paths.items()}


def seal_of(values: Mapping[str, Any]) -> str:
    """Hash of the values of a record, without its seal."""
    text = json.dumps({key: value for key, value in values.items() if key != _SEAL}, sort_keys=True)
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def write_sealed(path: str | Path, record: BaseModel | Mapping[str, Any]) -> None:
    """Writes a record as JSON with its seal, atomically."""
    values = dict(record) if isinstance(record, Mapping) else record.model_dump(mode="json")
    write_json(path, {**values, _SEAL: seal_of(values)})


def read_sealed(model: type[M], path: str | Path) -> M:
    """Reads a record that ``write_sealed`` wrote.

    Raises:
        NfbenchError: the file is missing, is not JSON, has another form, or has changed; names file and key.
    """
    values = read_json(path)
    own = {key: value for key, value in values.items() if key != _SEAL} if isinstance(values, dict) else values
    try:
        record = model.model_validate(own)
    except ValidationError as error:
        first = error.errors()[0]
        raise NfbenchError(f"{path}: '{'.'.join(map(str, first['loc']))}': {first['msg']}") from None
    _check_seal(path, values)
    return record


def read_sealed_values(path: str | Path) -> dict[str, Any]:
    """Reads the values of a record that ``write_sealed`` wrote, in any form, without the seal.

    Raises:
        NfbenchError: the file is missing, is no JSON mapping, or has changed.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise NfbenchError(f"{path} is no record: expected a JSON mapping; remove it and run again")
    _check_seal(path, values)
    return {key: value for key, value in values.items() if key != _SEAL}


def files_in(values: Mapping[str, Any]) -> dict[str, KnownFile]:
    """The files that the values of a record list, by name.

    Raises:
        ValueError: the list has another form.
    """
    return {name: KnownFile.model_validate(found) for name, found in values.get("written", {}).items()}


def verified(path: str | Path, record: str | Path) -> Path:
    """The path of a file, after checking its content against its record.

    Args:
        path: the file.
        record: record of the stage that wrote it.

    Raises:
        NfbenchError: the file is missing or has changed, or its record cannot be used.
    """
    path, record = Path(path), Path(record)
    if not path.is_file():
        raise NfbenchError(f"{path} is missing; 'snakemake --cores all {path}' makes it again")
    known = _written(record, *_state(record)) if record.is_file() else None
    if known is None or path.name not in known:
        raise NfbenchError(f"{path} is not known by {record}; remove both and run again")
    if known[path.name].sha256 != _sha256(path):
        raise NfbenchError(f"{path} has changed since it was written, or {record.name} has; remove both and run again")
    return path


def resized(folder: Path, written: Mapping[str, KnownFile]) -> Path | None:
    """The first existing file whose size differs from its record; does not read contents."""
    sizes = {folder / name: known.size for name, known in written.items()}
    return next((path for path, size in sizes.items() if path.is_file() and path.stat().st_size != size), None)


def _check_seal(path: str | Path, values: Mapping[str, Any]) -> None:
    if values.get(_SEAL) != seal_of(values):
        changed = "has changed since it was written" if _SEAL in values else "is of an older version"
        raise NfbenchError(f"{path} {changed}; remove it and run again")


def _state(path: Path) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ino


def _sha256(path: Path) -> str:
    return _hash_once(path, *_state(path))


@lru_cache(maxsize=4096)
def _hash_once(path: Path, *_state: int) -> str:
    """Hash of a file, computed once per process for each state of the file."""
    return file_sha256(path)


@lru_cache(maxsize=256)
def _written(record: Path, *_state: int) -> dict[str, KnownFile]:
    return files_in(read_sealed_values(record))
