"""From records and files to runs in MLflow."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import filelock

from nfbench.core.errors import NfbenchError
from nfbench.core.files import write_json
from nfbench.plan.experiment_specs import TrackSpec
from nfbench.plan.origin import expected_runs
from nfbench.results.ledger import Stock, take_stock
from nfbench.tracking.entries import Entry, run_entry
from nfbench.tracking.mirror import Parent, mirror, open_experiment
from nfbench.tracking.store import Store
from nfbench.tracking.studies import study_entry

__all__ = ["track_runs", "write_tracked"]


def track_runs(spec: TrackSpec) -> str:
    """Imports runs, tables, figures and studies of an experiment into MLflow; returns a summary line."""
    stock = take_stock(expected_runs(spec.cells, spec.origin), spec.paths)
    return write_tracked(spec, stock, spec.paths.tracking / f"{spec.experiment}.json")


def write_tracked(spec: TrackSpec, stock: Stock, summary: Path | None = None) -> str:
    """Imports the runs of ``stock`` into MLflow. Repeating it changes nothing.

    Args:
        spec: runs and files to track, and their name in MLflow.
        stock: finished runs.
        summary: JSON file to write a summary to.

    Raises:
        NfbenchError: there is nothing to track, the store is unusable, or records of some runs or studies are damaged;
            the latter is raised after all others are tracked.
    """
    experiment, paths, found = spec.experiment, spec.paths, stock
    stock = found.checked(paths)
    damaged = [f"{hole.cell}: {hole.reason}" for hole in stock.holes if hole.cell in found.records]
    runs = _whole((partial(run_entry, cell, record, paths) for cell, record in stock.records.items()), damaged)
    studies = _whole((partial(study_entry, path) for path in map(Path, spec.studies) if path.is_file()), damaged)
    files = {kind: [path for path in found if path.is_file()] for kind, found in spec.files.items()}
    if not stock.expected and not any(files.values()):
        raise NfbenchError(
            f"experiment '{experiment}' has no runs, and its tables are not built; run 'snakemake --cores all "
            f"{experiment}' to build them"
        )
    count = f"{len(runs)} of {stock.expected}"
    parent = Parent(
        name=spec.name,
        note=f"{spec.title}\n\nImported from run records by `nfbench track_runs {experiment}`, which can be repeated.",
        root=paths.root.absolute(),
        tags={"title": spec.title, "runs": count},
        files=files,
    )
    store = Store.of(paths.tracking)
    paths.tracking.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(paths.tracking / ".lock"):  # two concurrent imports would write the same runs twice
        client = store.connect()
        with store.errors():
            number = open_experiment(client, spec.name, store.artifacts(spec.name))
            changes = mirror(client, number, parent, [*runs, *studies])
    if damaged:
        raise NfbenchError(f"all but {len(damaged)} of '{experiment}' are tracked: {'; '.join(damaged)}")
    if summary:
        counts = {"runs": len(runs), "studies": len(studies)}
        write_json(summary, {"store": store.title, "experiment": spec.name, "id": number, **counts})
    tracked = (
        f"{count} runs and {len(studies)} studies of '{experiment}': {changes.new} new, {changes.replaced} replaced, "
        f"{changes.kept} unchanged"
    )
    without_runs = f"the tables of '{experiment}', which has no runs"
    return f"{tracked if stock.expected else without_runs}; MLflow's experiment '{spec.name}' in {store.title}"


def _whole(makers: Iterable[Callable[[], Entry]], damaged: list[str]) -> list[Entry]:
    """Builds the entries; adds the errors of those that fail to ``damaged``."""
    entries = []
    for make in makers:
        try:
            entries.append(make())
        except NfbenchError as error:
            damaged.append(str(error))
    return entries
