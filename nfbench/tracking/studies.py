"""Studies of hyperparameters as they are left in ``study.json``, and what becomes of them in MLflow."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from nfbench.config import Bench
from nfbench.errors import NfbenchError
from nfbench.files import read_json
from nfbench.grid import Cell
from nfbench.paths import Paths
from nfbench.tracking.entries import Entry, Point, as_texts, digest_of

__all__ = ["StudyFile", "find_studies", "read_study", "study_entry"]

_STATUS = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class StudyCell(_Model):
    """What a study is of: a cell without backbone and seed."""

    setting: str
    dataset: str
    category: str
    method: str


class StudyDescription(_Model):
    """How trials are judged, and how many there may be."""

    name: str
    cell: StudyCell
    backbones: list[str]
    objective: str
    metric: str
    direction: Literal["maximize", "minimize"]
    budget: int
    workers: int
    sampler: str


class Trial(_Model):
    """One set of values that was tried.

    Attributes:
        value: the objective, None where the trial did not get to its end.
        intermediate: the objective by step, as far as the trial got.
        worker: number of the process that ran it.
        finished: None where the worker was killed.
    """

    number: int
    state: Literal["complete", "pruned", "failed"]
    params: dict[str, Any]
    value: float | None
    intermediate: dict[int, float]
    seconds: float
    worker: int
    started: datetime
    finished: datetime | None

    @model_validator(mode="after")
    def _complete_trials_have_values(self) -> "Trial":
        if self.state == "complete" and self.value is None:
            raise PydanticCustomError("no_value", "a complete trial needs a value")
        return self


class BestTrial(_Model):
    """The trial that a study recommends."""

    number: int
    params: dict[str, Any]
    value: float


class StudyFile(_Model):
    """A finished study."""

    study: StudyDescription
    trials: list[Trial]
    best: BestTrial | None
    seconds: float
    provenance: dict[str, Any]

    @model_validator(mode="after")
    def _numbers_are_unique(self) -> "StudyFile":
        twice = [number for number, count in Counter(t.number for t in self.trials).items() if count > 1]
        if twice:
            raise PydanticCustomError("double_trial", f"trial {twice[0]} is there more than once")
        return self


def read_study(path: Path) -> StudyFile:
    """Reads ``study.json``.

    Raises:
        NfbenchError: the file is missing or does not have the form of a study; names file and key.
    """
    try:
        return StudyFile.model_validate(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise NfbenchError(f"{path}: '{'.'.join(map(str, first['loc']))}': {first['msg']}") from None


def find_studies(bench: Bench, cells: Iterable[Cell], paths: Paths) -> list[Path]:
    """Studies below ``results_root`` that are of a method, dataset and category of some cells, by their paths."""
    wanted = {
        (cell.setting, cell.dataset, cell.trained.category, method)
        for cell in cells
        for method in (cell.method, bench.variant(cell.method).method)
    }
    found = sorted(paths.root.glob("studies/*/*/*/*/study.json"))
    return [path for path in found if tuple(vars(read_study(path).study.cell).values()) in wanted]


def study_entry(path: Path) -> Entry:
    """The entry of a study, with its trials nested in it."""
    study = read_study(path)
    described, cell = study.study, study.study.cell
    digest = digest_of(study.model_dump_json())
    where = f"{cell.setting}/{cell.dataset}/{cell.category}/{described.name}"
    trials = tuple(_trial_entry(trial, study, where, digest) for trial in study.trials)
    ended = max((trial.ended for trial in trials), default=int(path.stat().st_mtime * 1000))
    states = Counter(trial.state for trial in study.trials)
    points = [Point("seconds", study.seconds), *(Point(f"trials/{state}", states[state]) for state in _STATUS)]
    points += [Point("best/value", study.best.value, study.best.number)] if study.best else []
    return Entry(
        key=f"study {where}",
        digest=digest,
        kind="study",
        name=f"study {described.name} {cell.category}",
        started=min((trial.started for trial in trials), default=ended - int(study.seconds * 1000)),
        ended=ended,
        params=as_texts(
            {
                **described.model_dump(exclude={"name", "cell"}),
                **vars(cell),
                "search": described.name,
                "best": study.best.params if study.best else None,
            }
        ),
        metrics=tuple(points),
        tags={**vars(cell), "search": described.name, "record": str(path), **_made(study.provenance)},
        nested=trials,
    )


def _trial_entry(trial: Trial, study: StudyFile, where: str, digest: str) -> Entry:
    started = int(trial.started.timestamp() * 1000)
    ended = int(trial.finished.timestamp() * 1000) if trial.finished else started + int(trial.seconds * 1000)
    points = [Point("intermediate", value, step) for step, value in trial.intermediate.items()]
    points += [] if trial.value is None else [Point("value", trial.value)]
    return Entry(
        key=f"trial {where}#{trial.number}",
        digest=digest,
        kind="trial",
        name=f"trial {trial.number}",
        started=started,
        ended=ended,
        status=_STATUS[trial.state],
        params=as_texts(trial.params),
        metrics=(Point("seconds", trial.seconds), *points),
        tags={
            **vars(study.study.cell),
            "search": study.study.name,
            "state": trial.state,
            "worker": str(trial.worker),
            "best": str(study.best is not None and study.best.number == trial.number).lower(),
        },
    )


def _made(provenance: dict[str, Any]) -> dict[str, str]:
    """Provenance as tags, with the commit where MLflow looks for it."""
    tags = as_texts(provenance, "provenance.")
    commit = provenance.get("commit")
    return {**tags, **({"mlflow.source.git.commit": commit} if commit else {})}
