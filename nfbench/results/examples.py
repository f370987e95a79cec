"""Maps of a few images that an evaluated run keeps, as ``nfbench.results.artifacts`` writes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nfbench.core.seals import verified

__all__ = ["BY_SCORE", "EXAMPLES", "Examples", "read_examples"]

EXAMPLES = "examples.npz"
"""Name of the file in the folder of a run."""

BY_SCORE = 2
"""Number of the worst false alarms, and of the worst misses, that a run keeps maps of."""


@dataclass(frozen=True)
class Examples:
    """Maps of a few images; numbers of images refer to the test split of the manifest.

    Attributes:
        images: numbers of one normal image and of one of each kind of defect.
        suspects: numbers of the normal images with the highest scores, the highest first; they differ between runs.
        misses: numbers of the anomalous images with the lowest scores, the lowest first; they differ between runs.
        maps: ``(N, H, W)`` by name, of ``images``, ``suspects`` and ``misses`` in this order; empty for methods without
            maps. ``variances`` may have another resolution.
    """

    images: list[int]
    suspects: list[int]
    misses: list[int]
    maps: dict[str, np.ndarray]

    @property
    def numbers(self) -> list[int]:
        """Numbers of all images, in the order of the maps."""
        return [*self.images, *self.suspects, *self.misses]

    def row(self, number: int) -> int | None:
        """Row of an image in the maps; None if the run kept no map of it."""
        return self.numbers.index(number) if self.maps and number in self.numbers else None


def read_examples(run: Path) -> Examples:
    """Read the examples in the folder of a run.

    Raises:
        NfbenchError: the file is missing, or has changed since the run record was written.
    """
    with np.load(verified(run / EXAMPLES, run / "run.json")) as archive:
        arrays = dict(archive)
    index, suspect, miss = (arrays.pop(name) for name in ("index", "suspect", "miss"))
    return Examples(index[~suspect & ~miss].tolist(), index[suspect].tolist(), index[miss].tolist(), arrays)
