"""Images that a condition draws: few normal images, or anomalies that move from the test set to training.

Draws follow from the seed and the hashes of the images, so they are equal for all methods. Images of a smaller number
or ratio are among those of a larger one.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nfbench.config import condition_of
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import derive_seed
from nfbench.datasets._manifest import Entry, view_entries

__all__ = ["Drawn", "draw", "drawn_entries"]

_MOST = 0.75
"""Largest share of the anomalous test images that may leave the test set."""


class Drawn(NamedTuple):
    """Images of a category under a condition.

    Attributes:
        normal: numbers of the normal training images to train on, ascending.
        added: numbers of the test images to train on as if they were normal, ascending.
        left_out: numbers of the test images that are not tested.
    """

    normal: list[int]
    added: list[int]
    left_out: frozenset[int]

    @property
    def n_train(self) -> int:
        """Number of images to train on."""
        return len(self.normal) + len(self.added)


def draw(entries: Sequence[Entry], condition: str, seed: int) -> Drawn:
    """Draws the images of a condition.

    Args:
        entries: the manifest of one category.
        condition: name of the condition; others than ``shots`` and ``contamination`` draw all normal images.
        seed: seed of the run.

    Raises:
        NfbenchError: fewer normal images than shots, or the largest ratio takes too many anomalies.
    """
    train = [entry for entry in entries if entry.split == "train"]
    found, everything = condition_of(condition), list(range(len(train)))
    if found.axis == "shots":
        if found.strength > len(train):
            raise NfbenchError(
                f"{_folder(train or entries)}: {int(found.strength)} shots, but there are {len(train)} normal training "
                "images; remove this number from 'shots'"
            )
        return Drawn(sorted(_order(train, everything, "shots", seed)[: int(found.strength)]), [], frozenset())
    if found.axis != "contamination":
        return Drawn(everything, [], frozenset())
    tested = view_entries(entries, "test")
    anomalies = [number for number, entry in enumerate(tested) if entry.label]
    largest = found.n_added(len(train), largest=True)
    if largest > _MOST * len(anomalies):
        raise NfbenchError(
            f"{_folder(train or entries)}: contamination {found.largest:g} of {len(train)} normal images takes "
            f"{largest} anomalies, but only {int(_MOST * len(anomalies))} of {len(anomalies)} may leave the test set; "
            "lower the largest ratio"
        )
    order = _order(tested, anomalies, "contamination", seed)
    return Drawn(everything, sorted(order[: found.n_added(len(train))]), frozenset(order[:largest]))


def drawn_entries(entries: Sequence[Entry], drawn: Drawn) -> list[Entry]:
    """Returns the images that a training reads, in its order: normal ones, added anomalies, and validation images."""
    train, tested = view_entries(entries, "train"), view_entries(entries, "test")
    validation = [entry for entry in train if entry.split == "validation"]
    return [*(train[number] for number in drawn.normal), *(tested[number] for number in drawn.added), *validation]


def _order(entries: Sequence[Entry], numbers: Sequence[int], purpose: str, seed: int) -> list[int]:
    """Returns image numbers in the order in which they are drawn."""

    def place(number: int) -> tuple[int, str]:
        entry = entries[number]
        return derive_seed(purpose, seed, entry.sha256), entry.image

    return sorted(numbers, key=place)


def _folder(entries: Sequence[Entry]) -> str:
    return os.path.commonpath([Path(entry.image).parent for entry in entries]) if entries else "no image"
