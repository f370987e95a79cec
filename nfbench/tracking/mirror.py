"""Synchronization of an MLflow experiment with the run records, without duplicates.

The tag ``nfbench.key`` identifies a run and ``nfbench.digest`` its contents. A run is written completely before
``nfbench.state`` becomes ``complete``, so incomplete runs of a killed import are recognized, deleted and imported
again. MLflow's parameters are immutable, so a run is deleted and imported again if its record has changed or one of
these tags is lost. A run whose record is gone stays.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from nfbench.core.errors import NfbenchError
from nfbench.core.progress import progress
from nfbench.core.provenance import file_sha256
from nfbench.tracking.entries import Entry, Point, digest_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

__all__ = ["Changes", "Parent", "mirror", "open_experiment"]

KEY, DIGEST, STATE, KIND, ROOT = (f"nfbench.{name}" for name in ("key", "digest", "state", "kind", "results_root"))
_log = logging.getLogger(__name__)
_PARENT = "mlflow.parentRunId"
_COMPLETE, _IMPORTING = "complete", "importing"
_PAGE = 1000
_PARAMS_AT_ONCE, _METRICS_AT_ONCE = 100, 850


@dataclass(frozen=True)
class Changes:
    """Result of an import: numbers of new, replaced and unchanged runs and studies."""

    new: int
    replaced: int
    kept: int


@dataclass(frozen=True)
class Parent:
    """The parent run, with the results of the experiment; all other runs are nested in it.

    Attributes:
        name: name of the experiment.
        note: description in Markdown.
        root: absolute ``results_root``.
        tags: tags by name.
        files: artifacts by target folder.
    """

    name: str
    note: str
    root: Path
    tags: Mapping[str, str]
    files: Mapping[str, Sequence[Path]]

    @property
    def digest(self) -> str:
        """Hash of files and description."""
        files = [f"{folder}/{path.name} {file_sha256(path)}" for folder, paths in self.files.items() for path in paths]
        return digest_of(self.note, *sorted(f"{k}={v}" for k, v in self.tags.items()), *sorted(files))


def open_experiment(client: "MlflowClient", name: str, artifacts: str | None) -> str:
    """Return the ID of the MLflow experiment with this name; create it if missing, restore it if deleted."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return client.create_experiment(name, artifact_location=artifacts)
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return found.experiment_id


def mirror(client: "MlflowClient", experiment: str, parent: Parent, entries: Sequence[Entry]) -> Changes:
    """Synchronize the MLflow experiment with entries.

    Args:
        client: client of the store.
        experiment: ID of the MLflow experiment.
        parent: parent run.
        entries: runs and studies.

    Raises:
        NfbenchError: the MLflow experiment belongs to other results.
    """
    found = list(_search(client, experiment))
    parent_run, spare = _find_parent(found, parent)
    children: dict[str, list[Run]] = defaultdict(list)
    for run in found:
        children[run.data.tags.get(_PARENT, "")].append(run)
    kept, useless = _sort_out(found, children, entries)
    for run in chain(spare, useless):
        client.delete_run(run.info.run_id)
    parent_id = parent_run.info.run_id if parent_run else _create_parent(client, experiment, parent, entries)
    for run in kept.values():
        if run.data.tags.get(_PARENT) != parent_id:
            client.set_tag(run.info.run_id, _PARENT, parent_id)
    to_write = [entry for entry in entries if entry.key not in kept]
    for entry in progress(to_write, total=len(to_write), label=f"track {parent.name}"):
        _write(client, experiment, parent_id, entry)
    _write_parent(client, parent_id, parent_run, parent, entries)
    # a request repeated because its answer was lost may have created an empty run
    for run in _search(client, experiment, f"tags.`{STATE}` = '{_IMPORTING}'"):
        client.delete_run(run.info.run_id)
    before = {run.data.tags[KEY] for run in useless if run.data.tags.get(STATE) == _COMPLETE}
    replaced = sum(entry.key in before for entry in to_write)
    return Changes(len(to_write) - replaced, replaced, len(kept))


def _search(client: "MlflowClient", experiment: str, condition: str = "") -> Iterator["Run"]:
    """All runs of nfbench in an experiment; runs of other tools are ignored."""
    token = None
    while True:
        page = client.search_runs([experiment], condition, max_results=_PAGE, page_token=token)
        yield from (run for run in page if KEY in run.data.tags)
        token = page.token
        if not token:
            return


def _find_parent(found: Iterable["Run"], parent: Parent) -> tuple["Run | None", list["Run"]]:
    """Return the parent run, if it exists, and runs that are damaged or were left by a killed import."""
    runs = [run for run in found if _kind(run) == "experiment"]
    for run in runs:
        root = run.data.tags.get(ROOT, str(parent.root))
        if root != str(parent.root):
            raise NfbenchError(
                f"MLflow experiment '{parent.name}' belongs to {root}, not to {parent.root}; choose "
                "another name with --name, or delete that experiment if the results were moved"
            )
    whole = [run for run in runs if not _lacks(run, DIGEST, STATE, KIND, ROOT)]
    return (whole[0] if whole else None), [run for run in runs if run not in whole[:1]]


def _is_same(run: "Run", nested: Sequence["Run"], entry: Entry) -> bool:
    """Whether a run and its nested runs match an entry."""
    same = not _lacks(run, DIGEST, STATE, KIND) and run.data.tags[DIGEST] == entry.digest
    return same and len(nested) == len(entry.nested)


def _kind(run: "Run") -> str:
    """Kind of a run, from its tag or the prefix of its key."""
    return run.data.tags.get(KIND) or run.data.tags[KEY].partition(" ")[0]


def _lacks(run: "Run", *names: str) -> list[str]:
    """Return the tags that a run has lost, with a warning."""
    lost = [name for name in names if name not in run.data.tags]
    if lost:
        _log.warning(
            "MLflow run %s (%s) has lost its tags %s; it is deleted and imported again",
            run.info.run_id,
            run.data.tags[KEY],
            ", ".join(lost),
        )
    return lost


def _sort_out(
    found: Iterable["Run"], children: Mapping[str, Sequence["Run"]], entries: Iterable[Entry]
) -> tuple[dict[str, "Run"], list["Run"]]:
    """Return runs to keep, by key, and runs to delete."""
    wanted = {entry.key: entry for entry in entries}
    kept: dict[str, Run] = {}
    useless, lost = [], []
    for run in found:
        tags = run.data.tags
        if _kind(run) in ("experiment", "trial"):
            continue
        entry = wanted.get(tags[KEY])
        whole = tags.get(STATE) == _COMPLETE
        if entry is None and (whole or STATE not in tags):
            continue
        if entry and whole and entry.key not in kept and _is_same(run, children[run.info.run_id], entry):
            kept[entry.key] = run
        else:
            useless.append(run)
            lost.append(run.info.run_id)
    alive = {run.info.run_id for run in found} - set(lost)
    orphans = [run for run in found if _kind(run) == "trial" and run.data.tags.get(_PARENT) not in alive]
    return kept, [*useless, *orphans]


def _write(client: "MlflowClient", experiment: str, parent_id: str, entry: Entry) -> None:
    """Write a run in as few requests as possible; the last one marks it as complete."""
    from mlflow.entities import Metric, Param, RunTag

    tags = {**entry.tags, **_marks(entry.key, entry.digest, entry.kind), _PARENT: parent_id}
    run = client.create_run(experiment, start_time=entry.started, tags=tags, run_name=entry.name).info.run_id
    for nested in entry.nested:
        _write(client, experiment, run, nested)
    client.set_terminated(run, entry.status, entry.ended)
    params = [Param(name, value) for name, value in entry.params.items()]
    metrics = [Metric(point.name, point.value, entry.ended, point.step) for point in _unique(entry.metrics)]
    while len(params) > _PARAMS_AT_ONCE or len(metrics) > _METRICS_AT_ONCE:
        client.log_batch(run, metrics[:_METRICS_AT_ONCE], params[:_PARAMS_AT_ONCE])
        params, metrics = params[_PARAMS_AT_ONCE:], metrics[_METRICS_AT_ONCE:]
    client.log_batch(run, metrics, params, [RunTag(STATE, _COMPLETE)])


def _unique(points: Iterable[Point]) -> Iterable[Point]:
    """Keep the last value of each metric and step; MLflow would store several and show any."""
    return {(point.name, point.step): point for point in points}.values()


def _create_parent(client: "MlflowClient", experiment: str, parent: Parent, entries: Iterable[Entry]) -> str:
    tags = {**_marks(f"experiment {parent.name}", "", "experiment"), ROOT: str(parent.root)}
    started = min((entry.started for entry in entries), default=None)
    return client.create_run(experiment, started, tags, parent.name).info.run_id


def _write_parent(
    client: "MlflowClient", run_id: str, before: "Run | None", parent: Parent, entries: Iterable[Entry]
) -> None:
    """Write changed files and tags of the experiment, which, unlike parameters, can be replaced."""
    from mlflow.entities import RunTag

    digest = parent.digest
    if before is not None and (before.data.tags[DIGEST], before.data.tags[STATE]) == (digest, _COMPLETE):
        return
    client.set_tag(run_id, STATE, _IMPORTING)
    for folder, paths in parent.files.items():
        for path in paths:
            client.log_artifact(run_id, str(path), folder)
    client.set_terminated(run_id, end_time=max((entry.ended for entry in entries), default=None))
    tags = {**parent.tags, "mlflow.note.content": parent.note, DIGEST: digest, STATE: _COMPLETE}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def _marks(key: str, digest: str, kind: str) -> dict[str, str]:
    return {KEY: key, DIGEST: digest, KIND: kind, STATE: _IMPORTING}
