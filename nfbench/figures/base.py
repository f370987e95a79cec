"""What figures share: the cells they draw, and writing them without a display."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.text import Text

from nfbench.core.files import atomic_path
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.results.record import RunRecord, read_record

__all__ = [
    "COLORS",
    "DrawnRun",
    "by_category",
    "find_run",
    "legend_above",
    "methods_of",
    "of_first_seed",
    "read_runs",
    "read_table",
    "write_figure",
]

COLORS = {"normal": "#1f77b4", "anomalous": "#d62728", "pseudo": "#ff7f0e", "neutral": "#555555"}


@dataclass(frozen=True)
class DrawnRun:
    """A run that a figure draws: its cell, record and folder, the folder of its training, and its study, if any."""

    cell: Cell
    record: RunRecord
    folder: Path
    training_folder: Path
    study: Path | None = None

    @property
    def title(self) -> str:
        """Method and backbone."""
        return f"{self.record.cell.title}\n{self.cell.backbone}"


def read_runs(cells: Sequence[Cell], paths: Paths) -> list[DrawnRun]:
    """Reads the run records of ``cells``."""
    return [
        DrawnRun(cell, read_record(path), path.parent, paths.run_record(cell.trained).parent, paths.study_of(cell))
        for cell, path in ((cell, paths.run_record(cell)) for cell in cells)
    ]


def methods_of(runs: Sequence[DrawnRun]) -> dict[tuple[str, str], str]:
    """Titles of all methods on their backbones, by both names, in the order in which they come."""
    return {(run.cell.method, run.cell.backbone): run.title for run in runs}


def find_run(runs: Sequence[DrawnRun], method: tuple[str, str]) -> DrawnRun | None:
    """The run of a method and backbone, None where it has none here."""
    return next((run for run in runs if (run.cell.method, run.cell.backbone) == method), None)


def of_first_seed(runs: Sequence[DrawnRun]) -> list[DrawnRun]:
    """The runs of the first seed, for figures that draw one run of each cell."""
    first = min(run.cell.seed for run in runs)
    return [run for run in runs if run.cell.seed == first]


def by_category(runs: Sequence[DrawnRun]) -> dict[tuple[str, str], list[DrawnRun]]:
    """Runs by (dataset, category), in the order in which they come."""
    grouped: dict[tuple[str, str], list[DrawnRun]] = {}
    for run in runs:
        grouped.setdefault((run.cell.dataset, run.cell.category), []).append(run)
    return grouped


def read_table(path: Path) -> list[dict[str, Any]]:
    """Reads a CSV file as a list of rows."""
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def legend_above(figure: Figure, shown: tuple[list[Any], list[str]]) -> None:
    """Arranges the figure with one legend above all axes, where it covers nothing.

    Args:
        figure: the figure.
        shown: handles and labels.
    """
    n_columns = max(1, min(len(shown[0]), int(figure.get_figwidth() / 2)))
    inches = 0.1 + 0.2 * math.ceil(len(shown[0]) / n_columns)
    share = 1 - inches / figure.get_figheight()
    figure.tight_layout(rect=(0, 0, 1, share))
    figure.legend(*shown, loc="upper center", ncols=n_columns, fontsize=8, frameon=False)


def write_figure(figure: Figure, paths: Sequence[Path]) -> None:
    """Writes a figure under each path, in the format of its ending, and closes it.

    Dollar signs in names are shown as they are: only text with a backslash or a brace, which no name has, is maths.
    """
    for text in figure.findobj(Text):
        text.set_parse_math("\\" in text.get_text() or "{" in text.get_text())
    for path in paths:
        metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=130, bbox_inches="tight", metadata=metadata)
    plt.close(figure)
