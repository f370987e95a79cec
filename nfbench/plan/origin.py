"""Whether what a job reads was made by the jobs that the plan has before it.

A spec's ``origin`` has a short hash of the spec of each job that it follows from. The records of what the job reads
contain their specs, so that a job can tell without a plan whether what is there is what was asked for.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nfbench.core.errors import NfbenchError
from nfbench.core.seals import read_sealed_values
from nfbench.plan.cells import Cell
from nfbench.plan.specs import (
    AggregateSpec,
    EvaluateSpec,
    ExtractSpec,
    FigureSpec,
    PrepareSpec,
    ReportSpec,
    Spec,
    StudySpec,
    SummarizeSpec,
    TrackSpec,
    TrainSpec,
)

__all__ = ["digest_of", "digests_of", "expected_runs", "require_origin"]

_DIGITS = 8
_KINDS = {"meta.json": ExtractSpec, "study.json": StudySpec, "training.json": TrainSpec}
"""Specs in records, by the name of the file that is read; manifests have the names of categories."""


def digest_of(spec: Spec) -> str:
    """Short hash of a spec."""
    return hashlib.sha256(spec.to_json().encode()).hexdigest()[:_DIGITS]


def digests_of(specs: Iterable[Spec]) -> str:
    """Short hashes of specs, one after the other."""
    return "".join(digest_of(spec) for spec in specs)


def expected_runs(spec: AggregateSpec | FigureSpec | ReportSpec | TrackSpec) -> dict[Cell, str]:
    """Cells of an experiment with the short hashes of the specs of their evaluations, empty where it has none."""
    cells = spec.cells
    return {cell: spec.origin[_DIGITS * place :][:_DIGITS] for place, cell in enumerate(cells)}


def require_origin(spec: ExtractSpec | StudySpec | TrainSpec | EvaluateSpec) -> None:
    """Refuses what was made by other jobs than those that a job follows from; a spec without ``origin`` takes all.

    Raises:
        NfbenchError: a record is missing, has changed, or has another spec; names the first.
    """
    for place, path in enumerate(_read_by(spec) if spec.origin else ()):
        asked = spec.origin[_DIGITS * place :][:_DIGITS]
        record = Path(path).with_suffix(".json")
        values = read_sealed_values(record)
        try:
            found = digest_of(_spec_of(values, _KINDS.get(Path(path).name, PrepareSpec)))
        except (KeyError, ValueError):
            found = None
        if found != asked:
            raise NfbenchError(
                f"{record} was made with other settings, images or code than {spec.stage} is asked for; remove it and "
                "run 'snakemake' again"
            )


def _read_by(spec: ExtractSpec | StudySpec | TrainSpec | EvaluateSpec) -> list[str]:
    """What a job reads, one file of each job before it, in their order."""
    if not isinstance(spec, EvaluateSpec):
        return spec.inputs
    features = [spec.train_features, spec.features, *([spec.pseudo] if spec.pseudo else [])]
    return [spec.manifest, *features, f"{spec.trained}/training.json"]


def _spec_of(values: Mapping[str, Any], kind: type[Spec]) -> Spec:
    """Spec of the job that wrote a record."""
    found = kind.model_validate(values["spec"])
    return SummarizeSpec(study=found) if isinstance(found, StudySpec) else found
