"""The grid: a pure function from an experiment to its cells."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from nfbench.config import AvailableAmong, Bench, Categories, Experiment, Setting, check_category, require_known
from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError

__all__ = ["Block", "Cell", "cells_of", "classes_of", "expand", "expand_blocks", "members"]

AvailableCategories = Callable[[str], list[str]]
"""Categories of a dataset that are there to be used, by the dataset's name."""

_ALL = "all"


@dataclass(frozen=True, order=True)
class Cell:
    """One evaluated run: what is trained on which features of which images, from which seed.

    In the setting unified, the cells of a dataset's categories share one training.

    Attributes:
        setting: ``one-class``, ``unified`` or ``few-anomaly``.
        dataset: name of the dataset.
        category: category of the dataset.
        method: name of the method or variant.
        backbone: tag of the backbone, see ``BackboneConfig.tag``.
        seed: number of the seed.
    """

    setting: str
    dataset: str
    category: str
    method: str
    backbone: str
    seed: int

    @property
    def trained(self) -> "Cell":
        """The cell of the training: that of category ``all`` in the setting unified, else this one."""
        return replace(self, category=_ALL) if self.setting == "unified" else self

    def __str__(self) -> str:
        return f"{self.setting}/{self.dataset}/{self.category}/{self.method}/{self.backbone}/seed{self.seed}"


class Block(Model):
    """A full product of cells whose categories are known."""

    setting: Setting
    dataset: str
    categories: tuple[str, ...]
    backbones: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int

    @property
    def cells(self) -> Iterator[Cell]:
        """All cells of the block, seeds fastest."""
        for category, backbone, method in product(self.categories, self.backbones, self.methods):
            for seed in range(self.seeds):
                yield Cell(self.setting, self.dataset, category, method, backbone, seed)


def expand(bench: Bench, experiment_name: str, available: AvailableCategories) -> list[Cell]:
    """All cells of an experiment, without repetition, in the order in which the experiment names them."""
    return cells_of(expand_blocks(bench, experiment_name, available))


def cells_of(blocks: Iterable[Block]) -> list[Cell]:
    """All cells of blocks, each once, in the order of the blocks."""
    return list(dict.fromkeys(cell for block in blocks for cell in block.cells))


def expand_blocks(bench: Bench, experiment_name: str, available: AvailableCategories) -> list[Block]:
    """The blocks of an experiment with the categories that they have, one for each dataset; none without a grid.

    Args:
        bench: configuration and experiments.
        experiment_name: name of the experiment.
        available: lists the categories of a dataset; asked for datasets whose categories are not named.

    Raises:
        NfbenchError: unknown experiment, a dataset without categories, a category that is named and not there, or a
            folder whose name is no name of a category.
    """
    experiment = bench.experiment(experiment_name)
    available = _checked(available)
    _check_categories(bench, experiment, available)
    blocks = [
        Block(
            setting=block.setting,
            dataset=dataset,
            categories=tuple(_categories(bench, dataset, named, available)),
            backbones=tuple(backbone.tag for backbone in block.backbones),
            methods=block.methods,
            seeds=bench.config.seeds or experiment.seeds,
        )
        for block in experiment.grid
        for dataset, named in block.datasets.items()
    ]
    for block in blocks:
        for method in block.methods:
            _check_setting(bench, block.setting, method)
            _check_search(bench, block, method)
    if experiment.grid and not any(block.categories for block in blocks):
        raise NfbenchError(f"experiment '{experiment_name}' has no category of its grid on disk")
    return [block for block in blocks if block.categories]


def classes_of(bench: Bench, cell: Cell, available: AvailableCategories) -> list[str]:
    """Categories that a cell's model is trained on: its own, or in the setting unified those of the dataset.

    Raises:
        NfbenchError: no experiment has runs of the dataset in the setting unified.
    """
    if cell.setting != "unified":
        return [cell.category]
    if cell.dataset not in bench.unified:
        raise NfbenchError(f"no experiment has runs of the dataset '{cell.dataset}' in the setting unified")
    return list(_categories(bench, cell.dataset, bench.unified[cell.dataset], available))


def members(bench: Bench, dataset: str, available: AvailableCategories) -> dict[str, str]:
    """The datasets that the categories of a union come from, by category, in the order of the union.

    Raises:
        NfbenchError: two of its datasets have a category of one name.
    """
    found: dict[str, str] = {}
    for member, named in (bench.dataset(dataset).union or {}).items():
        for category in _chosen(member, named, available):
            if category in found:
                raise NfbenchError(
                    f"union '{dataset}': '{found[category]}' and '{member}' both have a category '{category}', and a "
                    "class is known by its name; leave one of them out"
                )
            found[category] = member
    return found


def _checked(available: AvailableCategories) -> AvailableCategories:
    """Categories of a dataset, once their names are checked."""

    @cache
    def found(dataset: str) -> list[str]:
        categories = available(dataset)
        for category in categories:
            check_category(category, f"dataset '{dataset}'")
        return categories

    return found


def _check_categories(bench: Bench, experiment: Experiment, available: AvailableCategories) -> None:
    """Each category that a grid or the configuration names is one of a dataset's."""
    known: dict[str, None] = {}
    for block in experiment.grid:
        for dataset, named in block.datasets.items():
            if isinstance(named, tuple) and not bench.official_categories(dataset):
                where = f"experiment '{experiment.name}', dataset '{dataset}'"
                require_known(named, available(dataset), where)
            known |= dict.fromkeys(_chosen(dataset, named, available))
    if known:
        where = f"config.yaml: 'categories', for experiment '{experiment.name}'"
        require_known(bench.config.categories or (), known, where)


def _check_setting(bench: Bench, setting: str, method: str) -> None:
    """Real anomalies belong to the setting few-anomaly, and to no other."""
    anomalies = bench.variant(method).anomalies
    real = anomalies.real if anomalies else 0
    if (setting == "few-anomaly") != (real > 0):
        hint = "takes" if real else "needs variants with 'anomalies: {real: ...}'; it has"
        raise NfbenchError(
            f"setting '{setting}' of method '{method}': {hint} {real} real anomalies; methods that learn "
            "from real anomalies are in the setting few-anomaly, and all others are not"
        )


def _check_search(bench: Bench, block: Block, method: str) -> None:
    """Settings are searched for in the setting one-class, on the backbones of the search."""
    search = bench.variant(method).search
    if search is None:
        return
    if block.setting != "one-class":
        raise NfbenchError(f"variant '{method}' has a 'search', which is for the setting one-class alone")
    tags = [backbone.tag for backbone in search.backbones]
    for backbone in block.backbones:
        if backbone not in tags:
            raise NfbenchError(
                f"variant '{method}' is to be run on '{backbone}', which is not among the 'backbones' of its "
                f"search: {', '.join(tags)}"
            )


def _categories(bench: Bench, dataset: str, named: Categories, available: AvailableCategories) -> Iterator[str]:
    """The categories that a block names, but for those that config.yaml leaves out."""
    for category in _chosen(dataset, named, available):
        if bench.config.categories is None or category in bench.config.categories:
            yield category


def _chosen(dataset: str, named: Categories, available: AvailableCategories) -> Iterator[str]:
    if isinstance(named, AvailableAmong):
        found = available(dataset)
        yield from (category for category in named.available if category in found)
    else:
        yield from available(dataset) if named == "available" else named
