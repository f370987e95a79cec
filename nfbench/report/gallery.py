"""Pictures of a report: test images with their ground truth, their scores, and the maps that runs kept."""

import base64
import io
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image
from scipy.stats import rankdata

from nfbench.core.errors import NfbenchError
from nfbench.core.seals import verified
from nfbench.datasets._manifest import Entry, read_checked_image, read_checked_mask
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.results.examples import BY_SCORE, EXAMPLES, Examples, read_examples
from nfbench.results.files import ImageScore, file_of, read_rows
from nfbench.results.record import RunRecord, tested_images

__all__ = ["gallery"]

_log = logging.getLogger(__name__)
_PHOTO_SIDE = 256
"""Longest side of a photo or mask, in pixels."""
_MAP_SIDE = 192
"""Longest side of a map, in pixels. Maps are smooth; the page enlarges them to the size of the photo."""
_QUALITY = 60
_ALL_MAPS = "maps.npy"


@dataclass(frozen=True)
class _Shown:
    """The first seed of one method on a category.

    Attributes:
        cell: the run.
        scores: image scores by the image's number in the test split; untested images have none.
        places: 1 for the image with the highest score; equal scores share the best place.
        maps: kept maps, ``(N, H, W)``; None if there are none.
        rows: row in ``maps`` by the image's number.
        examples: images that each run of a category keeps maps of: one normal image and one of each kind of defect.
    """

    cell: Cell
    scores: dict[int, float]
    places: dict[int, int]
    maps: np.ndarray | None
    rows: dict[int, int]
    examples: list[int]

    def alarms(self, entries: Sequence[Entry]) -> list[int]:
        """The normal images with the highest scores, the highest first."""
        return self._ranked([number for number in self.scores if not entries[number].label], -1)

    def misses(self, entries: Sequence[Entry]) -> list[int]:
        """The anomalous images with the lowest scores, the lowest first."""
        return self._ranked([number for number in self.scores if entries[number].label], 1)

    def _ranked(self, numbers: Sequence[int], sign: int) -> list[int]:
        return sorted(numbers, key=lambda number: sign * self.scores[number])[:BY_SCORE]


def gallery(records: dict[Cell, RunRecord], paths: Paths, per_category: int) -> list[dict[str, Any]]:
    """Test images of each category, with scores and maps of the first seed of each method.

    Images are chosen in this order: the examples that runs keep maps of, the worst false alarms and misses of each
    method, then images at even distances in the ranking by mean place. The maps of a method on a category share one
    colour scale, from the lowest to the highest value of the kept maps.

    Args:
        records: run records by cell.
        paths: locations of all files.
        per_category: maximum number of images of each category.

    Returns:
        One entry per category: ``dataset``, ``category``, ``images`` and ``systems``. An image has its ``name``,
        ``label``, ``defect``, whether it is an ``example``, and ``image`` and ``truth`` as data URLs (``truth`` is
        empty without a mask). A system has its setting, method and backbone, the number of ``tested`` images, whether
        all anomalous images are ``separated`` from the normal ones, the positions in ``images`` of its worst ``alarms``
        and ``misses``, and in ``results`` for each image ``[score, place, map]``: None where the run did not test the
        image or kept no map of it. A category whose images are gone, or whose manifest has changed, has no entry.
    """
    shown = []
    for (dataset, category), cells in _first_seeds(records).items():
        try:
            entries = tested_images(records[cells[0]])
        except NfbenchError as error:
            _log.warning("no pictures of %s/%s: %s", dataset, category, error)
            continue
        systems = [_read(cell, records[cell], paths, entries) for cell in cells]
        examples = list(dict.fromkeys(number for system in systems for number in system.examples))
        chosen = _chosen(systems, examples, entries, per_category)
        if not chosen:
            continue
        images = [{**_picture(entries[number]), "example": number in examples} for number in chosen]
        drawn = [_drawn(system, chosen, entries) for system in systems]
        shown.append({"dataset": dataset, "category": category, "images": images, "systems": drawn})
    return shown


def _first_seeds(records: dict[Cell, RunRecord]) -> dict[tuple[str, str], list[Cell]]:
    """The first seed of each method by category, on unchanged images."""
    first: dict[tuple[str, ...], Cell] = {}
    for cell in sorted((cell for cell in records if not cell.condition), key=lambda cell: cell.seed):
        first.setdefault((cell.setting, cell.dataset, cell.category, cell.method, cell.backbone), cell)
    chosen = set(first.values())
    grouped: dict[tuple[str, str], list[Cell]] = {}
    for cell in (cell for cell in records if cell in chosen):
        grouped.setdefault((cell.dataset, cell.category), []).append(cell)
    return grouped


def _read(cell: Cell, record: RunRecord, paths: Paths, entries: Sequence[Entry]) -> _Shown:
    folder = paths.run_record(cell).parent
    number_of = {entry.image: number for number, entry in enumerate(entries)}
    rows = read_rows(ImageScore, folder) if (folder / file_of(ImageScore)).is_file() else []
    tested = [number_of.get(row.image) for row in rows]
    scores = {number: row.paper for number, row in zip(tested, rows, strict=True) if number is not None}
    places = rankdata([-score for score in scores.values()], method="min").astype(int).tolist() if scores else []
    examples = read_examples(folder) if (folder / EXAMPLES).is_file() else Examples([], [], [], {})
    maps = examples.maps.get("maps")
    kept: Sequence[int | None] = examples.numbers
    if _ALL_MAPS in record.written:
        maps, kept = np.load(verified(folder / _ALL_MAPS, folder / "run.json"), mmap_mode="r"), tested
    rows_of = {number: row for row, number in enumerate(kept) if number is not None}
    return _Shown(cell, scores, dict(zip(scores, places, strict=True)), maps, rows_of, examples.images)


def _chosen(systems: Sequence[_Shown], examples: Iterable[int], entries: Sequence[Entry], largest: int) -> list[int]:
    """Numbers of the images to show; only images that are still on disk."""
    ranks = zip_longest(*(ranked for system in systems for ranked in (system.alarms(entries), system.misses(entries))))
    worst = [number for of_rank in ranks for number in of_rank if number is not None]
    places: dict[int, list[float]] = {}
    for system in systems:
        for number, place in system.places.items():
            places.setdefault(number, []).append(place / len(system.places))
    ranked = sorted(places, key=lambda number: sum(places[number]) / len(places[number]))
    first = list(dict.fromkeys([*examples, *worst]))[:largest]
    others = [number for number in ranked if number not in first]
    room = min(largest - len(first), len(others))
    even = [others[place] for place in np.linspace(0, len(others) - 1, room).round().astype(int)]
    return [number for number in [*first, *even] if number < len(entries) and _is_file(entries[number].image)]


def _is_file(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False


def _picture(entry: Entry) -> dict[str, Any]:
    described = {"name": Path(entry.image).name, "label": entry.label, "defect": entry.defect}
    return {**described, "image": _data_url(read_checked_image(entry), _PHOTO_SIDE), "truth": _truth(entry)}


def _truth(entry: Entry) -> str:
    """The mask; empty if an anomalous image has none."""
    if entry.label and not entry.mask:
        return ""
    mask = read_checked_mask(entry) if entry.mask else np.zeros((entry.height, entry.width), dtype=bool)
    return _data_url(Image.fromarray(mask.astype(np.uint8) * 255), _PHOTO_SIDE)


def _drawn(system: _Shown, chosen: Sequence[int], entries: Sequence[Entry]) -> dict[str, Any]:
    """Scores, places and maps of the shown images."""
    cell, draw = system.cell, _painter(system)
    alarms, misses = system.alarms(entries), system.misses(entries)
    results = [
        [_short(system.scores[number]), system.places[number], draw(number)]
        if number in system.scores
        else [None, None, draw(number)]
        for number in chosen
    ]
    names = {"setting": cell.setting, "method": cell.method, "backbone": cell.backbone}
    return {
        **names,
        "tested": len(system.scores),
        "separated": bool(alarms and misses) and system.scores[alarms[0]] < system.scores[misses[0]],
        "alarms": [chosen.index(number) for number in alarms if number in chosen],
        "misses": [chosen.index(number) for number in misses if number in chosen],
        "results": results,
    }


def _painter(system: _Shown) -> Callable[[int], str | None]:
    """Return a function that draws the map of an image, or returns None without a map."""
    maps = system.maps
    if maps is None or not len(maps):
        return lambda number: None
    low, high = float(maps.min()), float(maps.max())

    def draw(number: int) -> str | None:
        if number not in system.rows:
            return None
        scaled = (np.asarray(maps[system.rows[number]], dtype=np.float32) - low) / ((high - low) or 1.0)
        colours = mpl.colormaps["inferno"](scaled, bytes=True)[..., :3]
        return _data_url(Image.fromarray(np.ascontiguousarray(colours)), _MAP_SIDE)

    return draw


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _data_url(image: Image.Image, side: int) -> str:
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
