"""Representations that a run keeps, as ``nfbench.results.artifacts`` writes them."""

from pathlib import Path

import numpy as np

from nfbench.core.seals import verified
from nfbench.scoring.representations import Representation

__all__ = ["REPRESENTATIONS", "read_representations"]

REPRESENTATIONS = "representations.npz"
"""Name of the file in the folder of a run."""


def read_representations(run: Path) -> list[Representation]:
    """Read the representations in the folder of a run; empty for methods without any.

    Raises:
        NfbenchError: the file is missing, or has changed since the run record was written.
    """
    with np.load(verified(run / REPRESENTATIONS, run / "run.json")) as archive:
        arrays = dict(archive)
    keys = [key.rpartition("/") for key in dict.fromkeys(array.rpartition("/")[0] for array in arrays)]
    return [
        Representation(name, int(level), *(arrays[f"{name}/{level}/{part}"] for part in Representation._fields[2:]))
        for name, _, level in keys
    ]
