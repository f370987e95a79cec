"""The record of a study, ``study.json``: its trials, and the best trial on each backbone."""

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
    """Description of a study before its first trial, ``description.json``.

    Attributes:
        spec: spec of the study.
        validation: test images for judging trials, which are excluded from the test set.
        fingerprint: hash of everything that the value of a trial depends on; names the folder of the journal.
    """

    spec: StudySpec
    validation: list[str]
    fingerprint: str
    provenance: dict[str, Any]


class StudyDescription(Record):
    """Description of a finished search.

    Attributes:
        name: name of the variant.
        cell: ``setting``, ``dataset``, ``category`` and ``method``, the method of the variant.
        backbones: tags of the backbones to choose from.
        objective: ``log_likelihood``, ``validation`` or ``test``.
        metric: metric of the trials' ``value``: a name, or ``log_likelihood`` in nats per dimension.
        direction: ``maximize`` or ``minimize``.
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
        number: number among all started trials, including those of killed workers, which are not in the record.
        state: state of the trial; ``failed`` if training diverged, ran out of memory or failed for another reason.
        params: settings, and the backbone if there are several.
        value: value of the objective; None if the trial did not complete.
        intermediate: value by epoch, for kept epochs.
        seconds: duration of training and judging.
        started, finished: times with time zone.
        message: why the trial failed.
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
    """The best trial of a study or of a backbone; its settings exclude the backbone."""

    number: int
    backbone: str
    settings: dict[str, bool | int | float | str]
    params: dict[str, bool | int | float | str]
    value: float


class StudyRecord(Record):
    """A finished study.

    Attributes:
        spec: spec of the stage.
        best: the best trial; None if no trial completed.
        by_backbone: the best trial on each backbone with a complete trial.
        importances: share of the values' variance that each dimension explains (fANOVA); empty for few trials.
        validation: test images for judging trials, which are excluded from the test set.
        seconds: total duration of all trials.
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
            raise PydanticCustomError("double_trial", f"trial {twice[0]} appears more than once")
        return self

    def count(self, state: str) -> int:
        """Return the number of trials in a state."""
        return sum(trial.state == state for trial in self.trials)


def write_study(path: str | Path, record: StudyRecord) -> None:
    """Write ``study.json`` atomically."""
    write_sealed(path, record)


def read_study(path: str | Path) -> StudyRecord:
    """Read ``study.json``.

    Raises:
        NfbenchError: the file is missing, is not a record of a study, or has changed; the message names it.
    """
    return read_sealed(StudyRecord, path)
