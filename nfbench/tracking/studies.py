"""Conversion of hyperparameter studies in ``study.json`` to MLflow runs."""

from collections import Counter
from pathlib import Path
from typing import Any

from nfbench.search.record import State, StudyRecord, TrialRecord, read_study
from nfbench.tracking.entries import Entry, Point, Status, as_texts, digest_of

__all__ = ["study_entry"]

_STATUS: dict[State, Status] = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}


def study_entry(path: Path) -> Entry:
    """Build the entry of a study, with its trials nested in it."""
    study = read_study(path)
    described, cell = study.study, study.study.cell
    digest = digest_of(study.model_dump_json())
    where = f"{cell['setting']}/{cell['dataset']}/{cell['category']}/{described.name}"
    trials = tuple(_trial_entry(trial, study, where, digest) for trial in study.trials)
    ended = max((trial.ended for trial in trials), default=int(path.stat().st_mtime * 1000))
    states = Counter(trial.state for trial in study.trials)
    points = [Point("seconds", study.seconds), *(Point(f"trials/{state}", states[state]) for state in _STATUS)]
    points += [Point("best/value", study.best.value, study.best.number)] if study.best else []
    return Entry(
        key=f"study {where}",
        digest=digest,
        kind="study",
        name=f"study {described.name} {cell['category']}",
        started=min((trial.started for trial in trials), default=ended - int(study.seconds * 1000)),
        ended=ended,
        params=as_texts(
            {
                **described.model_dump(mode="json", exclude={"name", "cell"}),
                **cell,
                "search": described.name,
                "best": study.best.params if study.best else None,
            }
        ),
        metrics=tuple(points),
        tags={**cell, "search": described.name, "record": str(path), **_made(study.provenance)},
        nested=trials,
    )


def _trial_entry(trial: TrialRecord, study: StudyRecord, where: str, digest: str) -> Entry:
    started = int(trial.started.timestamp() * 1000)
    ended = int(trial.finished.timestamp() * 1000)
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
            **study.study.cell,
            "search": study.study.name,
            "state": trial.state,
            "worker": str(trial.worker),
            "best": str(study.best is not None and study.best.number == trial.number).lower(),
        },
    )


def _made(provenance: dict[str, Any]) -> dict[str, str]:
    """Provenance as tags; the commit has the tag that MLflow reads."""
    tags = as_texts(provenance, "provenance.")
    commit = provenance.get("commit")
    return {**tags, **({"mlflow.source.git.commit": commit} if commit else {})}
