"""The record of a training, ``training.json``: the part of the run record that is known by then."""

from typing import Any

from nfbench.core.record import Record
from nfbench.core.seals import KnownFile
from nfbench.features.meta import FeatureMeta
from nfbench.plan.specs import ExtractSpec, StudySpec, TrainSpec

__all__ = ["AnomaliesRecord", "ClassRecord", "SearchRecord", "TrainingRecord"]


class AnomaliesRecord(Record):
    """Anomalous images that the method was trained with.

    Attributes:
        generator: of pseudo-anomalies, None without.
        views: cached variants of each image.
        online: whether each was made when it was asked for.
        repeats: number of times that each real anomaly, and a pseudo-anomaly made from it, came in an epoch.
        real: anomalous test images that were learned from and not tested on.
    """

    generator: str | None
    views: int
    online: bool
    repeats: int
    real: list[str]


class SearchRecord(Record):
    """Search that chose the settings.

    Attributes:
        objective: ``log_likelihood``, ``validation`` or ``test``.
        metric: that trials were judged by.
        trial: number of the trial whose settings were taken, the best on the backbone, and its ``value``.
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


class ClassRecord(Record):
    """Training images of one class.

    Attributes:
        key: of its cached features.
        held_out: rows of these features that were held out.
        n_validation: number of validation images, which are the last rows of these features.
        pseudo_key, pseudo_seconds: of its cached pseudo-anomalies, None without.
    """

    key: str
    held_out: list[int]
    n_validation: int = 0
    pseudo_key: str | None = None
    pseudo_seconds: float | None = None


class TrainingRecord(Record):
    """A finished training.

    Attributes:
        spec: the spec of the stage.
        extracted: specs of the features that it read.
        study: spec of the search for its settings, if any.
        method_title: title of the method.
        settings: all settings of the method, defaults included.
        initialization: seed of the initial weights.
        parameters: trainable parameters by part, and ``total``.
        epochs: passes over the training images; 0 where nothing is trained by gradient.
        n_train, n_val: normal images that the model was trained on and that were held out, of all classes; those of
            validation are in neither.
        n_items: images of an epoch, with anomalies and their repeats.
        classes: by name, in the order of their numbers.
        features: description of the features of the first class.
        seconds: ``train``, in the loop, ``cross_fit`` of methods that are, and ``train_stage``, of the whole stage.
        peak_memory_mb: largest memory by kind.
        fingerprint: hash of all that determines the training.
        written: the files next to the record.
    """

    spec: TrainSpec
    extracted: list[ExtractSpec]
    study: StudySpec | None
    method_title: str
    settings: dict[str, Any]
    initialization: int
    parameters: dict[str, int]
    epochs: int
    n_train: int
    n_val: int
    n_items: int
    classes: dict[str, ClassRecord]
    anomalies: AnomaliesRecord | None
    search: SearchRecord | None
    features: FeatureMeta
    seconds: dict[str, float]
    peak_memory_mb: dict[str, float]
    provenance: dict[str, Any]
    fingerprint: str
    written: dict[str, KnownFile]
