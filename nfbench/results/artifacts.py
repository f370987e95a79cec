"""Files that an evaluation writes next to the run record, for figures and inspection; last epoch only."""

import io
import math
import zipfile
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nfbench.core import scratch
from nfbench.core.files import atomic_path
from nfbench.datasets._manifest import Entry
from nfbench.metrics._calibration import chi_square_quantiles
from nfbench.metrics._iou import AGGREGATIONS
from nfbench.results.examples import BY_SCORE, EXAMPLES
from nfbench.results.files import Bin, DetectedRegion, ImageScore, ImageValue, MeanIou, Quantile, write_rows
from nfbench.results.representations import REPRESENTATIONS
from nfbench.scoring.a_contrario import regions
from nfbench.scoring.evaluate import Evaluation
from nfbench.scoring.maps import IMAGE_SCORES
from nfbench.scoring.protocol import Scored
from nfbench.scoring.representations import Representation

__all__ = [
    "ChosenExamples",
    "choose_examples",
    "write_artifacts",
    "write_likelihoods",
    "write_npz",
    "write_representations",
]

_EXAMPLE_DEFECTS = 4

_Rows = Iterator[tuple[Any, ...]]


def write_artifacts(
    run: Path,
    scored: Scored,
    images: Sequence[Entry],
    variances: np.ndarray | None = None,
) -> None:
    """Write the files next to a run record that are computed from its scores and maps.

    ``scores.csv``: image scores by rule. ``by_image.csv``: values of images by metric. ``regions.csv``: regions with
    NFA < 1 by image, in pixels of the map, of the maps ``nfa`` and ``nfa_guard``. ``miou.csv``: mean IoU against the
    threshold, by map. ``calibration.csv``: quantiles of the latents of normal images. ``examples.npz``: ``index``,
    ``maps``, ``nfa``, ``nfa_guard`` and predicted ``variances`` of a few images; ``suspect`` marks the normal images
    with the highest scores, and ``miss`` the anomalous images with the lowest.

    Args:
        run: folder of the run.
        scored: scores of the tested images.
        images: the test split of the manifest, including images that the run used for training or search and did not
            test; ``index`` refers to it.
        variances: predicted variances of the rows of ``choose_examples``; None without.
    """
    write_rows(ImageScore, run, _scores(scored))
    write_rows(ImageValue, run, _values(scored))
    write_rows(DetectedRegion, run, _regions(scored))
    write_rows(MeanIou, run, _curves(scored.evaluation))
    write_rows(Quantile, run, _calibration(scored))
    _write_examples(run / EXAMPLES, scored, images, variances)


def write_likelihoods(run: Path, likelihoods: Mapping[str, Iterable[tuple[Any, ...]]]) -> None:
    """Write ``likelihoods.csv``: histograms of positions' log-likelihoods, nats per dimension, by moment."""
    write_rows(Bin, run, ((moment, *row) for moment, rows in likelihoods.items() for row in rows))


def write_representations(run: Path, representations: Sequence[Representation]) -> None:
    """Write ``representations.npz``: deviations of dimensions and projections of positions, numbers as float32."""
    arrays = {}
    for name, level, *values in representations:
        for field, array in zip(Representation._fields[2:], values, strict=True):
            arrays[f"{name}/{level}/{field}"] = array.astype(np.float32) if array.dtype.kind == "f" else array
    write_npz(run / REPRESENTATIONS, arrays)


def _scores(scored: Scored) -> _Rows:
    images = scored.test.images
    nothing = [None] * len(images["paper"])
    by_image = zip(*(images[rule].tolist() if rule in images else nothing for rule in IMAGE_SCORES), strict=True)
    for entry, values in zip(scored.truth.entries, by_image, strict=True):
        yield entry.image, entry.label, entry.defect, *values


def _values(scored: Scored) -> _Rows:
    for name, values in scored.evaluation.by_image.items():
        for entry, value in zip(scored.truth.entries, values.tolist(), strict=True):
            if not math.isnan(value):
                yield name, entry.image, entry.defect, value


def _regions(scored: Scored) -> _Rows:
    for name, maps in scored.log_nfa.items():
        for entry, log_nfa in zip(scored.truth.entries, scratch.walk(maps), strict=True):
            for region in regions(log_nfa):
                yield entry.image, entry.label, name, *region


def _curves(evaluation: Evaluation) -> _Rows:
    for name, curve in evaluation.curves.items():
        columns = (curve.thresholds, *(curve.miou[key] for key in AGGREGATIONS))
        for row in zip(*(column.tolist() for column in columns), strict=True):
            yield name, *row


def _calibration(scored: Scored) -> _Rows:
    normal_test = scored.truth.labels == 0
    for scale, channels in enumerate(scored.test.channels):
        sets = {"training": scored.normal_energies[scale], "test": scored.test.energies[scale][normal_test]}
        for name, energies in sets.items():
            for quantile in chi_square_quantiles(energies, channels) if energies.size else ():
                yield name, scale, channels, *quantile


class ChosenExamples(NamedTuple):
    """Images that a run keeps maps of.

    Attributes:
        numbers: their numbers in the test split: examples of each kind, then suspects, then misses.
        rows: their rows among the tested images.
        n_suspects: number of normal images that were chosen by their scores.
        n_misses: number of anomalous images that were chosen by their scores.
    """

    numbers: list[int]
    rows: list[int]
    n_suspects: int
    n_misses: int


def choose_examples(scores: np.ndarray, tested: Sequence[Entry], images: Sequence[Entry]) -> ChosenExamples:
    """Choose the images whose maps are kept.

    These are the middle ones, by name, of the normal images and of each of the first kinds of defect, then the normal
    images with the highest scores and the anomalous images with the lowest.

    Args:
        scores: of the tested images, ``(N,)``.
        tested: the tested images.
        images: the test split of the manifest.
    """
    rows = {entry.image: row for row, entry in enumerate(tested)}
    row_of = {number: rows[entry.image] for number, entry in enumerate(images) if entry.image in rows}
    normal = [number for number, entry in enumerate(images) if not entry.label]
    kinds = sorted({entry.defect for entry in images if entry.label})[:_EXAMPLE_DEFECTS]
    groups = [normal, *([number for number, entry in enumerate(images) if entry.defect == kind] for kind in kinds)]
    chosen = [number for group in groups for number in _middle(group, row_of)]
    others = sorted(row_of.keys() - set(chosen), key=lambda number: (-scores[row_of[number]], number))
    suspects = [number for number in others if not images[number].label][:BY_SCORE]
    misses = [number for number in reversed(others) if images[number].label][:BY_SCORE]
    numbers = chosen + suspects + misses
    return ChosenExamples(numbers, [row_of[number] for number in numbers], len(suspects), len(misses))


def _write_examples(path: Path, scored: Scored, images: Sequence[Entry], variances: np.ndarray | None) -> None:
    chosen = choose_examples(scored.test.images["paper"], scored.truth.entries, images)
    found = {**scored.log_nfa} if scored.test.maps is None else {"maps": scored.test.maps, **scored.log_nfa}
    arrays = {name: maps[chosen.rows] for name, maps in found.items()}
    if variances is not None:
        arrays["variances"] = variances
    place, n_suspects, n_misses = np.arange(len(chosen.rows)), chosen.n_suspects, chosen.n_misses
    miss = place >= len(place) - n_misses
    suspect = (place >= len(place) - n_misses - n_suspects) & ~miss
    write_npz(path, {"index": np.array(chosen.numbers), "suspect": suspect, "miss": miss, **arrays})


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write like ``numpy.savez_compressed``, but without time stamps: equal arrays give equal files."""
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.save(buffer, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED)


def _middle(group: Sequence[int], tested: Container[int]) -> list[int]:
    """The tested image nearest to the middle of a group, so that runs with different test sets show the same one."""
    places = [place for place, number in enumerate(group) if number in tested]
    return [group[min(places, key=lambda place: abs(place - len(group) // 2))]] if places else []
