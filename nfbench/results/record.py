"""The run record ``run.json``: everything that is known of one cell."""

from pathlib import Path
from typing import Any

from nfbench.core.files import read_model, write_json
from nfbench.core.record import Record
from nfbench.plan.cells import Cell
from nfbench.plan.specs import EvaluateSpec, ExtractSpec, StudySpec, TrainSpec
from nfbench.training.record import AnomaliesRecord, SearchRecord

__all__ = ["CellRecord", "RunRecord", "Selection", "SpecsRecord", "read_record", "write_record"]


class Selection(Record):
    """Metrics of one selection rule, in [0, 1], None where undefined."""

    epoch: int | dict[str, int]
    metrics: dict[str, float | None]


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

    @property
    def cell(self) -> Cell:
        """The cell alone."""
        return Cell(self.setting, self.dataset, self.category, self.method, self.backbone, self.seed)


class DataRecord(Record):
    """Images that went in.

    Attributes:
        n_train: normal images that the model was trained on, of all classes.
        n_val: normal images of all classes that were held out.
        classes: that the model was trained on, with the keys of their cached features.
        n_test_normal, n_test_anomalous: leave out those that were learned from, or that a search was judged by.
    """

    manifest: str
    manifest_sha256: str
    n_train: int
    n_val: int
    classes: dict[str, str]
    n_test_normal: int
    n_test_anomalous: int
    n_regions: int | None
    resolution: str
    anomalies: AnomaliesRecord | None


class FeatureRecord(Record):
    """Features that went in."""

    backbone: str
    weights: str
    weights_sha256: str
    levels: list[int]
    input_size: int
    train_key: str
    test_key: str
    pseudo_key: str | None


class Detections(Record):
    """Detected regions on normal test images: number per image (None without such images), and by image if any."""

    per_normal_image: float | None
    images: dict[str, int]


class SegmentationRecord(Record):
    """Thresholds of the last epoch, those of NFA in log10 NFA, and the false alarms that they give.

    Attributes:
        thresholds: by name, see ``nfbench.scoring.evaluate.Evaluation``.
        false_alarms: at the fair threshold, at NFA < 1 (``nfa``) and the same with the guard (``nfa_guard``).
    """

    thresholds: dict[str, float]
    false_alarms: dict[str, Detections]


class SpecsRecord(Record):
    """What the stages that made a run were told, in their order.

    Attributes:
        extract: of all features that were read, by training, search and evaluation.
        study: of the search for its settings, if any.
    """

    extract: list[ExtractSpec]
    study: StudySpec | None
    train: TrainSpec
    evaluate: EvaluateSpec


class RunRecord(Record):
    """One cell, trained and evaluated.

    Attributes:
        cell: which cell.
        settings: all settings of the method, defaults included.
        selections: metrics of ``last``, ``val`` and ``oracle``.
        by_epoch: metrics of all kept epochs.
        segmentation: thresholds and false alarms of the last epoch.
        data: images that went in.
        features: features that went in.
        parameters: trainable parameters by part, and ``total``.
        seconds: wall time of ``extract_train``, ``extract_test``, ``extract_pseudo`` if any, ``train``, ``score``,
            which is one pass over the test images, and ``log_nfa``, their maps of log NFA with and without the guard.
        images_per_second: throughput of extraction, of training and of scoring cached features.
        peak_memory_mb: largest resident memory of training and evaluation, and of the GPU if one was used.
        contour: threshold of the maps above which figures draw a contour.
        provenance: what made it, by stage.
        search: where settings were searched for.
        specs: what the stages that made it were told.
    """

    cell: CellRecord
    settings: dict[str, Any]
    selections: dict[str, Selection]
    by_epoch: dict[int, dict[str, float | None]]
    segmentation: SegmentationRecord
    data: DataRecord
    features: FeatureRecord
    parameters: dict[str, int]
    seconds: dict[str, float]
    images_per_second: dict[str, float]
    peak_memory_mb: dict[str, float]
    contour: float
    provenance: dict[str, dict[str, Any]]
    specs: SpecsRecord
    search: SearchRecord | None = None


def write_record(path: str | Path, record: RunRecord) -> None:
    """Writes ``run.json`` atomically."""
    write_json(path, record.model_dump(mode="json"))


def read_record(path: str | Path) -> RunRecord:
    """Reads ``run.json``.

    Raises:
        NfbenchError: the file is missing or does not have the form of a run record; names file and key.
    """
    return read_model(RunRecord, path)
