"""What tables must know of datasets beyond their results: which images are read, and what all their categories are."""

from collections.abc import Mapping

from nfbench.core.registry import plugin_names
from nfbench.datasets.base import find_dataset
from nfbench.plan.specs import DatasetNote

__all__ = ["DatasetNote", "DatasetNotes", "official_categories", "subset"]


DatasetNotes = Mapping[str, DatasetNote]


def official_categories(dataset: str, notes: DatasetNotes) -> tuple[str, ...]:
    """Official categories of a dataset, of a union those of its members; none where one has a name of the user's."""
    members = dataset in notes and notes[dataset].members
    if members:
        found = [official_categories(member, notes) for member in members]
        return tuple(category for one in found for category in one) if all(found) else ()
    return find_dataset(dataset).categories if dataset in plugin_names("nfbench.datasets") else ()


def subset(dataset: str, notes: DatasetNotes) -> str:
    """What is read of the images of a dataset, in words; empty where that is all of them."""
    return notes[dataset].subset if dataset in notes else ""
