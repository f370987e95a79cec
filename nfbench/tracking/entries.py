"""Conversion of run records to MLflow parameters, metrics and tags, without importing MLflow."""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import describe_machine
from nfbench.plan.cells import Cell
from nfbench.plan.code import code_hash
from nfbench.plan.paths import Paths
from nfbench.results.files import Epoch, read_rows
from nfbench.results.record import RunRecord

__all__ = ["Entry", "Point", "as_name", "as_texts", "digest_of", "run_entry"]

Status = Literal["FINISHED", "FAILED", "KILLED"]

MAX_VALUE = 6000
"""Maximum length of a parameter's value in MLflow (8000 for tags), which truncates longer ones silently."""

_NOT_IN_NAMES = re.compile(r"[^\w./ :-]", re.ASCII)
_AXES = ("setting", "dataset", "category", "method", "backbone", "seed")


@dataclass(frozen=True)
class Point:
    """A value of a metric at a step; NaN if undefined or not finite."""

    name: str
    value: float
    step: int = 0


@dataclass(frozen=True)
class Entry:
    """A run to write to MLflow, with its nested runs.

    Attributes:
        key: identifies the run within its experiment.
        digest: hash of all contents, to detect changes.
        kind: ``run``, ``study`` or ``trial``.
        name: displayed name.
        started: milliseconds since 1970.
        ended: milliseconds since 1970.
        status: final status, in MLflow's terms.
        params: parameters by name.
        metrics: values; a metric with steps has several.
        tags: tags by name.
        nested: trials of a study.
    """

    key: str
    digest: str
    kind: Literal["run", "study", "trial"]
    name: str
    started: int
    ended: int
    params: Mapping[str, str]
    metrics: tuple[Point, ...]
    tags: Mapping[str, str]
    status: Status = "FINISHED"
    nested: tuple["Entry", ...] = ()


def run_entry(cell: Cell, record: RunRecord, paths: Paths) -> Entry:
    """Build the entry of a run.

    Raises:
        NfbenchError: the training history is missing or damaged, or a setting has the name of a grid axis.
    """
    path = paths.run_record(cell)
    history = read_rows(Epoch, paths.run_record(cell.trained).parent)
    ended = int(path.stat().st_mtime * 1000)
    seconds = record.seconds.get("train", 0.0) + record.seconds.get("score", 0.0)
    return Entry(
        key=f"run {cell}",
        digest=digest_of(record.model_dump_json(), repr(history)),
        kind="run",
        name=f"{cell.method} {cell.category} {cell.backbone} seed{cell.seed} {cell.condition}".rstrip(),
        started=ended - int(seconds * 1000),
        ended=ended,
        params=_params(cell, record),
        metrics=(*_metrics(record), *_history(history)),
        tags={
            **{name: str(value) for name, value in _axes(cell).items()},
            **_tags(record),
            "record": str(path),
            **({"search.study": str(paths.study_of(cell))} if record.search else {}),
        },
    )


def digest_of(*texts: str) -> str:
    """Hash of an entry's inputs and of the code that builds it."""
    code = code_hash("nfbench.tracking.entries:run_entry", "nfbench.tracking.studies:study_entry")
    digest = hashlib.sha256(code.encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    return digest.hexdigest()


def as_name(text: str) -> str:
    """Convert text to a valid MLflow name; other characters become their code points, such as ``-3c-``."""
    return _NOT_IN_NAMES.sub(lambda found: f"-{ord(found[0]):x}-", text)


def as_texts(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Convert values to MLflow parameters: nested keys are joined by dots, long values are cut with a mark."""
    texts = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            texts.update(as_texts(value, f"{name}."))
        else:
            texts[as_name(name)] = _shortened(value if isinstance(value, str) else json.dumps(value))
    return texts


def _shortened(text: str) -> str:
    mark = f" ... ({len(text)} characters, the rest is in the record)"
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - len(mark)] + mark


def _axes(cell: Cell) -> dict[str, Any]:
    """Place of a cell in the grid, with its condition if it has one."""
    return {name: getattr(cell, name) for name in (*_AXES, *(["condition"] if cell.condition else []))}


def _params(cell: Cell, record: RunRecord) -> dict[str, str]:
    settings, recipe = as_texts(record.settings), record.features.recipe
    data = {"n_train", "n_val", "n_test_normal", "n_test_anomalous", "n_regions", "n_defects", "anomalies"}
    other = {
        **_axes(cell),
        "variant_of": record.cell.variant_of,
        "features": {**recipe.backbone.model_dump(mode="json", exclude={"name"}), "weights": recipe.weights},
        "data": record.data.model_dump(mode="json", include=data),
    }
    if record.search:
        # the run's settings include those found by the search
        searched = record.search.model_dump(exclude={"settings", "validation"})
        other["search"] = {**searched, "n_validation": len(record.search.validation)}
    if both := sorted(settings.keys() & other.keys()):
        raise NfbenchError(f"{cell}: the setting '{both[0]}' has the name of a grid axis; rename it")
    return {**settings, **as_texts(other)}


def _metrics(record: RunRecord) -> Iterator[Point]:
    """Metrics by selection at the selected epoch, and costs of the run."""
    for selection, found in record.selections.items():
        for metric, value in found.metrics.items():
            epoch = found.epoch.get(metric, 0) if isinstance(found.epoch, dict) else found.epoch
            yield Point(as_name(f"{selection}/{metric}"), math.nan if value is None else value, epoch)
    for kind in ("parameters", "seconds", "images_per_second", "peak_memory_mb"):
        for name, value in getattr(record, kind).items():
            yield Point(as_name(f"{kind}/{name}"), value)
    if record.latency:
        for name, value in record.latency.columns.items():
            yield Point(as_name(f"latency/{name}"), value)


def _history(history: Sequence[Epoch]) -> Iterator[Point]:
    """All columns of the training history by epoch, without missing values."""
    for row in history:
        for name, value in zip(row._fields[1:], row[1:], strict=True):
            if value is not None:
                # MLflow would silently replace infinity by the largest float
                yield Point(as_name(f"history/{name}"), value if math.isfinite(value) else math.nan, row.epoch)


def _tags(record: RunRecord) -> dict[str, str]:
    """Provenance by stage, and hashes of inputs; MLflow has its own column for the last stage's commit."""
    tags = {
        "title": record.cell.title,
        "sha256.manifest": record.data.manifest_sha256,
        "sha256.weights": record.features.recipe.weights_sha256,
        "key.train_features": record.features.train_key,
        "key.test_features": record.features.test_key,
    }
    if record.features.pseudo_key:
        tags["key.pseudo_features"] = record.features.pseudo_key
    for stage, made in record.provenance.items():
        tags |= {
            f"{stage}.commit": str(made["commit"]),
            f"{stage}.dirty": str(made["dirty"]).lower(),
            f"{stage}.machine": describe_machine(made),
            f"{stage}.platform": made["platform"],
            f"{stage}.command": made["command"],
            f"{stage}.versions": ", ".join(
                f"{name} {version}"
                for name, version in {"nfbench": made["nfbench"], "python": made["python"], **made["packages"]}.items()
            ),
        }
    commits = [made["commit"] for made in record.provenance.values() if made["commit"]]
    if commits:
        tags["mlflow.source.git.commit"] = commits[-1]
    tags["dirty"] = str(any(made["dirty"] for made in record.provenance.values())).lower()
    return {as_name(name): _shortened(value) for name, value in tags.items()}
