"""Examples: image, ground truth, and the anomaly map of each method with a contour."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from nfbench.config.tables import FigureConfig
from nfbench.datasets._manifest import Entry, read_checked_image
from nfbench.figures._base import DrawnRun, NothingToDraw, columns_of, new_figure, of_first_seed
from nfbench.figures._examples import draw_example, examples_of

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FIGURE", "MapsFigure"]

_CELL = 1.5
_LOWEST = 0.5


class MapsFigure(FigureConfig):
    """Examples with their ground truth and anomaly maps."""

    kind: Literal["maps"] = "maps"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw one row per example image and two columns per method and backbone, for the first seed of each.

        Maps share one scale per category and method. The contour encloses scores above the 99.9 % quantile of the
        pixels of held-out normal images (of training images if none were held out). The examples are those of the first
        run. Panels of missing runs, and of runs that used the image and keep no map of it, are empty.
        """
        from nfbench.results.examples import read_examples

        shown = of_first_seed(runs)
        examples = [*examples_of(shown, {run.folder: read_examples(run.folder) for run in shown})]
        if not examples:
            raise NothingToDraw("a figure of kind 'maps' needs test images, but there are none")
        n_columns = 2 + 2 * len(columns_of(shown))
        ratio = max(example.entry.height / example.entry.width for example in examples)
        figure = new_figure(_CELL * n_columns, _CELL * min(1, max(_LOWEST, ratio)) * len(examples))
        axes = figure.subplots(len(examples), n_columns, squeeze=False)
        for row, example in zip(axes, examples, strict=True):
            draw_example(row, example.entry, example.label)
            for column, run, kept, number in example.kept:
                maps = kept["maps"]
                limits = (min(run.contour, float(maps.min())), float(maps.max()))
                pair = row[2 + 2 * column : 4 + 2 * column]
                _draw_map(pair, example.entry, maps[number], run.contour, limits)
        _label_columns(axes[0], _titles(shown))
        figure.subplots_adjust(wspace=0.04, hspace=0.04)
        return figure


def _draw_map(
    axes: Sequence[Axes], entry: Entry, score_map: np.ndarray, threshold: float, limits: tuple[float, float]
) -> None:
    import numpy as np
    from matplotlib.patches import Rectangle

    from nfbench.scoring.maps import resize_map

    resized = resize_map(score_map.astype(np.float32), entry.height, entry.width)
    axes[0].imshow(resized, cmap="inferno", vmin=limits[0], vmax=limits[1])
    axes[1].imshow(read_checked_image(entry))
    if resized.max() > threshold > resized.min():
        axes[1].contour(resized, levels=[threshold], colors=["#ff2d2d"], linewidths=1.2)
    elif resized.min() >= threshold:
        axes[1].add_patch(Rectangle((0, 0), entry.width - 1, entry.height - 1, fill=False, ec="#ff2d2d", lw=2))


def _titles(runs: Sequence[DrawnRun]) -> list[str]:
    """Return the titles of the columns, with the input size where one method has several."""
    sizes = {run.column: (run.record.cell.title, str(run.record.features.recipe.backbone.size)) for run in runs}
    several = {title for title, size in sizes.values() if any(title == t and size != s for t, s in sizes.values())}
    return [f"{title}, {size}" if title in several else title for title, size in sizes.values()]


def _label_columns(axes: Sequence[Axes], titles: Sequence[str]) -> None:
    axes[0].set_title("image", fontsize=7)
    axes[1].set_title("ground truth", fontsize=7)
    for column, title in enumerate(titles):
        axes[2 + 2 * column].set_title(f"{title}\nmap", fontsize=7)
        axes[3 + 2 * column].set_title(f"{title}\ncontour", fontsize=7)


FIGURE = MapsFigure
