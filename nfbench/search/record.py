"""The record of a study, ``study.json``: its trials, and the best one on each backbone."""

from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from nfbench.core.record import Record
from nfbench.core.seals import read_sealed, write_sealed
from nfbench.plan.specs import StudySpec

__all__ = ["BestTrial", "State", "StudyRecord", "StudyStart", "TrialRecord", "read_study", "write_study"]


State = Literal["complete", "pruned", "failed"]
"""How a trial ended."""


class StudyStart(Record):
    """What is known of a study when it begins, ``description.json``.

    Attributes:
        spec: what is searched.
        validation: test images that trials are judged by and that are left out of the test set.
        fingerprint: hash of all that the value of a point depends on; it names the folder of the journal.
    """

    spec: StudySpec
    validation: list[str]
    fingerprint: str
    provenance: dict[str, Any]


class StudyDescription(Record):
    """What was searched, and how.

    Attributes:
        name: of the variant.
        cell: ``setting``, ``dataset``, ``category`` and ``method``, the method behind the variant.
        backbones: tags of the backbones to choose from.
        objective: ``log_likelihood``, ``validation`` or ``test``.
        metric: that ``value`` of a trial is, ``log_likelihood`` in nats per dimension, or a metric.
        direction: whether higher values of the metric are better.
        budget: number of trials.
        space: dimensions by setting.
    """

    name: str
    cell: dict[str, str]
    backbones: list[str]
    objective: Literal["log_likelihood", "validation", "test"]
    metric: str
    direction: Literal["maximize", "minimize"]
    budget: int
    budget_seconds: float | None
    workers: int
    sampler: str
    seed: int
    space: dict[str, Any]


class TrialRecord(Record):
    """One trial.

    Attributes:
        number: counts all trials that were begun, also those of killed workers, which are not in the record.
        state: ``failed`` means that the training diverged, ran out of memory or could not be done for another reason.
        params: backbone, where there are several, and settings.
        value: None where the trial did not complete.
        intermediate: value by epoch, of kept epochs.
        seconds: of training and judging.
        started, finished: with the time zone.
        message: why it failed.
    """

    number: int
    state: State
    params: dict[str, bool | int | float | str]
    value: float | None
    intermediate: dict[int, float]
    seconds: float
    worker: int
    started: datetime
    finished: datetime
    message: str = ""

    @model_validator(mode="after")
    def _complete_trials_have_values(self) -> "TrialRecord":
        if self.state == "complete" and self.value is None:
            raise PydanticCustomError("no_value", "a complete trial needs a value")
        return self


class BestTrial(Record):
    """The best trial of a study, or of a backbone; settings without the backbone."""

    number: int
    backbone: str
    settings: dict[str, bool | int | float | str]
    params: dict[str, bool | int | float | str]
    value: float


class StudyRecord(Record):
    """A finished study.

    Attributes:
        spec: what the stage was told.
        best: None where no trial completed.
        by_backbone: the best trial on each backbone that has a complete one.
        importances: share of the variance of the values that each dimension explains (fANOVA); empty for few trials.
        validation: test images that the trials were judged by and that are left out of the test set.
        seconds: of all trials together.
    """

    spec: StudySpec
    study: StudyDescription
    trials: list[TrialRecord]
    best: BestTrial | None
    by_backbone: dict[str, BestTrial]
    importances: dict[str, float]
    validation: list[str]
    seconds: float
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _numbers_are_unique(self) -> "StudyRecord":
        twice = [number for number, count in Counter(trial.number for trial in self.trials).items() if count > 1]
        if twice:
            raise PydanticCustomError("double_trial", f"trial {twice[0]} is there more than once")
        return self

    def count(self, state: str) -> int:
        """Number of trials that ended so."""
        return sum(trial.state == state for trial in self.trials)


def write_study(path: str | Path, record: StudyRecord) -> None:
    """Writes ``study.json`` atomically."""
    write_sealed(path, record)


def read_study(path: str | Path) -> StudyRecord:
    """Reads ``study.json``.

    Raises:
        NfbenchError: the file is missing, does not have the form of a study's record, or has changed; names it.
    """
    return read_sealed(StudyRecord, path)
