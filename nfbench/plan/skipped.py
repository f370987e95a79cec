"""Skipped cells: those of categories that are not on disk or excluded by the configuration."""

from nfbench.config import Bench
from nfbench.core.errors import NfbenchError
from nfbench.plan.catalogue import Catalogue
from nfbench.plan.cells import Block, expand, expand_blocks, members
from nfbench.plan.experiment_specs import Skipped

__all__ = ["skipped_cells"]


def skipped_cells(bench: Bench, experiment: str, catalogue: Catalogue) -> tuple[Skipped, ...]:
    """Returns the blocks of cells that an experiment omits, with reasons; they may also contain expected cells.

    A union has all categories of its datasets. If these share names, as two parts of one dataset do, it has only those
    on disk, since it is unknown which of the datasets lacks a category.

    Args:
        bench: configuration and experiments.
        experiment: name of the experiment.
        catalogue: lists the categories.
    """
    whole = bench.model_copy(update={"config": bench.config.model_copy(update={"categories": None})})
    every = _EveryCategory(whole, catalogue)
    expected = {(cell.dataset, cell.category) for cell in expand(bench, experiment, catalogue.available)}
    found = []
    for block in expand_blocks(whole, experiment, every.categories):
        by_reason: dict[str, list[str]] = {}
        for category in block.categories:
            if (block.dataset, category) not in expected:
                by_reason.setdefault(every.reason(block, category, bench.config.categories), []).append(category)
        found += [
            Skipped(block=block.model_copy(update={"categories": tuple(categories)}), reason=reason)
            for reason, categories in by_reason.items()
        ]
    return tuple(found)


class _EveryCategory:
    """All categories of datasets, on disk or not."""

    def __init__(self, bench: Bench, catalogue: Catalogue) -> None:
        self.bench, self.catalogue = bench, catalogue

    def categories(self, dataset: str) -> list[str]:
        """Lists all official categories; those on disk if there are no official ones."""
        if self.bench.dataset(dataset).union:
            return list(self._sources(dataset))
        return list(self.catalogue.official(dataset)) or self.catalogue.available(dataset)

    def reason(self, block: Block, category: str, chosen: tuple[str, ...] | None) -> str:
        """Returns why a category is omitted."""
        if chosen is not None and category not in chosen:
            return "excluded by 'categories' in the configuration"
        source = self._sources(block.dataset).get(category, block.dataset)
        return f"not on disk in {self.bench.dataset_root(source)}"

    def _sources(self, dataset: str) -> dict[str, str]:
        try:
            return members(self.bench, dataset, self.categories)
        except NfbenchError:
            return members(self.bench, dataset, self.catalogue.available)
