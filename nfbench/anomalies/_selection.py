"""The few-anomaly setting: choose the real anomalies that move from the test set to training."""

import os
from collections.abc import Sequence
from pathlib import Path

from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import derive_seed
from nfbench.datasets._manifest import Entry, read_checked_mask

__all__ = ["choose_anomalies"]


def choose_anomalies(entries: Sequence[Entry], count: int, seed: int) -> list[Entry]:
    """Take real anomalies from a category's test images, as evenly as possible from all kinds of defect.

    Each kind gives ``count // n_kinds`` images, or all that it has; the rest is taken one by one from kinds in
    random order (BGAD's setting, Yao et al., CVPR 2023, there with Python's generator and in the order of a list).
    Images whose mask marks no pixel are never taken. The choice follows from the names of defects and files and the
    seed, not from the order of ``entries``.

    Args:
        entries: the manifest of one category; only anomalous test images matter.
        count: number of images, at least 1.
        seed: of the choice.

    Returns:
        ``count`` entries, sorted by path; all others stay in the test set.

    Raises:
        NfbenchError: an anomalous image has no mask, too few have a pixel marked, or none would stay in the test set.
    """
    anomalies = [entry for entry in entries if entry.split == "test" and entry.label]
    folder = os.path.commonpath([Path(entry.image).parent for entry in anomalies or entries]) if entries else "no image"
    without = [entry for entry in anomalies if not entry.mask]
    if without:
        raise NfbenchError(
            f"{folder}: {len(without)} of {len(anomalies)} anomalous images have no mask, {without[0].image} first; "
            "training with real anomalies needs masks"
        )
    if count < 1:
        raise NfbenchError(f"{folder}: {count} real anomalies requested; request at least 1")
    if count >= len(anomalies):
        raise NfbenchError(
            f"{folder}: {count} real anomalies requested, {len(anomalies)} exist and at least 1 must stay in the "
            "test set; request fewer"
        )
    marked = [entry for entry in anomalies if read_checked_mask(entry).any()]
    if count > len(marked):
        raise NfbenchError(
            f"{folder}: {count} real anomalies requested, {len(marked)} of {len(anomalies)} have a mask that marks a "
            "pixel; request fewer"
        )
    return sorted(_take_evenly(marked, count, seed), key=lambda entry: entry.image)


def _take_evenly(entries: Sequence[Entry], count: int, seed: int) -> list[Entry]:
    """Take one image of each kind in turn, until there are enough; the seed decides the order."""
    by_kind: dict[str, list[Entry]] = {}
    for entry in entries:
        by_kind.setdefault(entry.defect, []).append(entry)
    for kind, images in by_kind.items():
        images.sort(key=lambda entry: (derive_seed(seed, kind, Path(entry.image).name), entry.image))
    kinds = sorted(by_kind, key=lambda kind: derive_seed(seed, "kind", kind))
    rounds = max(len(images) for images in by_kind.values())
    in_turn = [by_kind[kind][turn] for turn in range(rounds) for kind in kinds if turn < len(by_kind[kind])]
    return in_turn[:count]
