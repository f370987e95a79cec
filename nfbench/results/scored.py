"""Scores and maps of a run, passed from scoring to evaluation."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nfbench.core import scratch
from nfbench.core.errors import NfbenchError
from nfbench.core.files import atomic_path
from nfbench.core.record import Record
from nfbench.core.seals import KnownFile, read_sealed, verified
from nfbench.datasets._manifest import Entry
from nfbench.features.meta import FeatureMeta
from nfbench.metrics import ThresholdSource
from nfbench.metrics._tails import NormalScores
from nfbench.plan.cells import Cell
from nfbench.plan.paths import SCORED
from nfbench.plan.specs import ScoreSpec
from nfbench.results.artifacts import write_npz
from nfbench.results.files import Bin, file_of
from nfbench.results.latency import Latency
from nfbench.results.representations import REPRESENTATIONS
from nfbench.scoring.maps import ScoredImages
from nfbench.scoring.protocol import ScoredViews
from nfbench.training.record import TrainingRecord

__all__ = [
    "COPIED",
    "VARIANCES",
    "ScoringRecord",
    "load_scored",
    "load_variances",
    "save_scored",
    "tested_entries",
    "training_of",
]

COPIED = (file_of(Bin), REPRESENTATIONS)
"""Files that the evaluation copies into the folder of the run."""

VARIANCES = "variances.npz"
_RECORD = Path(SCORED).name


class ScoringRecord(Record):
    """Scores and maps for the evaluation.

    Attributes:
        spec: spec of the stage.
        epochs: kept epochs, ascending.
        train_features, features: descriptions of the category's training and test features.
        peak_memory_mb: peak memory by kind.
        latency: latency of single images and batches, if requested.
        written: files next to the record.
    """

    spec: ScoreSpec
    epochs: list[int]
    train_features: FeatureMeta
    features: FeatureMeta
    peak_memory_mb: dict[str, float]
    latency: Latency | None = None
    provenance: dict[str, Any]
    written: dict[str, KnownFile]


def training_of(trained: str, cell: Cell) -> TrainingRecord:
    """Read the record of the training behind a cell.

    Raises:
        NfbenchError: the record cannot be used, or belongs to another cell.
    """
    source = Path(trained, "training.json")
    training = read_sealed(TrainingRecord, source)
    if training.spec.cell != cell.trained:
        raise NfbenchError(f"{source} is the training of {training.spec.cell}, not of {cell.trained}; train again")
    return training


def tested_entries(
    training: TrainingRecord, images: Sequence[Entry], manifest: str, left_out: Collection[int]
) -> dict[int, Entry]:
    """Test images by number, without those used for training or by a search, and those of numbers ``left_out``.

    Raises:
        NfbenchError: a used image is not in the manifest.
    """
    learned = set(training.anomalies.real if training.anomalies else ())
    learned |= set(training.search.validation if training.search else ())
    unknown = sorted(learned - {entry.image for entry in images})
    if unknown:
        raise NfbenchError(
            f"{training.spec.run}/training.json: the training used {unknown[0]}, which is not in the test split of "
            f"manifest {manifest}; train again"
        )
    return {i: entry for i, entry in enumerate(images) if entry.image not in learned and i not in left_out}


def save_scored(folder: Path, epoch: int, scored: ScoredViews) -> list[str]:
    """Write the scores and maps of an epoch; return the names of the files. Each array of images has its own file."""
    arrays = {"seconds": np.array(scored.seconds), "source": np.array(scored.source)}
    sets = {"test": (scored.test, scored.normal)} | ({"published": scored.published} if scored.published else {})
    for name, (images, normal) in sets.items():
        arrays |= {f"{name}.images.{rule}": values for rule, values in images.images.items()}
        arrays |= _scales(f"{name}.energies", images.energies)
        arrays[f"{name}.channels"] = np.array(images.channels, dtype=int)
        if images.maps is not None:
            arrays[f"{name}.maps"] = images.maps
        arrays |= {f"{name}.normal.{key}": values for key, values in normal.arrays().items()}
    arrays |= _scales("normal", scored.normal_energies)
    large = {f"{epoch}-{key}.npy": values for key, values in arrays.items() if values.ndim == 3}
    for name, values in large.items():
        with atomic_path(folder / name) as temporary:
            scratch.save(temporary, values)
    write_npz(folder / f"{epoch}.npz", {key: values for key, values in arrays.items() if values.ndim < 3})
    return [f"{epoch}.npz", *large]


def load_scored(record: ScoringRecord, folder: Path, epoch: int) -> ScoredViews:
    """Read the scores of an epoch; maps and energies are memory-mapped.

    Raises:
        NfbenchError: a file is missing or has changed.
    """
    known = folder / _RECORD
    with np.load(verified(folder / f"{epoch}.npz", known)) as archive:
        arrays = dict(archive)
    for name in record.written:
        if name.startswith(f"{epoch}-"):
            key = name.removeprefix(f"{epoch}-").removesuffix(".npy")
            arrays[key] = np.load(verified(folder / name, known), mmap_mode="r")

    def images_of(name: str) -> tuple[ScoredImages, NormalScores]:
        normal = NormalScores.from_arrays(_under(f"{name}.normal", arrays))
        energies = _of_scales(f"{name}.energies", arrays)
        channels = tuple(arrays[f"{name}.channels"].tolist())
        return ScoredImages(arrays.get(f"{name}.maps"), _under(f"{name}.images", arrays), energies, channels), normal

    test, normal = images_of("test")
    source: ThresholdSource = arrays["source"].item()
    published = images_of("published") if "published.channels" in arrays else None
    return ScoredViews(test, _of_scales("normal", arrays), normal, source, published, arrays["seconds"].item())


def load_variances(record: ScoringRecord, folder: Path) -> np.ndarray | None:
    """Read predicted variances of the examples ``(N, H, W)``; None for methods without them.

    Raises:
        NfbenchError: the file is missing or has changed.
    """
    if VARIANCES not in record.written:
        return None
    with np.load(verified(folder / VARIANCES, folder / _RECORD)) as archive:
        return archive["variances"]


def _scales(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {f"{name}.{scale}": values for scale, values in enumerate(arrays)}


def _of_scales(name: str, arrays: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    found = _under(name, arrays)
    return tuple(found[str(scale)] for scale in range(len(found)))


def _under(name: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {key.removeprefix(f"{name}."): values for key, values in arrays.items() if key.startswith(f"{name}.")}
