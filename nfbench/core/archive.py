"""Zip archives with a sealed manifest, which run no code and write nothing outside of their folder when they are read.

Files are stored without compression. ``manifest.json`` lists size and SHA-256 of all other files and has a seal like
records. A reader knows all names that may occur before it opens the file.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, ClassVar, TypeVar

from pydantic import ValidationError

import nfbench
from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.files import atomic_path
from nfbench.core.record import Record
from nfbench.core.seals import KnownFile, known_files, seal_of, write_sealed

__all__ = ["MANIFEST", "ArchiveRecord", "read_archive", "write_archive"]

MANIFEST = "manifest.json"
"""Name of the manifest."""

_LARGEST_MANIFEST = 1 << 26
_DAMAGED = (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, RecursionError)
"""Errors of zipfile and json for damaged or foreign files."""


class ArchiveRecord(Record):
    """The manifest of an archive.

    Attributes:
        format: version of the layout.
        nfbench: version of nfbench that wrote the archive.
        written: sizes and hashes of all other files.
    """

    kind: ClassVar[str]
    """What users call such a file."""
    current: ClassVar[int]
    """Version of the layout that this version of nfbench reads and writes."""

    format: int
    nfbench: str
    written: dict[str, KnownFile]


M = TypeVar("M", bound=ArchiveRecord)


def write_archive(model: type[M], path: Path, folder: Path, names: Iterable[str], **values: object) -> M:
    """Writes files of a folder to an archive, atomically; the same files give the same bytes.

    Args:
        model: type of the manifest.
        path: file to write.
        folder: where the files are; the manifest is written there too.
        names: files in ``folder``, in the order of the archive.
        values: further values of the manifest.
    """
    names = list(names)
    written = known_files(folder, names)
    record = model(format=model.current, nfbench=nfbench.__version__, written=written, **values)
    write_sealed(folder / MANIFEST, record)
    with atomic_path(path) as staged, zipfile.ZipFile(staged, "w") as archive:
        for name in (*names[:1], MANIFEST, *names[1:]):
            _add(archive, folder / name, name)
    return record


def read_archive(
    model: type[M], path: Path, folder: Path, allowed: Callable[[str], bool], required: Iterable[str]
) -> M:
    """Copies the files of an archive to a folder and verifies names, sizes and hashes by the manifest.

    Args:
        model: type of the manifest.
        path: the archive.
        folder: an empty folder to write to.
        allowed: whether a name may occur. It must refuse absolute names and names with ``..``.
        required: names that must occur.

    Raises:
        NfbenchError: the file is missing, damaged, of another kind or of another format; one line.
    """
    if not path.is_file():
        raise NfbenchError(f"{path} is missing")
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(model, path, archive, allowed)
            record = _manifest(model, path, archive)
            missing = set(required) - members.keys()
            if odd := sorted((members.keys() ^ record.written.keys()) | missing):
                raise NfbenchError(
                    f"{path}: the file {odd[0]!r} does not match the manifest; copy the {model.kind} again"
                )
            for name, known in record.written.items():
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as source:
                    found = _copy(source, target, known.size)
                if found != known.sha256 or members[name].file_size != known.size:
                    raise NfbenchError(f"{path}: {name} has changed since the {model.kind} was written; copy it again")
    except _DAMAGED as error:
        reason = one_line(error) or "cut"
        raise NfbenchError(f"{path} is damaged or not a {model.kind} ({reason}); copy it again") from error
    return record


def _add(archive: zipfile.ZipFile, path: Path, name: str) -> None:
    """Adds a file uncompressed, without its modification time."""
    info = zipfile.ZipInfo(name)
    info.external_attr, info.file_size = 0o644 << 16, path.stat().st_size
    with path.open("rb") as source, archive.open(info, "w") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _members(
    model: type[M], path: Path, archive: zipfile.ZipFile, allowed: Callable[[str], bool]
) -> dict[str, zipfile.ZipInfo]:
    """Returns all files except the manifest by name; checks that names are known, unique and uncompressed."""
    infos, size = archive.infolist(), path.stat().st_size
    for info in infos:
        if not 0 <= info.header_offset < size:
            raise zipfile.BadZipFile(f"{info.filename[:60]!r} lies outside of the file")
        if info.filename != MANIFEST and not allowed(info.filename):
            raise NfbenchError(f"{path} has an unexpected file {info.filename[:60]!r}")
        stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not stored or info.flag_bits & 1:
            raise NfbenchError(f"{path}: {info.filename} is compressed or encrypted, unlike in a {model.kind}")
    if len({info.filename for info in infos}) < len(infos) or sum(info.file_size for info in infos) > size:
        raise NfbenchError(f"{path} has a duplicate file, or files that are larger than the {model.kind}")
    return {info.filename: info for info in infos if info.filename != MANIFEST}


def _manifest(model: type[M], path: Path, archive: zipfile.ZipFile) -> M:
    if MANIFEST not in archive.namelist():
        raise NfbenchError(f"{path} is not a {model.kind}: it has no {MANIFEST}")
    with archive.open(MANIFEST) as file:
        values = json.loads(file.read(_LARGEST_MANIFEST))
    if not isinstance(values, dict) or values.pop("seal", None) != seal_of(values):
        raise NfbenchError(f"{path}: {MANIFEST} has changed since the {model.kind} was written; copy it again")
    if values.get("format") != model.current:
        raise NfbenchError(
            f"{path} has format {one_line(values.get('format'))}, but nfbench {nfbench.__version__} reads "
            f"{model.current}; write the {model.kind} again"
        )
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise NfbenchError(f"{path}: {MANIFEST}: '{'.'.join(map(str, first['loc']))}': {first['msg']}") from None


def _copy(source: IO[bytes], target: Path, size: int) -> str:
    """Copies at most ``size`` bytes and returns their SHA-256."""
    digest, left = hashlib.sha256(), size
    with target.open("xb") as file:
        while left and (part := source.read(min(left, 1 << 20))):
            digest.update(part)
            file.write(part)
            left -= len(part)
    return digest.hexdigest()
