"""The images that trials of a search are judged by; those of a validation split are then no longer tested on."""

from collections.abc import Sequence
from pathlib import Path

from nfbench.config import SearchConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import derive_seed
from nfbench.datasets._manifest import Entry

__all__ = ["judging_images", "validation_split"]


def judging_images(entries: Sequence[Entry], search: SearchConfig) -> list[Entry]:
    """Test images that trials are judged by; none where the likelihood of held-out normal images does.

    Args:
        entries: the manifest of one category.
        search: objective, metric and share of the split.

    Raises:
        NfbenchError: the metric is not defined on them, or they cannot be split.
    """
    if search.judged_by is None:
        return []
    tested = [entry for entry in entries if entry.split == "test"]
    if search.judged_by.metric.needs_masks and not all(entry.mask for entry in tested if entry.label):
        raise NfbenchError(f"metric '{search.metric}' of a search: the dataset has no masks; take an image metric")
    return validation_split(tested, search.validation_share) if search.objective == "validation" else tested


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
