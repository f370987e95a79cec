"""Expansion of an experiment's grid into cells; pure functions."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from operator import not_
from typing import Annotated, Any

from pydantic import Field

from nfbench.config import (
    AvailableAmong,
    Bench,
    Categories,
    Experiment,
    GridBlock,
    Setting,
    check_category,
    condition_of,
    require_known,
)
from nfbench.config.validation import Model
from nfbench.core.errors import NfbenchError

__all__ = ["Block", "Cell", "cells_of", "classes_of", "expand", "expand_blocks", "members"]

AvailableCategories = Callable[[str], list[str]]
"""Function from the name of a dataset to the categories that can be used."""

_ALL = "all"


@dataclass(frozen=True, order=True)
class Cell:
    """One evaluated run: a method, features, images and a seed.

    In the setting unified, the cells of a dataset's categories share one training. Cells whose conditions change only
    test images share that of unchanged images.

    Attributes:
        setting: ``one-class``, ``unified`` or ``few-anomaly``.
        dataset: name of the dataset.
        category: category of the dataset.
        method: name of the method or variant.
        backbone: tag of the backbone, see ``BackboneConfig.tag``.
        seed: seed of the run.
        condition: name of the condition, see ``nfbench.config.conditions``; empty for unchanged images.
    """

    setting: str
    dataset: str
    category: str
    method: str
    backbone: str
    seed: int
    condition: Annotated[str, Field(exclude_if=not_)] = ""  # specs and records without one stay as they were

    @property
    def trained(self) -> "Cell":
        """Cell of the training: of category ``all`` in the setting unified, without a condition of test images."""
        category = _ALL if self.setting == "unified" else self.category
        return replace(self, category=category, condition=condition_of(self.condition).training)

    @property
    def place(self) -> dict[str, Any]:
        """Values of the wildcards of its paths."""
        return {**vars(self), "condition": f"-{self.condition}" if self.condition else ""}

    @property
    def shown_setting(self) -> str:
        """Setting and condition, for readers."""
        return ", ".join(filter(None, (self.setting, self.condition)))

    def __str__(self) -> str:
        run = f"seed{self.seed}{self.place['condition']}"
        return f"{self.setting}/{self.dataset}/{self.category}/{self.method}/{self.backbone}/{run}"


class Block(Model):
    """A full product of cells whose categories are known."""

    setting: Setting
    dataset: str
    categories: tuple[str, ...]
    backbones: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: int
    conditions: Annotated[tuple[str, ...], Field(exclude_if=lambda names: not any(names))] = ("",)

    @property
    def cells(self) -> Iterator[Cell]:
        """Yields all cells of the block; seeds vary fastest."""
        axes = (self.categories, self.backbones, self.methods, self.conditions)
        for category, backbone, method, condition in product(*axes):
            for seed in range(self.seeds):
                yield Cell(self.setting, self.dataset, category, method, backbone, seed, condition)


def expand(bench: Bench, experiment_name: str, available: AvailableCategories) -> list[Cell]:
    """Lists all cells of an experiment without duplicates, in the order of the experiment's file."""
    return cells_of(expand_blocks(bench, experiment_name, available))


def cells_of(blocks: Iterable[Block]) -> list[Cell]:
    """Lists all cells of blocks without duplicates, in the order of the blocks."""
    return list(dict.fromkeys(cell for block in blocks for cell in block.cells))


def expand_blocks(bench: Bench, experiment_name: str, available: AvailableCategories) -> list[Block]:
    """Returns the blocks of an experiment with their categories, one per dataset; none without a grid.

    Args:
        bench: configuration and experiments.
        experiment_name: name of the experiment.
        available: lists the categories of a dataset; called for datasets whose categories are not named.

    Raises:
        NfbenchError: the experiment is unknown, a dataset has no categories, a named category is missing, or the name
            of a folder is not valid for a category.
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
            conditions=block.conditions,
        )
        for block in experiment.grid
        for dataset, named in block.datasets.items()
    ]
    for grid in experiment.grid:
        _check_tiles(bench, grid)
    for block in blocks:
        for method in block.methods:
            _check_setting(bench, block.setting, method)
            _check_search(bench, block, method)
    if experiment.grid and not any(block.categories for block in blocks):
        raise NfbenchError(f"experiment '{experiment_name}' has no category of its grid on disk")
    return [block for block in blocks if block.categories]


def classes_of(bench: Bench, cell: Cell, available: AvailableCategories) -> list[str]:
    """Lists the categories that a cell's model is trained on: its own, or all in the setting unified.

    Raises:
        NfbenchError: no experiment has runs of the dataset in the setting unified.
    """
    if cell.setting != "unified":
        return [cell.category]
    if cell.dataset not in bench.unified:
        raise NfbenchError(f"no experiment has runs of the dataset '{cell.dataset}' in the setting unified")
    return list(_categories(bench, cell.dataset, bench.unified[cell.dataset], available))


def members(bench: Bench, dataset: str, available: AvailableCategories) -> dict[str, str]:
    """Returns the dataset of each category of a union, in the order of the union.

    Raises:
        NfbenchError: two of its datasets have a category with the same name.
    """
    found: dict[str, str] = {}
    for member, named in (bench.dataset(dataset).union or {}).items():
        for category in _chosen(member, named, available):
            if category in found:
                raise NfbenchError(
                    f"union '{dataset}': '{found[category]}' and '{member}' both have a category '{category}'; names "
                    "of categories must be unique, so remove one of them"
                )
            found[category] = member
    return found


def _checked(available: AvailableCategories) -> AvailableCategories:
    """Wraps ``available`` with a check of the categories' names."""

    @cache
    def found(dataset: str) -> list[str]:
        categories = available(dataset)
        for category in categories:
            check_category(category, f"dataset '{dataset}'")
        return categories

    return found


def _check_categories(bench: Bench, experiment: Experiment, available: AvailableCategories) -> None:
    """Checks that each category that a grid or the configuration names exists."""
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
    """Checks that real anomalies occur in the setting few-anomaly and in no other."""
    anomalies = bench.variant(method).anomalies
    real = anomalies.real if anomalies else 0
    if (setting == "few-anomaly") != (real > 0):
        hint = "it has" if real else "use a variant with 'anomalies: {real: ...}'; it has"
        raise NfbenchError(
            f"setting '{setting}' of method '{method}': {hint} {real} real anomalies; the setting few-anomaly is for "
            "methods that learn from real anomalies, and only for these"
        )


def _check_tiles(bench: Bench, block: GridBlock) -> None:
    """Checks that no anomalies are learned from images that are cut into tiles."""
    for backbone, method in product(block.backbones, block.methods):
        if backbone.tiles and bench.variant(method).anomalies:
            raise NfbenchError(
                f"variant '{method}' has 'anomalies', which cannot be combined with the 'tiles' of '{backbone.tag}'; "
                "remove one of them"
            )


def _check_search(bench: Bench, block: Block, method: str) -> None:
    """Checks that searches are in the setting one-class and on the backbones of the search."""
    search = bench.variant(method).search
    if search is None:
        return
    if block.setting != "one-class":
        raise NfbenchError(f"variant '{method}' has a 'search', which only works in the setting one-class")
    tags = [backbone.tag for backbone in search.backbones]
    for backbone in block.backbones:
        if backbone not in tags:
            raise NfbenchError(
                f"variant '{method}' cannot run on '{backbone}', which is not among the 'backbones' of its "
                f"search: {', '.join(tags)}"
            )


def _categories(bench: Bench, dataset: str, named: Categories, available: AvailableCategories) -> Iterator[str]:
    """Yields the categories that a block names, except those that config.yaml excludes."""
    for category in _chosen(dataset, named, available):
        if bench.config.categories is None or category in bench.config.categories:
            yield category


def _chosen(dataset: str, named: Categories, available: AvailableCategories) -> Iterator[str]:
    if isinstance(named, AvailableAmong):
        found = available(dataset)
        yield from (category for category in named.available if category in found)
    else:
        yield from available(dataset) if named == "available" else named
