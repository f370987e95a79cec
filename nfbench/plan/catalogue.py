"""The catalogue: datasets and categories of the configuration, their folders, and what must be fetched."""

from functools import cached_property
from pathlib import Path

from nfbench.config import AnomaliesConfig, AvailableAmong, Bench, DatasetConfig, condition_of
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import nearest
from nfbench.datasets._base import Dataset, find_dataset
from nfbench.datasets._sources import read_sources, record_path
from nfbench.plan.cells import Cell, classes_of, members
from nfbench.plan.experiment_specs import DatasetNote

__all__ = ["Catalogue"]


class Catalogue:
    """Datasets of a configuration. Looks at the disk once per dataset.

    Args:
        bench: configuration and experiments.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self._available: dict[str, list[str]] = {}
        self._members: dict[str, dict[str, str]] = {}

    def reader(self, dataset: str) -> Dataset:
        """Returns the reader of a dataset."""
        return find_dataset(self.bench.dataset(dataset).dataset)

    def is_miniature(self, dataset: str) -> bool:
        """Whether the dataset's tiny copy replaces its images."""
        reader = self.reader(dataset)
        own = self.bench.dataset(dataset).root is not None and not reader.categories  # the user's own images
        return self.bench.config.miniature and reader.has_miniature and not own

    def root(self, dataset: str) -> Path:
        """Returns the folder with the categories of a dataset or of its tiny copy."""
        if self.is_miniature(dataset):
            return Path(self.bench.config.results_root) / "images" / self.bench.dataset(dataset).dataset
        return self.bench.dataset_root(dataset)

    def to_fetch(self, dataset: str) -> list[str]:
        """Returns the reader of a dataset that is to be downloaded, or was; else an empty list."""
        config = self.bench.dataset(dataset)
        source = read_sources().get(config.dataset)
        if source is None or config.root or self.is_miniature(dataset):
            return []
        fetched = record_path(config.dataset, Path(self.bench.config.data_root)).exists()  # stays an input
        wanted = self.bench.config.fetch and source.access == "open" and not self.bench.dataset_root(dataset).exists()
        return [config.dataset] if fetched or wanted else []

    @cached_property
    def views(self) -> dict[str, tuple[AnomaliesConfig | None, int]]:
        """All views with cached features; for pseudo-anomalies, their configuration and seed."""
        experiments = self.bench.experiments.values()
        seeds = max([self.bench.config.seeds or 0, *(experiment.seeds for experiment in experiments)])
        found: dict[str, tuple[AnomaliesConfig | None, int]] = {"train": (None, 0), "test": (None, 0)}
        blocks = (block for experiment in experiments for block in experiment.grid)
        found |= {condition_of(name).test_view: (None, 0) for block in blocks for name in block.conditions}
        for variant in self.bench.variants.values():
            anomalies = variant.anomalies
            if anomalies is None:
                continue
            for seed in range(seeds):
                if view := anomalies.view(seed):
                    own = anomalies.needs_real
                    made = AnomaliesConfig(**anomalies.model_dump(include={"generator", "views", *(["real"] * own)}))
                    found[view] = made, seed if own else 0
        return found

    def available(self, dataset: str) -> list[str]:
        """Lists the categories of a dataset that can be used.

        Raises:
            NfbenchError: there is none, or a grid names a category that the dataset does not have.
        """
        if dataset not in self._available:
            self._available[dataset] = self._find(dataset)
        return self._available[dataset]

    def official(self, dataset: str) -> tuple[str, ...]:
        """Lists all categories of a dataset that is not a union; none if the reader accepts any folder."""
        return self.reader(dataset).categories

    def source(self, dataset: str, category: str) -> str:
        """Returns the dataset with the images of a category: ``dataset`` itself, or a member of a union."""
        if not self.bench.dataset(dataset).union:
            return dataset
        if dataset not in self._members:
            self._members[dataset] = members(self.bench, dataset, self.available)
        return self._members[dataset].get(category, dataset)

    def classes(self, cell: Cell) -> list[str]:
        """Lists the categories that a cell's model is trained on."""
        return classes_of(self.bench, cell, self.available)

    @cached_property
    def notes(self) -> dict[str, DatasetNote]:
        """Notes for tables about datasets that differ from the official ones."""
        blocks = [block for experiment in self.bench.experiments.values() for block in experiment.grid]
        given = {*self.bench.datasets, *(name for block in blocks for name in block.datasets)}
        named = sorted({*given, *(member for name in given for member in self.bench.dataset(name).union or ())})
        subsets = {name: _subset(self.bench.dataset(name)) for name in named if self.bench.dataset(name).is_subset}
        subsets |= {name: "made-up images instead of its own" for name in named if self.is_miniature(name)}
        unions = {name: tuple(union) for name in named if (union := self.bench.dataset(name).union)}
        for name, joined in unions.items():
            if parts := [f"{member}: {subsets[member]}" for member in joined if member in subsets]:
                subsets[name] = "; ".join(parts)
        return {
            name: DatasetNote(subset=subsets.get(name, ""), members=unions.get(name, ()))
            for name in sorted({*subsets, *unions})
        }

    def _find(self, dataset: str) -> list[str]:
        if self.bench.dataset(dataset).union:
            return list(members(self.bench, dataset, self.available))
        self._check_asked(dataset)
        unfetched = self.to_fetch(dataset) and not self.bench.dataset_root(dataset).exists()
        if self.is_miniature(dataset):
            return list(self.reader(dataset).miniature_categories)
        if unfetched:
            return list(self.official(dataset))
        return self.reader(dataset).available(self.root(dataset))

    def _check_asked(self, dataset: str) -> None:
        """Refuses unknown categories in ``available: [...]`` of grids and unions.

        Raises:
            NfbenchError: the message names the experiment or union, and the nearest category.
        """
        official = self.official(dataset)
        blocks = [
            (f"experiment '{experiment.name}'", block.datasets)
            for experiment in self.bench.experiments.values()
            for block in experiment.grid
        ]
        unions = [(f"union '{name}'", config.union) for name, config in self.bench.datasets.items() if config.union]
        for asking, by_dataset in blocks + unions:
            categories = by_dataset.get(dataset)
            for category in categories.available if isinstance(categories, AvailableAmong) else ():
                if official and category not in official:
                    raise NfbenchError(
                        f"{asking}: '{dataset}' has no category '{category}'{nearest(category, official)}"
                    )


def _subset(dataset: DatasetConfig) -> str:
    limits = (
        ("training", dataset.max_train),
        ("normal test", dataset.max_test_normal),
        ("anomalous test", dataset.max_test_anomalous),
    )
    kept = [f"at most {limit} {kind} images" for kind, limit in limits if limit]
    frames = [f"one in {dataset.stride} frames of each video"] if dataset.stride > 1 else []
    return "a subset: " + ", ".join([*frames, *kept])
