"""The ledger: what became of every expected cell, by its run record and the logs of its jobs."""

import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import pandas as pd
import psutil

from nfbench.config import Bench
from nfbench.errors import NfbenchError
from nfbench.grid import Cell, expand
from nfbench.paths import Paths
from nfbench.results.record import RunRecord, read_record

__all__ = ["Account", "Stock", "describe_holes", "read_holes", "skipped_cells", "take_stock"]

Status = Literal["done", "failed", "running", "missing", "skipped"]

_TAIL_LINES = 8
_SECONDS_OF_SILENCE = 600.0
_NEXT = {
    "prepare_data": "its features are not extracted yet",
    "extract_features": "not trained yet",
    "train_flow": "trained, not evaluated yet",
    "evaluate_run": "evaluated, but its run record is gone",
}
"""What is to be said of a cell without a record, by the job that ended last."""
_FIRST_LINE = re.compile(r"process (\d+) on (\S+): ")
_LINE_START = re.compile(r"^\S+ \S+ INFO ")
_ERROR = re.compile(r"^\S+ \S+ (ERROR|CRITICAL) (.*)", re.MULTILINE)


@dataclass(frozen=True)
class Account:
    """What became of a cell.

    Attributes:
        cell: the cell.
        status: ``done``; ``failed``: a job ended with an error or was killed, or the record cannot be used;
            ``running``; ``missing``: no job was started, or the next one was not; ``skipped``: left out on purpose.
        reason: why it is not done, empty where it is.
        log: log that tells more, empty without.
        tail: the last lines of this log.
    """

    cell: Cell
    status: Status
    reason: str = ""
    log: str = ""
    tail: str = ""

    @property
    def is_hole(self) -> bool:
        """Whether the cell ought to be done and is not."""
        return self.status not in ("done", "skipped")


@dataclass(frozen=True)
class Stock:
    """All expected cells.

    Attributes:
        accounts: one per cell, skipped ones last.
        records: run records of the cells that are done.
    """

    accounts: tuple[Account, ...]
    records: dict[Cell, RunRecord]

    @property
    def holes(self) -> tuple[Account, ...]:
        """Cells that ought to be done and are not."""
        return tuple(account for account in self.accounts if account.is_hole)

    @property
    def expected(self) -> int:
        """Number of cells that ought to be done."""
        return sum(account.status != "skipped" for account in self.accounts)

    def table(self) -> pd.DataFrame:
        """One row per cell: the cell, ``status``, ``reason``, ``log``, ``tail``."""
        rows = [{**asdict(a.cell), **{k: v for k, v in vars(a).items() if k != "cell"}} for a in self.accounts]
        return pd.DataFrame(rows)


def take_stock(cells: Sequence[Cell], paths: Paths, skipped: Mapping[Cell, str] | None = None) -> Stock:
    """Reads the run record of every cell and, where there is none to use, finds out why.

    Args:
        cells: the cells that ought to be done.
        paths: where things lie.
        skipped: cells left out on purpose, with the reason.
    """
    accounts, records = [], {}
    for cell in cells:
        account, record = _account(cell, paths)
        accounts.append(account)
        if record is not None:
            records[cell] = record
    accounts += [Account(cell, "skipped", reason) for cell, reason in (skipped or {}).items()]
    return Stock(tuple(accounts), records)


def skipped_cells(
    bench: Bench,
    experiment: str,
    available: Callable[[str], list[str]],
    official: Callable[[str], Iterable[str]],
) -> dict[Cell, str]:
    """Cells that an experiment would have, were its categories all on disk and none left out by the configuration.

    Args:
        bench: configuration and experiments.
        experiment: name of the experiment.
        available: lists the categories of a dataset that are on disk.
        official: lists all categories of a dataset, none where it does not say.
    """
    whole = bench.model_copy(update={"config": bench.config.model_copy(update={"categories": None})})
    expected = set(expand(bench, experiment, available))
    reasons = {}
    for cell in expand(whole, experiment, lambda name: list(official(name)) or available(name)):
        if cell in expected:
            continue
        left_out = bench.config.categories is not None and cell.category not in bench.config.categories
        where = bench.dataset_root(cell.dataset)
        reasons[cell] = "left out by 'categories' of the configuration" if left_out else f"not on disk in {where}"
    return reasons


def read_holes(path: Path) -> tuple[Account, ...]:
    """Cells that were not done when a ledger was written; none where there is no ledger."""
    if not path.is_file():
        return ()
    rows = pd.read_csv(path, dtype=str, keep_default_na=False).astype({"seed": int}).to_dict("records")
    names = [field.name for field in fields(Cell)]
    accounts = [Account(Cell(**{n: row.pop(n) for n in names}), **row) for row in rows]
    return tuple(account for account in accounts if account.is_hole)


def describe_holes(holes: Sequence[Account], limit: int = 3) -> str:
    """Names cells that are not done, the first few with their reasons."""
    named = [f"{hole.cell} ({hole.status}: {hole.reason})" for hole in holes[:limit]]
    more = [f"{len(holes) - limit} more"] if len(holes) > limit else []
    return "; ".join([*named, *more])


def _account(cell: Cell, paths: Paths) -> tuple[Account, RunRecord | None]:
    path = paths.run_record(cell)
    log = _newest_log(cell, paths)
    text = log.read_text(errors="replace") if log else ""
    errors = [] if _ended(text) else _ERROR.findall(text)
    if log and errors and not (path.is_file() and path.stat().st_mtime > log.stat().st_mtime):
        return Account(cell, "failed", errors[-1][1], str(log), _tail(text)), None
    if path.is_file():
        return _read(cell, path)
    if log is None:
        return Account(cell, "missing", "not run yet"), None
    return Account(cell, *_between(log, text, paths), str(log), _tail(text)), None


def _between(log: Path, text: str, paths: Paths) -> tuple[Status, str]:
    """Status and reason of a cell without a record and without an error, by its newest log."""
    if _ended(text):
        return "missing", _NEXT[log.relative_to(paths.root / "logs").parts[0]]
    if not _FIRST_LINE.search(text):
        return "missing", "its log, of an older version, does not tell"
    if _is_alive(log, text):
        last = _LINE_START.sub("", text.splitlines()[-1])
        said = "just started" if _FIRST_LINE.match(last) else last
        return "running", f"{log.relative_to(paths.root / 'logs').parts[0]}: {said}"
    return "failed", "stopped without an error, as a killed job does"


def _read(cell: Cell, path: Path) -> tuple[Account, RunRecord | None]:
    """The record, where it has the right form, only finite numbers, and is that of the cell."""
    try:
        record = read_record(path)
    except NfbenchError as error:
        return Account(cell, "failed", f"invalid record: {error}"), None
    found = record.cell.cell
    if found != cell:
        return Account(cell, "failed", f"invalid record: {path} is the record of another cell, {found}"), None
    return Account(cell, "done"), record


def _job_logs(cell: Cell, paths: Paths) -> list[Path]:
    """Logs of the jobs that a cell needs, in their order."""
    shared = [("prepare_data", "{dataset}/{category}")]
    shared += [("extract_features", paths.features_suffix.replace("{view}", view)) for view in ("train", "test")]
    before = [Path(paths.log(rule, suffix).format(**vars(cell))) for rule, suffix in shared]
    return [*before, paths.run_log("train_flow", cell.trained), paths.run_log("evaluate_run", cell)]


def _newest_log(cell: Cell, paths: Paths) -> Path | None:
    """The log that was written last; of equal age, that of the later job."""
    found = [log for log in _job_logs(cell, paths) if log.is_file()]
    return max(reversed(found), key=lambda log: log.stat().st_mtime, default=None)


def _is_alive(log: Path, text: str) -> bool:
    """Whether the process that writes a log runs; on another machine, whether it has written lately."""
    pid, host = _FIRST_LINE.search(text).groups()
    written = log.stat().st_mtime
    if host != socket.gethostname():
        return time.time() - written < _SECONDS_OF_SILENCE
    try:
        return psutil.Process(int(pid)).create_time() <= written
    except psutil.NoSuchProcess:
        return False


def _ended(text: str) -> bool:
    return text.rstrip().endswith(" finished")


def _tail(text: str) -> str:
    return "\n".join(text.splitlines()[-_TAIL_LINES:])
