"""Fetches a dataset by name: downloads or takes given archives, verifies, unpacks and moves into place.

The folder ``<data_root>/.nfbench`` next to the datasets holds archives and partial downloads (``downloads``), folders
that are being unpacked, a lock and a record per dataset, and ``checksums.json``: checksums of the first download of
archives for which none is published.
"""

import logging
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_json, remove_tree, write_json
from nfbench.core.provenance import file_hash, file_sha256
from nfbench.datasets._base import find_dataset
from nfbench.datasets._download import Policy, download
from nfbench.datasets._sources import Archive, Source, find_source, record_path
from nfbench.datasets._unpack import BadArchive, unpack

__all__ = ["fetch"]

_log = logging.getLogger(__name__)
_DEPTH = 3
_SHA256 = re.compile("[0-9a-f]{64}")


def fetch(
    name: str,
    data_root: Path,
    *,
    by_hand: Sequence[Path] = (),
    keep: bool = False,
    source: Source | None = None,
    policy: Policy | None = None,
) -> Path:
    """Puts a dataset below ``data_root`` unless it exists; concurrent processes fetch it only once.

    Args:
        name: reader of the dataset.
        data_root: folder with one folder per dataset.
        by_hand: archives that the user has downloaded; nothing is downloaded then.
        keep: keep downloaded archives after unpacking.
        source: source to fetch from; default: the registered one.
        policy: limits and waits of downloads.

    Returns:
        The dataset's folder.

    Raises:
        NfbenchError: the download requires a form or a login (the message says what to do), all mirrors fail, an
            archive is bad, or the disk is full.
    """
    import filelock

    source, folder = source or find_source(name), data_root / name
    record = record_path(name, data_root)
    record.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(record.with_suffix(".lock")):
        if folder.exists():
            _log.info("%s already exists; nothing to fetch", folder)
            if not record.exists():
                write_json(record, {"dataset": name, "archives": []})
            return folder
        if source.access == "manual" and not by_hand:
            raise NfbenchError(
                f"dataset '{name}' cannot be downloaded directly: {source.instructions}. Page: {source.homepage}. "
                f"Licence: {source.licence}. Then: nfbench data fetch {name} --archive FILE"
            )
        if by_hand:
            archives = _by_hand(name, source, by_hand)
            described = _unpack_all(name, archives, record.parent, folder)
        else:
            archives, described = _from_mirrors(name, source, record.parent, folder, policy)
        write_json(record, {"dataset": name, "archives": described})
        for _, path in () if by_hand or keep else archives:
            path.unlink()
    return folder


def _from_mirrors(
    name: str, source: Source, state: Path, folder: Path, policy: Policy | None
) -> tuple[list[tuple[Archive, Path]], list[dict[str, Any]]]:
    """Downloads and unpacks archives. If one without a checksum is bad, repeats from the next mirror."""
    while True:
        archives = _downloaded(source, state, policy)
        try:
            return archives, _unpack_all(name, archives, state, folder)
        except BadArchive as error:
            unsure = [(archive, path) for archive, path in archives if archive.checksum is None]
            for _, path in unsure:
                path.unlink(missing_ok=True)
            if not any(archive.urls[1:] for archive, _ in unsure):
                again = ". Downloads without a published checksum were removed; run again to repeat them"
                raise NfbenchError(f"{error}{again if unsure else ''}") from error
            _log.warning("%s; trying the next mirror", error)
            source = source.model_copy(update={"archives": tuple(map(_without_first_mirror, source.archives))})


def _without_first_mirror(archive: Archive) -> Archive:
    more = archive.checksum is None and archive.urls[1:]
    return archive.model_copy(update={"urls": archive.urls[1:]}) if more else archive


def _downloaded(source: Source, state: Path, policy: Policy | None) -> list[tuple[Archive, Path]]:
    known = _known_checksums(state)
    folder = state / "downloads"
    return [(archive, download(archive, folder, known.get(archive.name), policy)) for archive in source.archives]


def _by_hand(name: str, source: Source, paths: Sequence[Path]) -> list[tuple[Archive, Path]]:
    if len(paths) != len(source.archives):
        needed = ", ".join(archive.name for archive in source.archives)
        raise NfbenchError(f"dataset '{name}' needs {len(source.archives)} archives ({needed}), but got {len(paths)}")
    for path in paths:
        if not path.is_file():
            raise NfbenchError(f"archive {path} does not exist")
    return list(zip(source.archives, paths, strict=True))


def _unpack_all(name: str, archives: Sequence[tuple[Archive, Path]], state: Path, folder: Path) -> list[dict[str, Any]]:
    """Verifies and unpacks archives, and moves the readable folder to ``folder`` in one step."""
    known = _known_checksums(state)
    described: list[dict[str, Any]] = []
    staging = state / f"{name}.unpacking"
    remove_tree(staging)  # left by a killed process
    staging.mkdir()
    try:
        for number, (archive, path) in enumerate(archives):
            sha256, size = _checked(archive, path, known.get(archive.name)), path.stat().st_size
            unpacked = unpack(path, staging / str(number), archive.unpacked_limit(size))
            described.append({"name": archive.name, "size": size, "sha256": sha256, "unpacked": unpacked})
        readable = _readable(name, staging)
        os.sync()  # the record promises a complete folder, even after a power loss
        os.rename(readable, folder)
    finally:
        remove_tree(staging)
    for (archive, _), entry in zip(archives, described, strict=True):
        if archive.checksum is None and archive.name not in known:
            known[archive.name] = entry["sha256"]
            write_json(state / "checksums.json", known)
            _log.warning(
                "%s: no checksum is published; recorded its SHA-256 to verify later downloads: %s",
                archive.name,
                entry["sha256"],
            )
    return described


def _checked(archive: Archive, path: Path, known: str | None) -> str:
    """Verifies an archive against its checksum, if one is known, and returns its SHA-256."""
    sha256 = file_sha256(path)
    algorithm, checksum = archive.expected(known) or ("sha256", sha256)
    found = sha256 if algorithm == "sha256" else file_hash(path, algorithm)
    if found != checksum:
        whose = "the published one" if archive.checksum else "the first download"
        raise NfbenchError(
            f"{path} differs from {archive.name}, {whose}: {algorithm} is {found}, expected {checksum}; delete it "
            "and download it again"
        )
    return sha256


def _readable(name: str, staging: Path) -> Path:
    """Returns the topmost folder in which the reader finds its categories."""
    reader, level = find_dataset(name), [staging]
    for _ in range(_DEPTH + 1):
        level = sorted(path for folder in level for path in folder.iterdir() if path.is_dir())
        for folder in level:
            try:
                reader.available(folder)
            except NfbenchError:
                continue
            return folder
    raise BadArchive(f"the archive does not contain dataset '{name}': its reader finds no category")


def _known_checksums(state: Path) -> dict[str, str]:
    path = state / "checksums.json"
    known = read_json(path) if path.exists() else {}
    if not isinstance(known, dict) or not all(_SHA256.fullmatch(str(value)) for value in known.values()):
        raise NfbenchError(f"{path}: expected a SHA-256 per archive; delete the file to record checksums again")
    return known
