"""The CSV files of a run, and the types of their rows."""

import csv
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

from nfbench.core.errors import NfbenchError
from nfbench.core.files import unshield, write_csv
from nfbench.core.seals import verified

__all__ = [
    "Bin",
    "DetectedRegion",
    "Epoch",
    "ImageScore",
    "ImageValue",
    "MeanIou",
    "Quantile",
    "Row",
    "file_of",
    "read_rows",
    "record_of",
    "write_rows",
]


class Epoch(NamedTuple):
    """An epoch of a training; losses of flows and likelihoods are in nats per dimension."""

    epoch: int
    loss: float
    val_log_likelihood: float | None
    lr: float | None
    seconds: float


class ImageScore(NamedTuple):
    """Scores of a test image by rule; without maps, by the paper's rule only. ``label`` is 1 if anomalous."""

    image: str
    label: int
    defect: str
    paper: float
    max: float | None
    mean: float | None
    top1: float | None


class ImageValue(NamedTuple):
    """Value of a test image by a ``metric`` that is a mean over images; images without a value are left out."""

    metric: str
    image: str
    defect: str
    value: float


class DetectedRegion(NamedTuple):
    """A region with NFA < 1 in a log-NFA ``map`` of a test image, in pixels of the map; see ``a_contrario.Region``."""

    image: str
    label: int
    map: str
    area: int
    top: int
    left: int
    bottom: int
    right: int
    log_nfa: float


class MeanIou(NamedTuple):
    """Mean IoU by aggregation at a threshold of the map ``score`` or ``nfa``."""

    map: str
    threshold: float
    all: float
    anomalous: float
    pooled: float


class Quantile(NamedTuple):
    """A quantile of the latents of normal ``training`` or ``test`` images, divided by the number of channels."""

    images: str
    scale: int
    channels: int
    probability: float
    expected: float
    observed: float


class Bin(NamedTuple):
    """Share of a group's positions with a log-likelihood between two values, ``before`` or ``after`` training."""

    moment: str
    level: int
    group: str
    left: float
    right: float
    share: float


Row = TypeVar("Row", Epoch, ImageScore, ImageValue, DetectedRegion, MeanIou, Quantile, Bin)

_FILES: dict[type, str] = {
    Epoch: "history.csv",
    ImageScore: "scores.csv",
    ImageValue: "by_image.csv",
    DetectedRegion: "regions.csv",
    MeanIou: "miou.csv",
    Quantile: "calibration.csv",
    Bin: "likelihoods.csv",
}

_PARSERS: dict[Any, Callable[[str], Any]] = {
    str: unshield,
    int: int,
    float: float,
    float | None: lambda text: float(text) if text else None,
}


def file_of(kind: type[Row]) -> str:
    """Name of the file with rows of ``kind``."""
    return _FILES[kind]


def record_of(kind: type[Row]) -> str:
    """Name of the record that lists the file of ``kind``."""
    return "training.json" if kind is Epoch else "run.json"


def read_rows(kind: type[Row], folder: Path) -> list[Row]:
    """Read the file of ``kind`` in the folder of a run or training.

    Raises:
        NfbenchError: the file is missing, or differs from its record; names the file.
    """
    path = verified(folder / file_of(kind), folder / record_of(kind))
    with open(path, newline="") as file:
        header, *lines = list(csv.reader(file)) or [[]]
    if tuple(header) != kind._fields:
        raise NfbenchError(f"{path} does not have the columns {', '.join(kind._fields)}; remove it and run again")
    parsers = [_PARSERS[found] for found in get_type_hints(kind).values()]
    rows = []
    for number, line in enumerate(lines, start=2):
        try:
            rows.append(kind(*(parse(text) for parse, text in zip(parsers, line, strict=True))))
        except ValueError:
            raise NfbenchError(f"{path}, line {number} is damaged or cut short; remove it and run again") from None
    return rows


def write_rows(kind: type[Row], folder: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write the file of ``kind``, with the values of each row in the order of its fields."""
    write_csv(folder / file_of(kind), kind._fields, rows)
