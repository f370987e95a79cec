"""What an evaluated run leaves beside its record, of the last epoch, for figures and for a closer look."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfbench.files import atomic_path, write_csv
from nfbench.metrics.calibration import chi_square_quantiles
from nfbench.metrics.iou import AGGREGATIONS
from nfbench.scoring.a_contrario import regions
from nfbench.scoring.evaluate import Evaluation
from nfbench.scoring.protocol import Scored

__all__ = ["write_artifacts"]

_EXAMPLE_DEFECTS = 4
_SUSPECTS = 2

_Rows = Iterator[tuple[Any, ...]]


def write_artifacts(run: Path, scored: Scored, likelihoods: Mapping[str, Sequence[tuple[Any, ...]]]) -> None:
    """Writes the files that go with a run record.

    ``scores.csv``: image scores by rule. ``regions.csv``: regions with NFA < 1 by image, in pixels of the map, of the
    maps ``nfa`` and ``nfa_guard``. ``miou.csv``: mean IoU against the threshold, by map. ``calibration.csv``: quantiles
    of the latents of normal images. ``likelihoods.csv``: histograms of the log-likelihoods of positions in nats per
    dimension, before and after training, empty for methods without such. ``examples.npz``: ``index``, ``maps``, ``nfa``
    and ``nfa_guard`` of a few images; ``suspect`` marks normal images, those that look most anomalous.
    """
    write_csv(run / "scores.csv", ("image", "label", "defect", *scored.test.images), _scores(scored))
    box = ("top", "left", "bottom", "right")
    write_csv(run / "regions.csv", ("image", "label", "map", "area", *box, "log_nfa"), _regions(scored))
    write_csv(run / "miou.csv", ("map", "threshold", *AGGREGATIONS), _curves(scored.evaluation))
    write_csv(
        run / "calibration.csv",
        ("images", "scale", "channels", "probability", "expected", "observed"),
        _calibration(scored),
    )
    write_csv(
        run / "likelihoods.csv",
        ("moment", "level", "group", "left", "right", "share"),
        ((moment, *row) for moment, rows in likelihoods.items() for row in rows),
    )
    _write_examples(run / "examples.npz", scored)


def _scores(scored: Scored) -> _Rows:
    by_image = zip(*(values.tolist() for values in scored.test.images.values()), strict=True)
    for entry, values in zip(scored.truth.entries, by_image, strict=True):
        yield entry.image, entry.label, entry.defect, *values


def _regions(scored: Scored) -> _Rows:
    for name, maps in scored.log_nfa.items():
        for entry, log_nfa in zip(scored.truth.entries, maps, strict=True):
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
        sets = {"training": scored.normal.energies[scale], "test": scored.test.energies[scale][normal_test]}
        for name, energies in sets.items():
            for quantile in chi_square_quantiles(energies, channels) if energies.size else ():
                yield name, scale, channels, *quantile


def _write_examples(path: Path, scored: Scored) -> None:
    """One normal image, one of each of the first kinds of defect, the middle ones by name; and the suspects."""
    entries = scored.truth.entries
    normal = [index for index, entry in enumerate(entries) if not entry.label]
    kinds = sorted({entry.defect for entry in entries if entry.label})[:_EXAMPLE_DEFECTS]
    groups = [normal, *([index for index, entry in enumerate(entries) if entry.defect == kind] for kind in kinds)]
    chosen = [group[len(group) // 2] for group in groups if group]
    by_score = np.argsort(-scored.test.images["paper"], kind="stable")
    suspects = [index for index in by_score if not scored.truth.labels[index] and index not in chosen][:_SUSPECTS]
    index = np.array(chosen + suspects)
    arrays = {"maps": scored.test.maps[index], **{name: maps[index] for name, maps in scored.log_nfa.items()}}
    with atomic_path(path) as temporary:
        np.savez_compressed(temporary, index=index, suspect=np.arange(len(index)) >= len(chosen), **arrays)
