"""Unpacking of untrusted archives: only regular files and folders below the target.

Refused are absolute names, names with ``..``, a drive or a control character, names that are too long or too deep,
links of any kind, devices, pipes, sparse files, duplicate names, encrypted files, headers of more than 64 KiB,
and archives that unpack to more bytes or files than stated. Bytes are counted as they are written,
since headers may lie. Owners, times and permissions are ignored.
"""

import re
import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, TypeVar

from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.files import full_disk, remove_tree
from nfbench.datasets._download import require_space

__all__ = ["BadArchive", "unpack"]

T = TypeVar("T")

_CHUNK = 1 << 20
_MOST_FILES, _FEWEST_FILES = 3_000_000, 10_000
_BYTES_OF_A_FILE = 256
_DEEPEST = 32
_LONGEST_PART, _LONGEST_NAME = 255, 1024
_LARGEST_HEADER = 1 << 16
_HEADERS = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)
"""Entries of a tar that describe the next entry, or all that follow; tarfile reads them into memory."""


class BadArchive(NfbenchError):
    """An archive is malicious, truncated, or not an archive."""


class _Member(NamedTuple):
    """One entry of an archive."""

    name: str
    kind: str
    """``file`` or ``folder``; any other kind by its name."""
    content: IO[bytes] | None


class _Entry(tarfile.TarInfo):
    """An entry of a tar with limits on the size of headers."""

    def _proc_member(self, opened: Any) -> tarfile.TarInfo:
        """Checks the headers of an entry before tarfile reads it."""
        if self.type in _HEADERS:
            if not 0 <= self.size <= _LARGEST_HEADER:
                raise BadArchive(f"{opened.name}: a header has {self.size:,} bytes; refused")
            opened.header_bytes = getattr(opened, "header_bytes", 0) + (
                self.size if self.type == tarfile.XGLTYPE else 0
            )
            if opened.header_bytes > _LARGEST_HEADER:
                raise BadArchive(f"{opened.name}: global headers have more than {_LARGEST_HEADER:,} bytes; refused")
        if self.type == tarfile.GNUTYPE_SPARSE:
            raise BadArchive(f"{opened.name}: '{self.name}' is a sparse file; refused")
        return super()._proc_member(opened)  # type: ignore[misc]  # missing in typeshed

    def _proc_gnusparse_10(self, entry: tarfile.TarInfo, headers: dict[str, str], opened: Any) -> None:
        """Refuses the entry: tarfile would read a map of any length."""
        raise BadArchive(f"{opened.name}: '{entry.name}' is a sparse file; refused")


def unpack(archive: Path, target: Path, limit: int) -> int:
    """Unpacks a tar (plain, gz, bz2, xz) or a zip.

    Args:
        archive: the archive.
        target: folder to create; it must not exist, and is removed on failure.
        limit: maximum total size of the files in bytes.

    Returns:
        Number of bytes written.

    Raises:
        BadArchive: the archive is malicious, truncated, or not an archive; the message names archive and entry.
        NfbenchError: the disk is full.
        OSError: the target cannot be written for another reason.
    """
    require_space(target.parent, archive.stat().st_size)
    target.mkdir(parents=True)
    try:
        return _write_members(archive, target, limit)
    except BaseException as error:
        with suppress(OSError):
            remove_tree(target)
        if full := full_disk(target.parent, error):
            raise full from error
        raise


def _write_members(archive: Path, target: Path, limit: int) -> int:
    written, count = 0, 0
    most = min(_MOST_FILES, max(_FEWEST_FILES, limit // _BYTES_OF_A_FILE))
    with closing(_members(archive)) as members:
        for member in _read(archive, lambda: next(members, None)):
            count += 1
            if count > most:
                raise BadArchive(f"{archive} has more than {most:,} entries; refused")
            _check(archive, member)
            file = _create(archive, member, target)
            if file is None or member.content is None:
                continue
            with file:
                for chunk in _read(archive, partial(member.content.read, _CHUNK)):
                    written += len(chunk)
                    if written > limit:
                        raise BadArchive(f"{archive} unpacks to more than the stated {limit:,} bytes; refused")
                    file.write(chunk)
    if not written:
        raise BadArchive(f"{archive} contains no file")
    return written


def _create(archive: Path, member: _Member, target: Path) -> IO[bytes] | None:
    """Opens the file of an entry for writing; for a folder, creates it and returns None."""
    path = target / member.name
    try:
        if member.kind == "folder":
            path.mkdir(parents=True, exist_ok=True)
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")
    except (FileExistsError, IsADirectoryError, NotADirectoryError):
        raise BadArchive(f"{archive}: '{member.name}' appears twice; refused") from None


def _read(archive: Path, step: Callable[[], T | None]) -> Iterator[T]:
    """Yields the results of ``step`` until None. For a damaged archive, Python's readers raise errors of any type."""
    while True:
        try:
            found = step()
        except NfbenchError:
            raise
        except Exception as error:
            raise BadArchive(f"{archive} is truncated or damaged: {one_line(error)}") from error
        if not found:
            return
        yield found


def _members(archive: Path) -> Generator[_Member, None, None]:
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(tarfile.open(archive, tarinfo=_Entry))
        except tarfile.ReadError:
            opened = None
        if opened:
            yield from _of_tar(opened)
        elif zipfile.is_zipfile(archive):
            yield from _of_zip(stack.enter_context(zipfile.ZipFile(archive)))
        else:
            raise BadArchive(f"{archive} is neither a tar nor a zip; it may be a web page with an error")


def _of_tar(opened: Any) -> Iterator[_Member]:
    for entry in opened:
        kind = "file" if entry.isreg() and not entry.issparse() else _kind_in_tar(entry)
        yield _Member(entry.name, kind, opened.extractfile(entry) if kind == "file" else None)
        opened.members = []  # otherwise the list would grow with the archive


def _kind_in_tar(entry: tarfile.TarInfo) -> str:
    if entry.isdir():
        return "folder"
    if entry.issym() or entry.islnk():
        return f"link to '{entry.linkname}'"
    if entry.issparse():
        return "sparse file"
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


def _check(archive: Path, member: _Member) -> None:
    """Refuses entries that are neither files nor folders, and invalid names."""
    name, shown = member.name, one_line(member.name, 100)
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if member.kind not in ("file", "folder"):
        raise BadArchive(f"{archive}: '{shown}' is a {one_line(member.kind, 100)}; refused")
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        raise BadArchive(f"{archive}: '{shown}' is an absolute path; refused")
    if ".." in parts:
        raise BadArchive(f"{archive}: '{shown}' leads out of the target folder; refused")
    if not name.isprintable():
        raise BadArchive(f"{archive}: {shown!r} is not a valid file name; refused")
    if len(parts) > _DEEPEST:
        raise BadArchive(f"{archive}: '{shown}' lies more than {_DEEPEST} folders deep; refused")
    lengths = [len(part.encode()) for part in (*parts, *name.split("/"))]
    if max(lengths, default=0) > _LONGEST_PART or len(name.encode()) > _LONGEST_NAME:
        raise BadArchive(f"{archive}: the name '{shown}' is too long; refused")
