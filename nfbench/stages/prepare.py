"""From the images of a category to its manifest."""

from collections.abc import Sequence
from pathlib import Path

from nfbench.core.errors import NfbenchError, valid_utf8
from nfbench.core.files import remove_stale
from nfbench.core.provenance import file_sha256
from nfbench.core.seals import known_files, write_sealed
from nfbench.datasets._base import Dataset, find_dataset
from nfbench.datasets._manifest import Entry, build_manifest, select_subset, write_manifest
from nfbench.datasets._staging import staged_folder
from nfbench.plan.listing import FileState, ManifestRecord, Place, list_files
from nfbench.plan.specs import PrepareSpec

__all__ = ["prepare_data"]


def prepare_data(spec: PrepareSpec) -> None:
    """Checks and hashes all images of a category; writes its manifest and the manifest's record."""
    reader, root, manifest = find_dataset(spec.dataset.dataset), Path(spec.root), Path(spec.manifest)
    if spec.miniature:
        _make_miniature(reader, root)
    places = [] if spec.miniature else list_files(reader.files(root, spec.category))
    samples = reader.sampled(root, spec.category, spec.dataset.stride, manifest.parent / "made")
    entries = build_manifest(select_subset(samples, spec.dataset), reader.splits)
    remove_stale(manifest.parent)
    write_manifest(manifest, entries)
    written = known_files(manifest.parent, [manifest.name])
    write_sealed(
        manifest.with_suffix(".json"), ManifestRecord(spec=spec, files=_states(places, entries), written=written)
    )


def _make_miniature(reader: Dataset, root: Path) -> None:
    """Generates a tiny copy of a dataset, which appears complete; adds missing files to an existing one."""
    if root.is_dir():
        reader.miniature(root)
        return
    with staged_folder(root) as staged:
        reader.miniature(staged)


def _states(places: Sequence[Place], entries: Sequence[Entry]) -> tuple[FileState, ...]:
    """Returns the state of files with hashes; takes the hashes of images and masks from the manifest."""
    known = {entry.image: entry.sha256 for entry in entries} | {entry.mask: entry.mask_sha256 for entry in entries}
    return tuple(
        FileState(path=valid_utf8(path), size=size, mtime_ns=mtime_ns, sha256=known.get(path) or _hash(path))
        for path, size, mtime_ns in places
    )


def _hash(path: str) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise NfbenchError(f"{path}, a file of the dataset, cannot be read: {error.strerror}") from None
