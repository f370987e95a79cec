"""Contact sheets of synthetic anomalies: variants of a few images with the outlines of their masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from nfbench.config import AnomaliesConfig
from nfbench.config.tables import FigureConfig
from nfbench.core.errors import NfbenchError
from nfbench.figures._base import DrawnRun, new_figure, of_first_seed
from nfbench.results.record import manifest_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from nfbench.anomalies._base import AnomalyGenerator, Synthetic

__all__ = ["FIGURE", "AnomaliesFigure", "contact_sheet"]

_CELL = 1.5
_OUTLINE = "#ff2d2d"
_IMAGES, _VIEWS = 3, 6

SeedOf = Callable[[int, int], int]
"""Seed of a variant, from the numbers of image and variant."""


class AnomaliesFigure(FigureConfig):
    """A contact sheet of pseudo-anomalies."""

    kind: Literal["anomalies"] = "anomalies"

    def draw(self, runs: Sequence[DrawnRun]) -> Figure:
        """Draw a contact sheet per generator and category, for the first seed, with the variants of a cache.

        Raises:
            NfbenchError: no run was trained with pseudo-anomalies, or an image has changed since.
        """
        from nfbench.anomalies._base import make_generator, view_seed

        sheets: dict[tuple[str, str, str], tuple[AnomalyGenerator, SeedOf]] = {}
        for run in of_first_seed(runs):
            found = run.record.data.anomalies
            if found is None or found.generator is None:
                continue
            key = (found.generator, run.cell.dataset, run.cell.category)
            if key in sheets:
                continue
            config = AnomaliesConfig(generator=found.generator, real=len(found.real))
            entries = manifest_of(run.record)
            size = run.record.features.recipe.backbone.input_size
            generator, _ = make_generator(config, entries, run.cell.seed, size)
            seed = run.cell.seed if generator.needs_real else 0
            sheets[key] = generator, partial(view_seed, found.generator, seed)
        if not sheets:
            raise NfbenchError("a figure of kind 'anomalies' needs a variant with 'anomalies: {generator: ...}'")
        rows = [min(_IMAGES, len(generator)) for generator, _ in sheets.values()]
        height = sum(_height(count) for count in rows)
        figure = new_figure(_CELL * _VIEWS + 0.5, height, layout="constrained")
        parts = figure.subfigures(len(sheets), 1, squeeze=False, height_ratios=[_height(count) for count in rows])
        for part, ((*_, category), (generator, seed_of)) in zip(parts[:, 0], sheets.items(), strict=True):
            _fill(part, generator, _IMAGES, _VIEWS, seed_of)
            part.suptitle(f"{generator.title}: {category}", fontsize=9)
        return figure


def contact_sheet(generator: AnomalyGenerator, count: int, views: int, seed_of: SeedOf) -> Figure:
    """Draw one row per image and one column per variant; the outline encloses all pixels with a nonzero mask.

    The marked share of the image is below each variant.

    Args:
        generator: generator of the variants.
        count: number of images, spread evenly over those of the generator; all if it has fewer.
        views: number of variants per image.
        seed_of: returns the seeds.
    """
    height = _height(min(count, len(generator)))
    figure = new_figure(_CELL * views + 0.5, height, layout="constrained")
    _fill(figure, generator, count, views, seed_of)
    figure.suptitle(generator.title, fontsize=9)
    return figure


def _height(rows: int) -> float:
    return (_CELL + 0.15) * rows + 0.4


def _fill(figure: Figure | SubFigure, generator: AnomalyGenerator, count: int, views: int, seed_of: SeedOf) -> None:
    import numpy as np

    indices = np.unique(np.linspace(0, len(generator) - 1, min(count, len(generator))).round().astype(int)).tolist()
    axes = figure.subplots(len(indices), views, squeeze=False)
    for row, index in zip(axes, indices, strict=True):
        for view, axis in enumerate(row):
            _draw(axis, generator(index, seed_of(index, view)))
        row[0].set_ylabel(f"image {index}", fontsize=7)
    for view, axis in enumerate(axes[0]):
        axis.set_title(f"variant {view}", fontsize=7)


def _draw(axis: Axes, made: Synthetic) -> None:
    import numpy as np

    axis.imshow(made.image)
    axis.set_xticks([])
    axis.set_yticks([])
    marked = made.mask > 0
    axis.set_xlabel(f"{100 * marked.mean():.1f} %" if marked.any() else "clean", fontsize=6, labelpad=1)
    if marked.any():  # padded so that the outline closes at the frame
        places = np.arange(-1, marked.shape[1] + 1), np.arange(-1, marked.shape[0] + 1)
        axis.contour(*places, np.pad(marked, 1), levels=[0.5], colors=[_OUTLINE], linewidths=0.8)
        axis.set_xlim(-0.5, marked.shape[1] - 0.5)
        axis.set_ylim(marked.shape[0] - 0.5, -0.5)


FIGURE = AnomaliesFigure
