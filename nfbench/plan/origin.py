"""Check that the inputs of a job come from the jobs that the plan puts before it.

The ``origin`` of a spec holds a short hash of the spec of each preceding job. The records of a job's inputs contain
their specs, so the job can verify its inputs without a plan.
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
    """Returns the short hash of a spec."""
    return _digest(spec.model_dump(mode="json"))


def digests_of(specs: Iterable[Spec]) -> str:
    """Returns the concatenated short hashes of specs."""
    return "".join(digest_of(spec) for spec in specs)


def expected_runs(cells: Iterable[Cell], origin: str) -> dict[Cell, str]:
    """Maps the cells of an experiment to the short hashes of their evaluations' specs.

    Args:
        cells: cells of the experiment, in order.
        origin: origin of a spec of the experiment; empty for a spec written by hand, and the hashes are empty then.
    """
    return {cell: origin[_DIGITS * place :][:_DIGITS] for place, cell in enumerate(cells)}


def require_origin(spec: DerivedSpec) -> None:
    """Refuses inputs from other jobs than those in the spec's origin; a spec without origin accepts any.

    This function refers to no type of spec, so that the spec of one stage is not part of the code of others.

    Raises:
        NfbenchError: a record is missing, has changed, or has another spec; the message names the first.
    """
    for place, path in enumerate(_read_by(spec) if spec.origin else ()):
        record = path.with_suffix(".json")
        told = read_sealed_values(record).get("spec")
        found = _digest({"study": told} if path.name == "study.json" else told)
        if found != spec.origin[_DIGITS * place :][:_DIGITS]:
            raise NfbenchError(
                f"{record} was made with other settings, images or code than {spec.stage} expects; remove it and run "
                "'snakemake' again"
            )


def _read_by(spec: DerivedSpec) -> list[Path]:
    """Lists the inputs of a job, one file per preceding job, in order."""
    paths = [Path(path) for path in spec.inputs]
    if trained := getattr(spec, "trained", None):
        paths = [*(path for path in paths if path.parent != Path(trained)), Path(trained, "training.json")]
    return paths


def _digest(values: Mapping[str, Any] | None) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode(errors="surrogateescape")).hexdigest()[:_DIGITS]
