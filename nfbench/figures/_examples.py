"""Common parts of figures with example images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.datasets._manifest import Entry, read_checked_image, read_checked_mask
from nfbench.figures._base import DrawnRun, by_category, columns_of, find_run
from nfbench.results.record import tested_images

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes

    from nfbench.results.examples import Examples

__all__ = ["Example", "draw_example", "examples_of"]


@dataclass(frozen=True)
class Example:
    """A test image, and the maps that runs keep of it.

    Attributes:
        entry: the image.
        label: its dataset, category and kind of defect.
        kept: number of the column, run, the run's maps by name, and the image's number among them. Runs that are
            missing, or that used the image and keep no maps of it, have no entry.
    """

    entry: Entry
    label: str
    kept: list[tuple[int, DrawnRun, dict[str, np.ndarray], int]]


def examples_of(runs: Sequence[DrawnRun], examples: Mapping[Path, Examples]) -> Iterator[Example]:
    """Yield the examples of the first run of each category, with the maps that all runs keep of them.

    Args:
        runs: runs of one seed; their columns are numbered.
        examples: kept maps by folder.
    """
    columns = columns_of(runs)
    for (dataset, category), of_category in by_category(runs).items():
        entries = tested_images(of_category[0].record)
        for index in examples[of_category[0].folder].images:
            kept = []
            for column, key in enumerate(columns):
                run = find_run(of_category, key)
                number = examples[run.folder].row(index) if run else None
                if run is not None and number is not None:
                    kept.append((column, run, examples[run.folder].maps, number))
            yield Example(entries[index], f"{dataset}\n{category}\n{entries[index].defect}", kept)


def draw_example(axes: Sequence[Axes], entry: Entry, label: str) -> None:
    """Draw an image and its ground truth on the first two of ``axes``, and remove all ticks."""
    import numpy as np

    axes[0].imshow(read_checked_image(entry))
    axes[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=7)
    if entry.label and not entry.mask:
        axes[1].imshow(np.ones((entry.height, entry.width)), cmap="gray", vmin=0, vmax=1)
        axes[1].text(0.5, 0.5, "no mask", ha="center", va="center", fontsize=7, transform=axes[1].transAxes)
    else:
        mask = read_checked_mask(entry) if entry.mask else np.zeros((entry.height, entry.width), dtype=bool)
        axes[1].imshow(mask, cmap="gray", vmin=0, vmax=1)
    for axis in axes:
        axis.set_xticks([])
        axis.set_yticks([])
