"""The validation split of a search: test images that trials are judged by, and that are then no longer tested on."""

from collections.abc import Sequence
from pathlib import Path

from nfbench.datasets.manifest import Entry
from nfbench.errors import NfbenchError
from nfbench.provenance import derive_seed

__all__ = ["validation_split"]


def validation_split(entries: Sequence[Entry], share: float) -> list[Entry]:
    """Takes a share of the test images of each kind of defect, good ones included, by a hash of their names.

    The choice is the same for all seeds and methods. A kind with one image stays in the test set.

    Args:
        entries: the manifest of one category.
        share: in (0, 1); rounded for each kind, but at least one image is taken, and one left.

    Returns:
        Entries in the order of the manifest.

    Raises:
        NfbenchError: the split would have no normal images, or no anomalous ones.
    """
    by_kind: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.split == "test":
            by_kind.setdefault(entry.defect, []).append(entry)
    chosen: set[str] = set()
    for kind, images in by_kind.items():
        ordered = sorted(images, key=lambda e: (derive_seed("validation", kind, Path(e.image).name), e.image))
        count = min(max(1, round(share * len(images))), len(images) - 1)
        chosen |= {entry.image for entry in ordered[:count]}
    split = [entry for entry in entries if entry.image in chosen]
    if len({entry.label for entry in split}) < 2:
        raise NfbenchError(
            "a validation split needs two normal and two anomalous images of one kind in the test set at least; these "
            f"kinds are there: {', '.join(f'{kind} ({len(images)})' for kind, images in by_kind.items())}"
        )
    return split
