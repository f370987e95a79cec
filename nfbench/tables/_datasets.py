"""Facts about datasets that tables need beyond results: their images and official categories."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nfbench.core.registry import plugin_names
from nfbench.datasets._base import find_dataset
from nfbench.plan.experiment_specs import DatasetNote

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DatasetNote", "DatasetNotes", "comparability", "is_whole", "official_categories", "subset"]


DatasetNotes = Mapping[str, DatasetNote]


def official_categories(dataset: str, notes: DatasetNotes) -> tuple[str, ...]:
    """Official categories of a dataset, or of a union's members; none if the user named one of them."""
    members = dataset in notes and notes[dataset].members
    if members:
        found = [official_categories(member, notes) for member in members]
        return tuple(category for one in found for category in one) if all(found) else ()
    return find_dataset(dataset).categories if dataset in plugin_names("nfbench.datasets") else ()


def subset(dataset: str, notes: DatasetNotes) -> str:
    """Describe the subset of a dataset's images that is read; empty if it is all of them."""
    return notes[dataset].subset if dataset in notes else ""


def is_whole(dataset: str, part: pd.DataFrame, notes: DatasetNotes) -> bool:
    """Whether results of a dataset cover all official categories and all their images.

    Args:
        dataset: name of the dataset.
        part: results of the dataset.
        notes: of datasets that are not official ones as they are.
    """
    official = official_categories(dataset, notes)
    return bool(official) and not subset(dataset, notes) and set(official) == set(part.category)


def comparability(results: pd.DataFrame, notes: DatasetNotes) -> str:
    """Explain why means over categories are, or are not, compared with published ones."""
    reasons = []
    for dataset, part in results.groupby("dataset", sort=False):
        if is_whole(dataset, part, notes):
            continue
        measured, official = part.category.nunique(), len(official_categories(dataset, notes))
        of = f"{measured} of {official} categories" if official else f"{measured} categories"
        images = " and a subset of their images" if subset(dataset, notes) else ""
        over = f"all {official}" if official else "all official categories"
        reasons.append(
            f"on {dataset}, our mean is over {of}{images} and the published mean over {over}: no difference, no status"
        )
    return "; ".join(reasons) or "means over all official categories on both sides"
