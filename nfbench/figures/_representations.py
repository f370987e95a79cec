"""Common parts of figures of representations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.core.errors import NfbenchError
from nfbench.figures._base import DrawnRun, of_first_seed

if TYPE_CHECKING:
    from nfbench.scoring.representations import Representation

__all__ = ["MEMBERS", "WHAT", "read_shown"]

MEMBERS = ("representations", "position_log_likelihoods")
"""Members of ``Method``; a method that overrides neither has no representations."""

WHAT = "representations of positions"


def read_shown(kind: str, runs: Sequence[DrawnRun]) -> dict[Path, tuple[DrawnRun, list[Representation]]]:
    """Read runs of the first seed that have representations, and the representations, by folder.

    Raises:
        NfbenchError: no run has representations; names the ``kind`` of figure.
    """
    from nfbench.results.representations import read_representations

    found = {run.folder: (run, read_representations(run.folder)) for run in of_first_seed(runs)}
    if shown := {folder: (run, kept) for folder, (run, kept) in found.items() if kept}:
        return shown
    raise NfbenchError(f"a figure of kind '{kind}' needs a method with {WHAT}, such as simplenet or nfad")
