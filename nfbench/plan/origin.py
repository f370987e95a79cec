"""Whether what a job reads was made by the jobs that the plan has before it.

A spec's ``origin`` has a short hash of the spec of each job that it follows from. The records of what the job reads
contain their specs, so that a job can tell without a plan whether what is there is what was asked for.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nfbench.core.errors import NfbenchError
from nfbench.core.seals import read_sealed_values
from nfbench.plan.cells import Cell
from nfbench.plan.specs import DerivedSpec, Spec

__all__ = ["digest_of", "digests_of", "expected_runs", "require_origin"]

_DIGITS = 8


def digest_of(spec: Spec) -> str:
    """Short hash of a spec."""
    return _digest(spec.model_dump(mode="json"))


def digests_of(specs: Iterable[Spec]) -> str:
    """Short hashes of specs, one after the other."""
    return "".join(digest_of(spec) for spec in specs)


def expected_runs(cells: Iterable[Cell], origin: str) -> dict[Cell, str]:
    """Cells of an experiment with the short hashes of the specs of their evaluations.

    Args:
        cells: of the experiment, in its order.
        origin: of a spec of the experiment; of one that is written by hand it is empty, and so are the hashes.
    """
    return {cell: origin[_DIGITS * place :][:_DIGITS] for place, cell in enumerate(cells)}


def require_origin(spec: DerivedSpec) -> None:
    """Refuses what was made by other jobs than those that a job follows from; a spec without ``origin`` takes all.

    The code of this function knows no type of a spec: what is said to one stage is none of the others' code.

    Raises:
        NfbenchError: a record is missing, has changed, or has another spec; names the first.
    """
    for place, path in enumerate(_read_by(spec) if spec.origin else ()):
        record = path.with_suffix(".json")
        told = read_sealed_values(record).get("spec")
        found = _digest({"study": told} if path.name == "study.json" else told)
        if found != spec.origin[_DIGITS * place :][:_DIGITS]:
            raise NfbenchError(
                f"{record} was made with other settings, images or code than {spec.stage} is asked for; remove it and "
                "run 'snakemake' again"
            )


def _read_by(spec: DerivedSpec) -> list[Path]:
    """What a job reads, one file of each job before it, in their order."""
    paths = [Path(path) for path in spec.inputs]
    if trained := getattr(spec, "trained", None):
        paths = [*(path for path in paths if path.parent != Path(trained)), Path(trained, "training.json")]
    return paths


def _digest(values: Mapping[str, Any] | None) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
