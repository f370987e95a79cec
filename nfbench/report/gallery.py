"""Pictures of a report: a few test images with their ground truth and the maps of every method, in small."""

import base64
import io
import logging
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import Entry, read_checked_image, read_checked_mask
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.results.examples import EXAMPLES, read_examples
from nfbench.results.record import RunRecord, tested_images

__all__ = ["gallery"]

_log = logging.getLogger(__name__)
SIDE = 128
"""Longest side of a picture, in pixels."""
_QUALITY = 60


def gallery(records: dict[Cell, RunRecord], paths: Paths, per_category: int) -> list[dict[str, Any]]:
    """Examples of each category, from the first seed of each method.

    Maps of one method and category share their colours, from the lowest to the highest value of its examples.

    Args:
        records: run records by cell.
        paths: where things lie.
        per_category: number of images of each category.

    Returns:
        One entry per image: ``dataset``, ``category``, ``defect``, ``image`` and ``truth`` as data URLs (``truth``
        empty without a mask), and ``maps``: setting, method, backbone and data URL of each. A category whose images are
        no longer there, or whose manifest is another one by now, has none.
    """
    shown = []
    for (dataset, category), cells in _first_seeds(records).items():
        with_examples = [cell for cell in cells if (paths.run_record(cell).parent / EXAMPLES).is_file()]
        if not with_examples:
            continue
        try:
            entries = tested_images(records[cells[0]])
        except NfbenchError as error:
            _log.warning("no pictures of %s/%s: %s", dataset, category, error)
            continue
        examples = {cell: read_examples(paths.run_record(cell).parent) for cell in with_examples}
        for index in _chosen(examples[with_examples[0]].images, entries, per_category):
            rows = {cell: found.row(index) for cell, found in examples.items()}
            drawn = [
                [cell.setting, cell.method, cell.backbone, _map(examples[cell].maps["maps"], row)]
                for cell, row in rows.items()
                if row is not None
            ]
            place = {"dataset": dataset, "category": category, "defect": entries[index].defect}
            shown.append({**place, "image": _photo(entries[index]), "truth": _truth(entries[index]), "maps": drawn})
    return shown


def _first_seeds(records: dict[Cell, RunRecord]) -> dict[tuple[str, str], list[Cell]]:
    """The first seed of each method by category."""
    first: dict[tuple[str, ...], Cell] = {}
    for cell in sorted(records, key=lambda cell: cell.seed):
        first.setdefault((cell.setting, cell.dataset, cell.category, cell.method, cell.backbone), cell)
    chosen = set(first.values())
    grouped: dict[tuple[str, str], list[Cell]] = {}
    for cell in (cell for cell in records if cell in chosen):
        grouped.setdefault((cell.dataset, cell.category), []).append(cell)
    return grouped


def _chosen(examples: Sequence[int], entries: Sequence[Entry], number: int) -> list[int]:
    """Anomalous images first, and one normal image at the end; those that are still on disk."""
    there = [index for index in examples if index < len(entries) and _is_file(entries[index].image)]
    anomalous = [index for index in there if entries[index].label]
    normal = [index for index in there if not entries[index].label]
    return [*anomalous[: max(1, number - 1)], *normal[:1]][:number]


def _is_file(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False


def _photo(entry: Entry) -> str:
    return _data_url(read_checked_image(entry))


def _truth(entry: Entry) -> str:
    """The mask; empty where an anomalous image has none."""
    if entry.label and not entry.mask:
        return ""
    mask = read_checked_mask(entry) if entry.mask else np.zeros((entry.height, entry.width), dtype=bool)
    return _data_url(Image.fromarray(mask.astype(np.uint8) * 255))


def _map(maps: np.ndarray, number: int) -> str:
    low, high = float(maps.min()), float(maps.max())
    scaled = (maps[number].astype(np.float32) - low) / ((high - low) or 1.0)
    colours = mpl.colormaps["inferno"](scaled, bytes=True)[..., :3]
    return _data_url(Image.fromarray(np.ascontiguousarray(colours)))


def _data_url(image: Image.Image) -> str:
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "webp", quality=_QUALITY, method=2)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
