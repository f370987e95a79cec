"""Images for judging the trials of a search; a validation split is excluded from the test set."""

from collections.abc import Sequence
from pathlib import Path

from nfbench.config import SearchConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import derive_seed
from nfbench.datasets._manifest import Entry

__all__ = ["judging_images", "validation_split"]


def judging_images(entries: Sequence[Entry], search: SearchConfig) -> list[Entry]:
    """Select the test images for judging trials; none if the objective is the held-out likelihood.

    Args:
        entries: manifest of one category.
        search: objective, metric and share of the split.

    Raises:
        NfbenchError: the metric is not defined on the images, or they cannot be split.
    """
    if search.judged_by is None:
        return []
    tested = [entry for entry in entries if entry.split == "test"]
    if search.judged_by.metric.needs_masks and not all(entry.mask for entry in tested if entry.label):
        raise NfbenchError(f"metric '{search.metric}' of a search: the dataset has no masks; use an image metric")
    return validation_split(tested, search.validation_share) if search.objective == "validation" else tested


def validation_split(entries: Sequence[Entry], share: float) -> list[Entry]:
    """Select a share of the test images of each defect type, including ``good``, by a hash of their names.

    The selection is the same for all seeds and methods. The only image of a type stays in the test set.

    Args:
        entries: manifest of one category.
        share: share in (0, 1). Counts are rounded per type, with at least one image selected and one left.

    Returns:
        Entries in the order of the manifest.

    Raises:
        NfbenchError: the split would have no normal or no anomalous images.
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
            "a validation split needs a test set with at least two normal images and two anomalous images of one "
            f"defect type; found: {', '.join(f'{kind} ({len(images)})' for kind, images in by_kind.items())}"
        )
    return split
