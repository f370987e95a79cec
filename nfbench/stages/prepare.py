"""From the images of a category to its manifest."""

from collections.abc import Sequence
from pathlib import Path

from nfbench.core.files import remove_stale
from nfbench.core.provenance import file_sha256
from nfbench.core.seals import known_files, write_sealed
from nfbench.datasets.base import find_dataset
from nfbench.datasets.manifest import Entry, build_manifest, select_subset, write_manifest
from nfbench.plan.listing import FileState, ManifestRecord, Place, list_files
from nfbench.plan.specs import PrepareSpec

__all__ = ["prepare_data"]


def prepare_data(spec: PrepareSpec) -> None:
    """Checks and hashes all images of a category; writes its manifest, and next to it what it was made from."""
    reader, root = find_dataset(spec.dataset.dataset), Path(spec.root)
    if spec.miniature:
        reader.miniature(root)
    places = [] if spec.miniature else list_files(reader.files(root, spec.category))
    samples = reader.sampled(root, spec.category, spec.dataset.stride)
    entries = build_manifest(select_subset(samples, spec.dataset))
    manifest = Path(spec.manifest)
    remove_stale(manifest.parent)
    write_manifest(manifest, entries)
    written = known_files(manifest.parent, [manifest.name])
    write_sealed(
        manifest.with_suffix(".json"), ManifestRecord(spec=spec, files=_states(places, entries), written=written)
    )


def _states(places: Sequence[Place], entries: Sequence[Entry]) -> tuple[FileState, ...]:
    """The files with their hashes, those of images and masks as the manifest has them."""
    known = {entry.image: entry.sha256 for entry in entries} | {entry.mask: entry.mask_sha256 for entry in entries}
    return tuple(
        FileState(path=path, size=size, mtime_ns=mtime_ns, sha256=known.get(path) or file_sha256(path))
        for path, size, mtime_ns in places
    )
