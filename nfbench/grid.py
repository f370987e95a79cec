"""The grid: a pure function from an experiment to its cells."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nfbench.config import AvailableAmong, Bench, GridBlock
from nfbench.errors import NfbenchError

__all__ = ["Cell", "expand"]

AvailableCategories = Callable[[str], list[str]]
"""Categories of a dataset that are there to be used, by the dataset's name."""


@dataclass(frozen=True, order=True)
class Cell:
    """One training run: what to train on which features of which images, from which seed.

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

    def __str__(self) -> str:
        return f"{self.setting}/{self.dataset}/{self.category}/{self.method}/{self.backbone}/seed{self.seed}"


def expand(bench: Bench, experiment_name: str, available: AvailableCategories) -> list[Cell]:
    """All cells of an experiment, without repetition, in the order in which the experiment names them.

    An experiment without a grid has none.

    Args:
        bench: configuration and experiments.
        experiment_name: name of the experiment.
        available: lists the categories of a dataset; asked for datasets whose categories are not named.

    Raises:
        NfbenchError: unknown experiment, a dataset without categories, or the configured categories match none.
    """
    experiment = bench.experiment(experiment_name)
    seeds = range(bench.config.seeds or experiment.seeds)
    cells = (
        Cell(block.setting, dataset, category, method, backbone.tag, seed)
        for block in experiment.grid
        for dataset, category in _categories(bench, block, available)
        for backbone in block.backbones
        for method in block.methods
        for seed in seeds
    )
    unique = list(dict.fromkeys(cells))
    for cell in unique:
        _check_setting(bench, cell)
    if experiment.grid and not unique:
        wanted = ", ".join(bench.config.categories or ())
        among = f"among 'categories' ({wanted})" if wanted else "of its grid on disk"
        raise NfbenchError(f"experiment '{experiment_name}' has no category {among}")
    return unique


def _check_setting(bench: Bench, cell: Cell) -> None:
    """Real anomalies belong to the setting few-anomaly, and to no other."""
    anomalies = bench.variant(cell.method).anomalies
    real = anomalies.real if anomalies else 0
    if (cell.setting == "few-anomaly") != (real > 0):
        hint = "takes" if real else "needs variants with 'anomalies: {real: ...}'; it has"
        raise NfbenchError(
            f"setting '{cell.setting}' of method '{cell.method}': {hint} {real} real anomalies; methods that learn "
            "from real anomalies are in the setting few-anomaly, and all others are not"
        )


def _categories(bench: Bench, block: GridBlock, available: AvailableCategories) -> Iterator[tuple[str, str]]:
    for dataset, named in block.datasets.items():
        if isinstance(named, AvailableAmong):
            found = available(dataset)
            chosen = [category for category in named.available if category in found]
        else:
            chosen = available(dataset) if named == "available" else named
        for category in chosen:
            if bench.config.categories is None or category in bench.config.categories:
                yield dataset, category
