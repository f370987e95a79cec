"""Maps of a few images that an evaluated run keeps, as ``nfbench.results.artifacts`` writes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nfbench.core.seals import verified

__all__ = ["EXAMPLES", "Examples", "read_examples"]

EXAMPLES = "examples.npz"
"""Name of the file in the folder of a run."""


@dataclass(frozen=True)
class Examples:
    """Maps of a few images; numbers of images refer to the test split of the manifest.

    Attributes:
        images: numbers of one normal image and of one of each kind of defect.
        suspects: numbers of the normal images that look most anomalous, most anomalous first; they differ by run.
        maps: ``(N, H, W)`` by name, for ``images`` and then ``suspects``; empty for methods without maps. ``variances``
            may have another resolution.
    """

    images: list[int]
    suspects: list[int]
    maps: dict[str, np.ndarray]

    def row(self, number: int) -> int | None:
        """Row of image ``number`` in the maps; None if the run keeps no map of it."""
        numbers = [*self.images, *self.suspects]
        return numbers.index(number) if self.maps and number in numbers else None


def read_examples(run: Path) -> Examples:
    """Read the examples in the folder of a run.

    Raises:
        NfbenchError: the file is missing, or has changed since the run record was written.
    """
    with np.load(verified(run / EXAMPLES, run / "run.json")) as archive:
        arrays = dict(archive)
    index, suspect = arrays.pop("index"), arrays.pop("suspect")
    return Examples(index[~suspect].tolist(), index[suspect].tolist(), arrays)
