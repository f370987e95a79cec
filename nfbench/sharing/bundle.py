"""Bundles: the results of an experiment as one file, without images, models and maps.

A bundle is an archive (``nfbench.core.archive``) with the definition of the experiment, the ledger, the manifests, and
the records and CSV files of all finished runs. Its hashes reveal damage. They do not prove who measured the values.
"""

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import ClassVar

import pandas as pd

import nfbench
from nfbench.config.names import name_fault
from nfbench.core.archive import ArchiveRecord, read_archive, write_archive
from nfbench.core.errors import NfbenchError
from nfbench.core.files import read_model, shield, unshield, write_json, write_text
from nfbench.core.provenance import file_sha256
from nfbench.core.record import Record
from nfbench.datasets._manifest import Entry, read_manifest
from nfbench.plan.cells import Cell
from nfbench.plan.experiment_specs import ReportSpec, TableSpec
from nfbench.plan.paths import EVALUATED, TRAINED, Paths
from nfbench.results.ledger import Account, Stock
from nfbench.results.record import RunRecord, manifest_of, read_record

__all__ = ["SUFFIX", "Bundle", "BundleRecord", "SharedExperiment", "read_bundle", "write_bundle"]

SUFFIX = ".nfbundle"
"""File ending of bundles."""

_EXPERIMENT, _LEDGER = "experiment.json", "ledger.csv"
_TEXT = {".json", ".csv"}
_OF_RUN = {name for name in EVALUATED if Path(name).suffix in _TEXT}
_OF_TRAINING = {name for name in TRAINED if Path(name).suffix in _TEXT}
_LENGTHS = {"manifests": 3, "runs": 8}
"""Number of parts of a file's name, by its first part."""


class BundleRecord(ArchiveRecord):
    """The manifest of a bundle.

    Attributes:
        experiment: name of the experiment.
    """

    kind: ClassVar[str] = "bundle"
    current: ClassVar[int] = 1

    experiment: str


class SharedExperiment(Record):
    """The definition of an experiment in a bundle.

    Attributes:
        report: its title, cells, tables and notes.
        tables: its tables of results.
    """

    report: ReportSpec
    tables: tuple[TableSpec, ...]


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read.

    Attributes:
        name: name of its file without the ending.
        sha256: hash of the file.
        record: its manifest.
        experiment: the definition of the experiment.
        stock: all expected cells, with the run records of those that are done.
        manifests: images by dataset and category.
        paths: paths of the unpacked files.
    """

    name: str
    sha256: str
    record: BundleRecord
    experiment: SharedExperiment
    stock: Stock
    manifests: dict[tuple[str, str], list[Entry]]
    paths: Paths


def write_bundle(report: ReportSpec, tables: Sequence[TableSpec], stock: Stock, output: Path) -> list[str]:
    """Writes the results of an experiment to a bundle, atomically.

    Args:
        report: what its report shows.
        tables: its tables of results.
        stock: its cells.
        output: file to write.

    Returns:
        Absolute paths of images that the bundle contains.

    Raises:
        NfbenchError: no run is done, files have changed, a manifest is missing, or the name has another ending.
    """
    if output.suffix != SUFFIX:
        raise NfbenchError(f"{output}: the name of a bundle must end in {SUFFIX}")
    if not stock.records:
        raise NfbenchError(f"experiment '{report.experiment}' has no finished run to bundle")
    if damaged := [account for account in stock.checked(report.paths).holes if account.cell in stock.records]:
        raise NfbenchError(f"{damaged[0].cell}: {damaged[0].reason}")
    images = [entry.image for record in stock.records.values() for entry in manifest_of(record)]
    with tempfile.TemporaryDirectory(prefix="nfbench-") as temporary:
        folder = Path(temporary)
        write_text(folder / _LEDGER, _ledger(stock))
        shared = SharedExperiment(report=_portable(report), tables=tuple(map(_portable, tables)))
        write_json(folder / _EXPERIMENT, shared.model_dump(mode="json"))
        names = {_LEDGER: None, _EXPERIMENT: None}
        for source, name in _files(stock, report.paths):
            if name not in names:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, folder / name)
                names[name] = None
        write_archive(BundleRecord, output, folder, names, experiment=report.experiment)
    return [image for image in images if Path(image).is_absolute()]


def read_bundle(path: Path, folder: Path) -> Bundle:
    """Reads a bundle.

    Args:
        path: the file.
        folder: an empty folder to unpack it to.

    Raises:
        NfbenchError: the file is damaged, not a bundle, or of an incompatible version; one line.
    """
    record = read_archive(BundleRecord, path, folder, _is_known, {_EXPERIMENT, _LEDGER})
    paths = Paths(folder)
    try:
        records = dict(_records(record, folder))
        stock = Stock(_accounts(folder / _LEDGER, records), records).checked(paths)
        if damaged := [account for account in stock.holes if account.cell in records]:
            raise NfbenchError(damaged[0].reason)
        manifests = {(run.cell.dataset, run.cell.category): _images(folder, run) for run in records.values()}
        experiment = read_model(SharedExperiment, folder / _EXPERIMENT)
    except NfbenchError as error:
        said = str(error).replace(f"{folder}/", "")
        raise NfbenchError(
            f"{path} was written by nfbench {record.nfbench} and cannot be used by {nfbench.__version__}: {said}"
        ) from error
    return Bundle(path.stem, file_sha256(path), record, experiment, stock, manifests, paths)


def _portable(spec: ReportSpec | TableSpec) -> ReportSpec | TableSpec:
    """A spec without the folder and the hashes of this machine."""
    return spec.model_copy(update={"root": "", "code": "", "origin": ""})


def _ledger(stock: Stock) -> str:
    """The ledger without logs, whose paths and texts are those of a machine."""
    return str(stock.table().drop(columns=["log", "tail"]).map(shield).to_csv(index=False))


def _accounts(path: Path, records: dict[Cell, RunRecord]) -> tuple[Account, ...]:
    """The accounts of a ledger; the cells that are done must be those with a record."""
    table = pd.read_csv(StringIO(path.read_text()), dtype=str, keep_default_na=False).map(unshield)
    accounts = []
    try:
        for row in table.to_dict("records"):
            status, reason = row.pop("status"), row.pop("reason")
            accounts.append(Account(Cell(**{**row, "seed": int(row["seed"])}), status, reason))
    except (KeyError, TypeError, ValueError) as error:
        raise NfbenchError(f"{path} is not a ledger: {error!r}") from None
    if odd := {account.cell for account in accounts if account.status == "done"} ^ records.keys():
        raise NfbenchError(f"{path} and the run records disagree about {min(odd)}")
    return tuple(accounts)


def _files(stock: Stock, paths: Paths) -> Iterator[tuple[Path, str]]:
    """Yields the files of all finished runs, with their names in the bundle."""
    for cell, record in stock.records.items():
        yield Path(record.data.manifest), _manifest(record)
        run, training = paths.run_record(cell).parent, paths.run_record(cell.trained).parent
        for folder, names in ((run, _OF_RUN), (training, _OF_TRAINING)):
            for path in (folder / name for name in sorted(names)):
                if path.is_file():
                    yield path, path.relative_to(paths.root).as_posix()


def _records(record: BundleRecord, folder: Path) -> Iterator[tuple[Cell, RunRecord]]:
    for name in record.written:
        if name.endswith("/run.json"):
            found = read_record(folder / name)
            if Paths(folder).run_record(found.cell.cell) != folder / name:
                raise NfbenchError(f"{name} is the record of another cell, {found.cell.cell}")
            yield found.cell.cell, found


def _images(folder: Path, run: RunRecord) -> list[Entry]:
    path = folder / _manifest(run)
    if path.is_file() and file_sha256(path) != run.data.manifest_sha256:
        raise NfbenchError(f"{path} is not the manifest that {run.cell.cell} was evaluated with")
    return read_manifest(path)


def _manifest(record: RunRecord) -> str:
    return f"manifests/{record.cell.dataset}/{record.cell.category}.csv"


def _is_known(name: str) -> bool:
    """Whether a file may be in a bundle; parts of paths are names of the configuration, so none is ``..``."""
    first, *parts = name.split("/")
    if not parts:
        return name in (_EXPERIMENT, _LEDGER)
    if len(parts) + 1 != _LENGTHS.get(first) or any(map(name_fault, parts)):
        return False
    return parts[-1].endswith(".csv") if first == "manifests" else parts[-1] in _OF_RUN | _OF_TRAINING
