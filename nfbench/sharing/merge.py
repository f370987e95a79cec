"""Merging bundles of one experiment into a results folder with tables and a report."""

import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

from pydantic import NonNegativeFloat, NonNegativeInt

from nfbench.core.errors import NfbenchError
from nfbench.core.files import remove_tree, shield, write_text
from nfbench.core.provenance import describe_machine
from nfbench.core.record import Record
from nfbench.core.seals import write_sealed
from nfbench.plan.cells import Cell
from nfbench.plan.experiment_specs import ReportSpec, TableSpec
from nfbench.plan.paths import Paths
from nfbench.results.aggregate import aggregate, write_results
from nfbench.results.ledger import Account, Stock
from nfbench.sharing.agreement import largest_difference, repeated_runs, require_agreement
from nfbench.sharing.bundle import Bundle, read_bundle
from nfbench.stages.report import write_report
from nfbench.stages.tables import build_table

__all__ = ["MERGED", "Merged", "MergedRecord", "merge"]

MERGED = "merged.json"
"""Record of a merged set, in its folder."""

Specs = TypeVar("Specs", ReportSpec, TableSpec)


class SourceRecord(Record):
    """A bundle of a merged set.

    Attributes:
        sha256: hash of its file.
        nfbench: version of nfbench that wrote it.
        runs: number of runs that were taken from it.
        commits: commits that its runs were trained with; "unknown" outside of a checkout.
        machines: machines that its runs were trained on.
    """

    sha256: str
    nfbench: str
    runs: NonNegativeInt
    commits: list[str]
    machines: list[str]


class MergedRecord(Record):
    """What a merged set consists of.

    Attributes:
        experiment: name of the experiment.
        tolerance: largest difference of two values of a metric that counted as agreement.
        bundles: the bundles by name, in the order in which they were given.
        runs: name of the bundle that each run was taken from.
        repeated: largest difference from that run in each other bundle that measured the cell.
    """

    experiment: str
    tolerance: NonNegativeFloat
    bundles: dict[str, SourceRecord]
    runs: dict[str, str]
    repeated: dict[str, dict[str, NonNegativeFloat]]


@dataclass(frozen=True)
class Merged:
    """A merged set on the disk.

    Attributes:
        title: title of the experiment.
        record: what it consists of.
        tables: its tables of results.
        report: path of its report.
        holes: cells that no bundle has measured.
    """

    title: str
    record: MergedRecord
    tables: tuple[TableSpec, ...]
    report: Path
    holes: tuple[Account, ...]


def merge(files: Sequence[Path], output: Path, tolerance: float) -> Merged:
    """Merges bundles into a folder; of a cell that several bundles have measured, the first one counts.

    Args:
        files: bundles of one experiment.
        output: folder to write: empty, missing, or an earlier merged set, which is replaced.
        tolerance: largest difference of two values of a metric that counts as agreement, see
            ``nfbench.sharing.agreement.largest_difference``.

    Raises:
        NfbenchError: a bundle cannot be used, bundles contradict one another, or the folder has other content. Nothing
            is written then.
    """
    name, count = Counter(path.stem for path in files).most_common(1)[0]
    if count > 1:
        raise NfbenchError(f"{count} bundles are named '{name}'; rename the files, since tables and report name them")
    if output.exists() and not (output / MERGED).is_file() and (not output.is_dir() or any(output.iterdir())):
        raise NfbenchError(f"{output} is not a merged set of bundles; take another folder")
    with ExitStack() as stack:
        folders = [stack.enter_context(tempfile.TemporaryDirectory(prefix="nfbench-")) for _ in files]
        bundles = [read_bundle(path, Path(folder)) for path, folder in zip(files, folders, strict=True)]
        require_agreement(bundles, tolerance)
        if output.exists():
            remove_tree(output)
        return _write(bundles, output, tolerance)


def _write(bundles: Sequence[Bundle], output: Path, tolerance: float) -> Merged:
    stock, origin = _united(bundles)
    paths = Paths(output)
    record = _record(bundles, origin, tolerance)
    write_sealed(output / MERGED, record)  # first, so that an interrupted merge can be repeated
    for bundle in bundles:
        _copy_runs(bundle, [cell for cell, found in origin.items() if found is bundle], paths)
    names = {str(cell): bundle.name for cell, bundle in origin.items()}
    ledger = stock.table()
    ledger.insert(
        ledger.columns.get_loc("status"), "bundle", [names.get(str(account.cell), "") for account in stock.accounts]
    )
    write_text(paths.experiment(record.experiment, "ledger.csv"), ledger.map(shield).to_csv(index=False))
    results = aggregate(stock.records.values())
    cells = results[[field.name for field in fields(Cell)]].itertuples(index=False)
    results["bundle"] = [names[str(Cell(*values))] for values in cells]
    write_results(paths.experiment(record.experiment, "results.parquet"), results, "", stock.holes)
    tables = tuple(_placed(table, bundles, record, output) for table in bundles[0].experiment.tables)
    for table in tables:
        build_table(table)
    report = _placed(bundles[0].experiment.report, bundles, record, output)
    path = write_report(report.model_copy(update={"bundles": names}), stock, pictures=0)
    return Merged(report.title, record, tables, path, stock.holes)


def _united(bundles: Sequence[Bundle]) -> tuple[Stock, dict[Cell, Bundle]]:
    """All cells of all bundles, and the bundle of each run."""
    origin: dict[Cell, Bundle] = {}
    accounts: dict[Cell, Account] = {}
    for bundle in bundles:
        for account in bundle.stock.accounts:
            if account.status == "done":
                origin.setdefault(account.cell, bundle)
                accounts[account.cell] = account
            elif accounts.get(account.cell, account).status == "skipped" or account.cell not in accounts:
                accounts[account.cell] = account
    kept = sorted(accounts.values(), key=lambda account: account.status == "skipped")
    records = {a.cell: origin[a.cell].stock.records[a.cell] for a in kept if a.status == "done"}
    return Stock(tuple(kept), records), {cell: origin[cell] for cell in records}


def _record(bundles: Sequence[Bundle], origin: dict[Cell, Bundle], tolerance: float) -> MergedRecord:
    repeated = {
        str(cell): {other.name: _largest(first, other, cell) for other in others}
        for cell, (first, *others) in repeated_runs(bundles)
    }
    return MergedRecord(
        experiment=bundles[0].record.experiment,
        tolerance=tolerance,
        bundles={bundle.name: _source(bundle, origin) for bundle in bundles},
        runs={str(cell): bundle.name for cell, bundle in origin.items()},
        repeated=repeated,
    )


def _largest(one: Bundle, other: Bundle, cell: Cell) -> float:
    return largest_difference(one.stock.records[cell], other.stock.records[cell])[0]


def _source(bundle: Bundle, origin: dict[Cell, Bundle]) -> SourceRecord:
    made = [run.provenance["train"] for run in bundle.stock.records.values()]
    return SourceRecord(
        sha256=bundle.sha256,
        nfbench=bundle.record.nfbench,
        runs=sum(found is bundle for found in origin.values()),
        commits=sorted({one["commit"] or "unknown" for one in made}),
        machines=sorted({describe_machine(one) for one in made}),
    )


def _copy_runs(bundle: Bundle, cells: Sequence[Cell], paths: Paths) -> None:
    """Copies the files of runs, and of their trainings."""
    for folder in dict.fromkeys(cell for own in cells for cell in (own, own.trained)):
        source, target = (where.run_record(folder).parent for where in (bundle.paths, paths))
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)


def _placed(spec: Specs, bundles: Sequence[Bundle], record: MergedRecord, output: Path) -> Specs:
    """A spec of a table or report in the merged set, with the cells and datasets of all bundles."""
    reports = [bundle.experiment.report for bundle in bundles]
    blocks = tuple(dict.fromkeys(block for report in reports for block in report.blocks))
    notes = {name: note for report in reports[::-1] for name, note in report.notes.items()}
    runs = ", ".join(f"{name} ({source.runs} runs)" for name, source in record.bundles.items())
    remark = f"Merged from bundles: {runs}."
    return spec.model_copy(update={"root": str(output), "blocks": blocks, "notes": notes, "remark": remark})
