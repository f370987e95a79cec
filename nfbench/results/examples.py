"""Maps that an evaluated run keeps of a few images, as ``nfbench.results.artifacts`` writes them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nfbench.core.seals import verified

__all__ = ["EXAMPLES", "Examples", "read_examples"]

EXAMPLES = "examples.npz"
"""Name of the file in the folder of a run."""


@dataclass(frozen=True)
class Examples:
    """Maps of a few images, by the images' numbers in the test split of the manifest.

    Attributes:
        images: numbers of one normal image and of one of each kind of defect.
        suspects: numbers of the normal images that look most anomalous, the first first; others in each run.
        maps: ``(N, H, W)`` by name, of ``images`` and then of ``suspects``; none of methods without maps. ``variances``
            may have a resolution of their own.
    """

    images: list[int]
    suspects: list[int]
    maps: dict[str, np.ndarray]

    def row(self, number: int) -> int | None:
        """Where the maps of image ``number`` lie, None where the run keeps none of it."""
        numbers = [*self.images, *self.suspects]
        return numbers.index(number) if self.maps and number in numbers else None


def read_examples(run: Path) -> Examples:
    """Read the examples in the folder of a run.

    Raises:
        NfbenchError: they are missing, or have changed since the run record was written.
    """
    with np.load(verified(run / EXAMPLES, run / "run.json")) as archive:
        arrays = dict(archive)
    index, suspect = arrays.pop("index"), arrays.pop("suspect")
    return Examples(index[~suspect].tolist(), index[suspect].tolist(), arrays)
