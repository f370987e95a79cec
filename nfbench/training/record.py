"""The record of a training, ``training.json``: the part of the run record known after training."""

from operator import not_
from typing import Annotated, Any

from pydantic import Field

from nfbench.core.record import Record
from nfbench.core.seals import KnownFile
from nfbench.features.meta import FeatureMeta
from nfbench.plan.specs import ExtractSpec, StudySpec, TrainSpec

__all__ = ["AnomaliesRecord", "ClassRecord", "DrawnRecord", "SearchRecord", "TrainingRecord"]


class AnomaliesRecord(Record):
    """Anomalous images that the method was trained with.

    Attributes:
        generator: generator of pseudo-anomalies; None if none were used.
        views: number of cached pseudo-anomalies per image.
        online: whether pseudo-anomalies were made during training.
        repeats: number of times that each real anomaly, and a pseudo-anomaly made from it, appeared in an epoch.
        real: anomalous test images used for training and left out of the test.
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
        metric: metric that trials were compared by.
        trial: number of the best trial on the backbone, whose settings are used.
        value: its value of ``metric``.
        chosen: whether this backbone is the best one of the search.
        settings: the settings found.
        trials: number of trials by their final state.
        seconds: total time of all trials.
        validation: test images used to compare trials and left out of the test.
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


class DrawnRecord(Record):
    """Images that the condition of a run drew.

    Attributes:
        normal: number of normal images, held-out ones included.
        images: the normal images by path; empty if they are all of the category.
        added: anomalous test images among the training images, taken for normal ones.
    """

    normal: int
    images: list[str] = []
    added: list[str] = []


class ClassRecord(Record):
    """Training images of one class.

    Attributes:
        key: key of its cached features.
        held_out: held-out rows of these features.
        n_validation: number of validation images, the last rows of these features.
        pseudo_key, pseudo_seconds: key of its cached pseudo-anomalies and the time of making them; None without.
        drawn: images that the condition of the run drew; None for all normal ones.
    """

    key: str
    held_out: list[int]
    n_validation: int = 0
    pseudo_key: str | None = None
    pseudo_seconds: float | None = None
    drawn: Annotated[DrawnRecord | None, Field(exclude_if=not_)] = None  # other records stay as they were


class TrainingRecord(Record):
    """A finished training.

    Attributes:
        spec: the spec of the stage.
        extracted: specs of the features that were read.
        study: spec of the search for the settings, if any.
        method_title: title of the method.
        settings: all settings of the method, defaults included.
        initialization: seed of the initial weights.
        parameters: trainable parameters by part, and ``total``.
        epochs: passes over the training images; 0 if nothing is trained by gradient.
        n_train, n_val: numbers of normal images trained on and held out, over all classes, without validation images.
        n_items: number of images in an epoch, including anomalies and their repeats.
        classes: classes by name, ordered by class number.
        features: description of the features of the first class.
        seconds: times of ``train``, the loop; ``cross_fit``, if the method is cross-fitted; and ``train_stage``, the
            whole stage.
        peak_memory_mb: peak memory by kind.
        fingerprint: hash of everything that determines the training.
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
