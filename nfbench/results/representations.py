"""What a run keeps of its method's representations, as ``nfbench.results.artifacts`` writes it."""

from pathlib import Path

import numpy as np

from nfbench.core.seals import verified
from nfbench.scoring.representations import Representation

__all__ = ["REPRESENTATIONS", "read_representations"]

REPRESENTATIONS = "representations.npz"
"""Name of the file in the folder of a run."""


def read_representations(run: Path) -> list[Representation]:
    """Read the representations in the folder of a run; none of methods without any.

    Raises:
        NfbenchError: they are missing, or have changed since the run record was written.
    """
    with np.load(verified(run / REPRESENTATIONS, run / "run.json")) as archive:
        arrays = dict(archive)
    keys = [key.rpartition("/") for key in dict.fromkeys(array.rpartition("/")[0] for array in arrays)]
    return [
        Representation(name, int(level), *(arrays[f"{name}/{level}/{part}"] for part in Representation._fields[2:]))
        for name, _, level in keys
    ]
