"""The run record ``run.json``: everything known about one cell."""

from operator import not_
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt
from pydantic_core import PydanticCustomError

from nfbench.config import condition_of
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import file_sha256
from nfbench.core.record import Record
from nfbench.core.seals import KnownFile, read_sealed, write_sealed
from nfbench.datasets._manifest import Entry, read_manifest, view_entries
from nfbench.features.recipe import Recipe
from nfbench.metrics import ThresholdSource, known_metrics
from nfbench.plan.cells import Cell
from nfbench.plan.origin import digest_of
from nfbench.plan.specs import EvaluateSpec, ExtractSpec, ScoreSpec, StudySpec, TrainSpec
from nfbench.results.latency import Latency
from nfbench.training.record import AnomaliesRecord, SearchRecord

__all__ = [
    "CellRecord",
    "RunRecord",
    "Selection",
    "SpecsRecord",
    "StaleRecord",
    "lacking_images",
    "manifest_of",
    "read_expected",
    "read_record",
    "tested_images",
    "write_record",
]

_ROUNDING = 1e-9


class StaleRecord(NfbenchError):
    """A valid record of other settings, images or code than those of the plan."""


def _check_metrics(metrics: dict[str, float | None]) -> dict[str, float | None]:
    for name, value in metrics.items():
        unit = known_metrics()[name].metric.unit if name in known_metrics() else None  # else its file is gone
        if unit and value is not None and not -_ROUNDING <= value <= unit.largest + _ROUNDING:
            raise PydanticCustomError("range", f"{name} is {value:g}, which is not in [0, {unit.largest:g}]")
    return metrics


Metrics = Annotated[dict[str, float | None], AfterValidator(_check_metrics)]
"""Values in the range of each metric's unit; None where undefined."""


class Selection(Record):
    """Metrics of one selection rule."""

    epoch: int | dict[str, int]
    metrics: Metrics


class CellRecord(Record):
    """A cell as in ``nfbench.plan.cells``, the method behind its variant, and its names in papers and tables."""

    setting: str
    dataset: str
    category: str
    method: str
    backbone: str
    seed: int
    variant_of: str
    method_title: str
    title: str
    condition: Annotated[str, Field(exclude_if=not_)] = ""

    @property
    def cell(self) -> Cell:
        """The cell without the other names."""
        place = (self.setting, self.dataset, self.category, self.method, self.backbone)
        return Cell(*place, self.seed, self.condition)


def lacking_images(n_normal: int, n_anomalous: int) -> str:
    """Which kind of test images is missing, in words; empty if there are normal and anomalous ones."""
    kind = "anomalous " if n_normal else "normal " if n_anomalous else ""
    return "" if n_normal and n_anomalous else f"no {kind}test images"


class DataRecord(Record):
    """Images that the run used.

    Attributes:
        n_train: normal images of all classes that the model was trained on.
        n_val: held-out normal images of all classes.
        n_validation: normal images of the category's validation split, not used in training.
        classes: classes that the model was trained on, with the keys of their cached features.
        n_test_normal, n_test_anomalous: tested images, without those used for training or by a search.
        n_defects: kinds of defect among the test images.
        image_side: longest side of a test image, in pixels.
    """

    manifest: str
    manifest_sha256: str
    n_train: NonNegativeInt
    n_val: NonNegativeInt
    n_validation: NonNegativeInt = 0
    classes: dict[str, str]
    n_test_normal: NonNegativeInt
    n_test_anomalous: NonNegativeInt
    n_regions: NonNegativeInt | None
    n_defects: NonNegativeInt
    image_side: NonNegativeInt
    resolution: str
    anomalies: AnomaliesRecord | None

    @property
    def lacking(self) -> str:
        """Which kind of test images is missing, in words, because metrics may then be undefined; empty otherwise."""
        return lacking_images(self.n_test_normal, self.n_test_anomalous)


class FeatureRecord(Record):
    """Features that the run used."""

    recipe: Recipe
    train_key: str
    test_key: str
    pseudo_key: str | None


class Detections(Record):
    """Detected regions on normal test images: mean number per image (None without images), and number by image."""

    per_normal_image: float | None
    images: dict[str, int]


class ThresholdImages(Record):
    """Normal images that thresholds come from; their scores are in ``thresholds.json``.

    Attributes:
        source: kind of these images.
        n_images: number of images.
    """

    source: ThresholdSource
    n_images: NonNegativeInt


class SegmentationRecord(Record):
    """Thresholds of the last epoch, in log10 NFA for NFA, and their false alarms.

    Attributes:
        thresholds: by name, see ``nfbench.scoring.evaluate.Evaluation``.
        false_alarms: at the fair threshold, at NFA < 1 (``nfa``) and the same with the guard (``nfa_guard``).
        threshold_images: images that thresholds without anomalies come from.
    """

    thresholds: dict[str, float]
    false_alarms: dict[str, Detections]
    threshold_images: ThresholdImages


class SpecsRecord(Record):
    """Specs of the stages that made a run, in order.

    Attributes:
        extract: specs of all features read by training, search and evaluation.
        study: spec of the search for the settings, if any.
    """

    extract: list[ExtractSpec]
    study: StudySpec | None
    train: TrainSpec
    score: ScoreSpec
    evaluate: EvaluateSpec


class RunRecord(Record):
    """One cell, trained and evaluated.

    Attributes:
        cell: the cell.
        settings: all settings of the method, defaults included.
        selections: metrics of ``last``, ``val`` and ``oracle``.
        by_epoch: metrics of all kept epochs.
        segmentation: thresholds and false alarms of the last epoch.
        data: images that the run used.
        features: features that the run used.
        parameters: trainable parameters by part, and ``total``.
        seconds: wall time of ``extract_train``, ``extract_test``, ``extract_pseudo`` if any, ``train``,
            ``cross_fit`` if any, ``score`` (one pass over the test images) and ``log_nfa`` (their log-NFA maps with and
            without the guard).
        images_per_second: throughput of extraction, of training and of scoring cached features.
        peak_memory_mb: peak resident memory of training, scoring and evaluation, and of the GPU if one was used.
        contour: threshold of the maps above which figures draw a contour; None without maps.
        provenance: code, packages, machine and commands, by stage.
        search: search for the settings, if any.
        specs: specs of the stages that made the run.
        latency: times from an image file to its score and map; None if no table or figure needs them.
        written: files that the evaluation wrote next to the record.
    """

    cell: CellRecord
    settings: dict[str, Any]
    selections: dict[str, Selection]
    by_epoch: dict[int, Metrics]
    segmentation: SegmentationRecord
    data: DataRecord
    features: FeatureRecord
    parameters: dict[str, NonNegativeInt]
    seconds: dict[str, NonNegativeFloat]
    images_per_second: dict[str, NonNegativeFloat]
    peak_memory_mb: dict[str, NonNegativeFloat]
    contour: float | None
    provenance: dict[str, dict[str, Any]]
    specs: SpecsRecord
    search: SearchRecord | None = None
    latency: Latency | None = None
    written: dict[str, KnownFile] = {}

    @property
    def epochs(self) -> int:
        """Passes over the training images; 0 if nothing is trained by gradient."""
        return max(self.by_epoch)


def write_record(path: str | Path, record: RunRecord) -> None:
    """Write ``run.json`` atomically."""
    write_sealed(path, record)


def read_record(path: str | Path) -> RunRecord:
    """Read ``run.json``.

    Raises:
        NfbenchError: the file is missing, is not a run record, or has changed; names file and key.
    """
    return read_sealed(RunRecord, path)


def tested_images(record: RunRecord) -> list[Entry]:
    """Test images of the manifest that a run was evaluated on, shifted as it saw them; see ``manifest_of``."""
    return view_entries(manifest_of(record), condition_of(record.cell.condition).test_view)


def manifest_of(record: RunRecord) -> list[Entry]:
    """Read the manifest that a run was evaluated on.

    Raises:
        NfbenchError: the manifest is missing, or has changed.
    """
    path = record.data.manifest
    entries = read_manifest(path)
    if file_sha256(path) != record.data.manifest_sha256:
        raise NfbenchError(
            f"manifest {path} is not the one that {record.cell.cell} was evaluated on; remove it and run 'snakemake "
            f"--cores all {path}'"
        )
    return entries


def read_expected(path: str | Path, cell: Cell, digest: str) -> RunRecord:
    """Read the record of a cell and check it against the plan.

    Args:
        path: ``run.json``.
        cell: the cell.
        digest: short hash of the evaluation's spec; empty accepts any.

    Raises:
        NfbenchError: the record cannot be used, or belongs to another cell.
        StaleRecord: the record was made with other settings, images or code.
    """
    record = read_record(path)
    if record.cell.cell != cell:
        raise NfbenchError(f"{path} is the record of another cell, {record.cell.cell}")
    if digest and digest_of(record.specs.evaluate) != digest:
        raise StaleRecord(f"{path} was made with other settings, images or code; run 'snakemake' to make it again")
    return record
