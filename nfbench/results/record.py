"""The run record ``run.json``: everything that is known of one cell."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_json, write_json
from nfbench.plan.cells import Cell

__all__ = ["CellRecord", "RunRecord", "Selection", "read_record", "write_record"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Selection(_Model):
    """Metrics of one selection rule, in [0, 1], None where undefined."""

    epoch: int | dict[str, int]
    metrics: dict[str, float | None]


class CellRecord(_Model):
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


class AnomaliesRecord(_Model):
    """Anomalous images that the method was trained with.

    Attributes:
        generator: of pseudo-anomalies, None without.
        views: cached variants of each image.
        online: whether each was made when it was asked for.
        repeats: how often each real anomaly, and a pseudo-anomaly made of it, came in an epoch.
        real: anomalous test images that were learned from and not tested on.
    """

    generator: str | None
    views: int
    online: bool
    repeats: int
    real: list[str]


class SearchRecord(_Model):
    """The search that settings come from.

    Attributes:
        objective: ``log_likelihood``, ``validation`` or ``test``.
        metric: that trials were judged by.
        trial: number of the one whose settings were taken, the best on the backbone, and its ``value``.
        chosen: whether the backbone is the best of those searched.
        settings: that were found.
        trials: number of them by the state in which they ended.
        seconds: of all trials.
        validation: test images that trials were judged by and that were not tested on.
    """

    objective: str
    metric: str
    trial: int
    value: float
    chosen: bool
    settings: dict[str, bool | int | float | str]
    trials: dict[str, int]
    seconds: float
    validation: list[str]


class DataRecord(_Model):
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


class FeatureRecord(_Model):
    """Features that went in."""

    backbone: str
    weights: str
    weights_sha256: str
    levels: list[int]
    input_size: int
    train_key: str
    test_key: str
    pseudo_key: str | None


class Detections(_Model):
    """Detected regions on normal test images: number per image (None without such images), and by image if any."""

    per_normal_image: float | None
    images: dict[str, int]


class SegmentationRecord(_Model):
    """Thresholds of the last epoch, those of NFA in log10 NFA, and the false alarms that they give.

    Attributes:
        thresholds: by name, see ``nfbench.scoring.evaluate.Evaluation``.
        false_alarms: at the fair threshold, at NFA < 1 (``nfa``) and the same with the guard (``nfa_guard``).
    """

    thresholds: dict[str, float]
    false_alarms: dict[str, Detections]


class RunRecord(_Model):
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
    search: SearchRecord | None = None


def write_record(path: str | Path, record: RunRecord) -> None:
    """Writes ``run.json`` atomically."""
    write_json(path, record.model_dump(mode="json"))


def read_record(path: str | Path) -> RunRecord:
    """Reads ``run.json``.

    Raises:
        NfbenchError: the file is missing or does not have the form of a run record; names file and key.
    """
    try:
        return RunRecord.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise NfbenchError(f"{path}: '{'.'.join(map(str, first['loc']))}': {first['msg']}") from None
