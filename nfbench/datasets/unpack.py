"""Unpacking of archives from elsewhere: files and folders below the target, and nothing else.

Refused are absolute names, names with ``..``, a drive or a control character, links of any kind, devices, pipes, names
that come twice, encrypted files, and archives that unpack to more bytes or files than was stated. Bytes are counted as
they are written, whatever a header says. Owners, times and permissions are not taken over.
"""

import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from nfbench.core.errors import NfbenchError
from nfbench.core.files import full_disk
from nfbench.datasets.download import require_space

__all__ = ["BadArchive", "unpack"]

_CHUNK = 1 << 20
_MOST_FILES = 3_000_000
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, NotImplementedError)


class BadArchive(NfbenchError):
    """An archive that is hostile, cut short, or no archive."""


class _Member(NamedTuple):
    """One entry of an archive."""

    name: str
    kind: str
    """``file`` or ``folder``; whatever else it is, to say so."""
    content: IO[bytes] | None


def unpack(archive: Path, target: Path, limit: int) -> int:
    """Unpacks a tar (plain, gz, bz2, xz) or a zip.

    Args:
        archive: what to unpack.
        target: a folder that does not exist; it is removed again when anything goes wrong.
        limit: how many bytes the files may have together.

    Returns:
        Number of bytes written.

    Raises:
        BadArchive: it is hostile, cut short, or no archive; names archive and entry.
        NfbenchError: the disk is full.
    """
    require_space(target.parent, archive.stat().st_size)
    target.mkdir(parents=True)
    try:
        return _write_members(archive, target, limit)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if full := full_disk(target.parent, error):
            raise full from error
        if isinstance(error, _BROKEN):
            raise BadArchive(f"{archive} is cut short or damaged: {error or type(error).__name__}") from error
        raise


def _write_members(archive: Path, target: Path, limit: int) -> int:
    written = 0
    for count, member in enumerate(_members(archive), start=1):
        _check(archive, member, count)
        path = target / member.name
        try:
            if member.kind == "folder":
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("xb")
        except (FileExistsError, IsADirectoryError, NotADirectoryError):
            raise BadArchive(f"{archive}: '{member.name}' comes twice; refused") from None
        with file:
            while chunk := member.content.read(_CHUNK):
                written += len(chunk)
                if written > limit:
                    raise BadArchive(f"{archive} unpacks to more than the {limit:,} bytes that are stated; refused")
                file.write(chunk)
    if not written:
        raise BadArchive(f"{archive} has no file in it")
    return written


def _members(archive: Path) -> Iterator[_Member]:
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as opened:
            yield from _of_tar(opened)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            yield from _of_zip(opened)
    else:
        raise BadArchive(f"{archive} is neither a tar nor a zip; it may be a page that says why")


def _of_tar(opened: tarfile.TarFile) -> Iterator[_Member]:
    for entry in opened:
        kind = "file" if entry.isreg() else "folder" if entry.isdir() else _kind_in_tar(entry)
        yield _Member(entry.name, kind, opened.extractfile(entry) if kind == "file" else None)
        opened.members = []  # what was written is not needed again; the list would grow with the archive


def _kind_in_tar(entry: tarfile.TarInfo) -> str:
    if entry.issym() or entry.islnk():
        return f"link to '{entry.linkname}'"
    return "device or pipe" if entry.isdev() else "entry of an unknown kind"


def _of_zip(opened: zipfile.ZipFile) -> Iterator[_Member]:
    for entry in opened.infolist():
        mode = entry.external_attr >> 16
        if entry.flag_bits & 1:
            yield _Member(entry.orig_filename, "encrypted file", None)
        elif stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield _Member(entry.orig_filename, "link" if stat.S_ISLNK(mode) else "device or pipe", None)
        elif entry.is_dir():
            yield _Member(entry.orig_filename, "folder", None)
        else:
            with opened.open(entry) as content:
                yield _Member(entry.orig_filename, "file", content)


def _check(archive: Path, member: _Member, count: int) -> None:
    name = member.name
    if count > _MOST_FILES:
        raise BadArchive(f"{archive} has more than {_MOST_FILES:,} entries; refused")
    if member.kind not in ("file", "folder"):
        raise BadArchive(f"{archive}: '{name}' is a {member.kind}; refused")
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        raise BadArchive(f"{archive}: '{name}' is an absolute name; refused")
    if ".." in PurePosixPath(name.replace("\\", "/")).parts:
        raise BadArchive(f"{archive}: '{name}' leads out of the archive's folder; refused")
    if not name.isprintable():
        raise BadArchive(f"{archive}: {name!r} is no name for a file; refused")
