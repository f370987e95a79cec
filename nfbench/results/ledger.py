"""The ledger: the status of every expected cell, from its run record and the logs of its jobs."""

import math
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from nfbench.core.errors import NfbenchError
from nfbench.core.seals import resized, verified
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.results.files import Epoch, file_of
from nfbench.results.record import RunRecord, StaleRecord, read_expected

if TYPE_CHECKING:
    import pandas as pd

    from nfbench.plan.job import Job

__all__ = ["Account", "Stock", "describe_holes", "take_stock"]

Status = Literal["done", "failed", "running", "missing", "stale", "skipped"]

_TAIL_LINES = 8
_SECONDS_OF_SILENCE = 600.0
_NEXT = {
    "prepare_data": "its features are not extracted yet",
    "extract_features": "not trained yet",
    "create_study": "its search has not started yet",
    "search_hyperparameters": "its search is not finished yet",
    "summarize_study": "not trained yet",
    "train_flow": "trained, not scored yet",
    "score_run": "scored, not evaluated yet",
    "evaluate_run": "evaluated, but its run record is gone",
}
"""Reason of a cell without a record, by the last job that ended."""
_FIRST_LINE = re.compile(r"process (\d+) on (\S+): ")
_LINE_START = re.compile(r"^\S+ \S+ INFO ")
_ERROR = re.compile(r"^\S+ \S+ (ERROR|CRITICAL) (.*)", re.MULTILINE)


@dataclass(frozen=True)
class Account:
    """Status of a cell.

    Attributes:
        cell: the cell.
        status: ``done``; ``failed``: a job ended with an error or was killed, or the record cannot be used;
            ``running``; ``missing``: the first or the next job has not started; ``stale``: the record belongs to other
            settings, images or code; ``skipped``: left out on purpose.
        reason: why the cell is not done; empty if it is done.
        log: path of the log with details; empty if there is no log.
        tail: the last lines of this log.
    """

    cell: Cell
    status: Status
    reason: str = ""
    log: str = ""
    tail: str = ""

    @property
    def is_hole(self) -> bool:
        """Whether the cell is expected and not done."""
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
        """Expected cells that are not done."""
        return tuple(account for account in self.accounts if account.is_hole)

    @property
    def expected(self) -> int:
        """Number of expected cells."""
        return sum(account.status != "skipped" for account in self.accounts)

    def checked(self, paths: Paths) -> "Stock":
        """Check the files of all runs; runs with a file that has changed since it was written become holes."""
        damaged = {}
        for cell, record in self.records.items():
            try:
                _check_files(cell, record, paths)
            except NfbenchError as error:
                damaged[cell] = Account(cell, "failed", str(error))
        records = {cell: record for cell, record in self.records.items() if cell not in damaged}
        return Stock(tuple(damaged.get(account.cell, account) for account in self.accounts), records)

    def table(self) -> "pd.DataFrame":
        """Return one row per cell: the cell, ``status``, ``reason``, ``log``, ``tail``, and ``condition`` of any."""
        import pandas as pd

        rows = [{**asdict(a.cell), **{k: v for k, v in vars(a).items() if k != "cell"}} for a in self.accounts]
        table = pd.DataFrame(rows)
        return table if table.get("condition", pd.Series()).any() else table.drop(columns="condition", errors="ignore")


def take_stock(
    expected: Mapping[Cell, str],
    paths: Paths,
    skipped: Mapping[Cell, str] | None = None,
    jobs: "Mapping[Cell, Job] | None" = None,
) -> Stock:
    """Read the run record of every cell; if a record cannot be used, find the reason.

    Args:
        expected: expected cells, each with the short hash of its evaluation's spec; see ``nfbench.plan.origin``.
            Records with another hash do not count.
        paths: locations of all files.
        skipped: cells left out on purpose, with the reason.
        jobs: last job of each cell; logs give the reason for a missing record. Without jobs, only records are read.
    """
    accounts, records, find = [], {}, cache(_Log.find)
    for cell, digest in expected.items():
        account, record = _account(cell, digest, (jobs or {}).get(cell), paths.run_record(cell), find)
        accounts.append(account)
        if record is not None:
            records[cell] = record
    accounts += [Account(cell, "skipped", reason) for cell, reason in (skipped or {}).items()]
    return Stock(tuple(accounts), records)


def describe_holes(holes: Sequence[Account], limit: int = 3) -> str:
    """Name cells that are not done, the first few with their reasons."""
    named = [f"{hole.cell} ({hole.status}: {hole.reason})" for hole in holes[:limit]]
    more = [f"{len(holes) - limit} more"] if len(holes) > limit else []
    return "; ".join([*named, *more])


@dataclass(frozen=True)
class _Log:
    """The log of a job, and its modification time."""

    rule: str
    path: Path
    written: float

    @classmethod
    def find(cls, rule: str, path: Path) -> "_Log | None":
        return cls(rule, path, path.stat().st_mtime) if path.is_file() else None

    @cached_property
    def text(self) -> str:
        return self.path.read_text(errors="replace")

    @property
    def ended(self) -> bool:
        return self.text.rstrip().endswith(" finished")

    @cached_property
    def errors(self) -> list[str]:
        return [] if self.ended else [message for _, message in _ERROR.findall(self.text)]

    @property
    def is_cut(self) -> bool:
        """Whether the log has no end: the job is running or was killed."""
        return not self.ended and _FIRST_LINE.search(self.text) is not None

    @property
    def tail(self) -> str:
        return "\n".join(self.text.splitlines()[-_TAIL_LINES:])


def _account(
    cell: Cell, digest: str, last: "Job | None", path: Path, find: Callable[[str, Path], _Log | None]
) -> tuple[Account, RunRecord | None]:
    recorded = path.stat().st_mtime if path.is_file() else -math.inf
    logs = _logs(last, find) if last else ()
    log = _telling([log for log in logs if log.written >= recorded])
    if log and log.errors:
        return Account(cell, "failed", log.errors[-1], str(log.path), log.tail), None
    if path.is_file():
        account, record = _read(cell, digest, path)
        if account.status != "stale" or not (log and log.is_cut):
            return account, record
    if log is None:
        return Account(cell, "missing", "not run yet"), None
    return Account(cell, *_between(log), str(log.path), log.tail), None


def _between(log: _Log) -> tuple[Status, str]:
    """Status and reason of a cell without a record and without an error, from its most telling log."""
    if log.ended:
        return "missing", _NEXT[log.rule]
    if not log.is_cut:
        return "missing", "its log was written by an older version and gives no reason"
    if _is_alive(log):
        last = _LINE_START.sub("", log.text.splitlines()[-1])
        said = "just started" if _FIRST_LINE.match(last) else last
        return "running", f"{log.rule}: {said}"
    return "failed", "stopped without an error; it was probably killed"


def _read(cell: Cell, digest: str, path: Path) -> tuple[Account, RunRecord | None]:
    """Read the record of a cell if it can be used and matches the plan."""
    try:
        record = read_expected(path, cell, digest)
        if cut := resized(path.parent, record.written):
            raise NfbenchError(f"the size of {cut} has changed since {path.name} was written")
        return Account(cell, "done"), record
    except StaleRecord as error:
        return Account(cell, "stale", str(error)), None
    except NfbenchError as error:
        return Account(cell, "failed", f"invalid record: {error}"), None


def _check_files(cell: Cell, record: RunRecord, paths: Paths) -> None:
    """Check the existing files of a run and the history of its training against their records.

    Raises:
        NfbenchError: a file has changed; names the file.
    """
    run, training = paths.run_record(cell), paths.run_record(cell.trained).with_name("training.json")
    of_run = [(run.with_name(name), run) for name in record.written]
    for path, known_by in (*of_run, (training.with_name(file_of(Epoch)), training)):
        if path.is_file():
            verified(path, known_by)


def _telling(logs: Sequence[_Log]) -> _Log | None:
    """The most recent log of a failed or running job; without such a job, the log of the last job."""
    going = [log for log in logs if log.errors or log.is_cut]
    return max(reversed(going), key=lambda log: log.written) if going else next(reversed(logs), None)


def _logs(last: "Job", find: Callable[[str, Path], _Log | None]) -> Iterator[_Log]:
    """Logs of the jobs of a cell, in order, without outdated ones: those older than the log of an earlier job."""
    newest: dict[Path, float] = {}
    for job in last.chain():
        if job.log in newest:
            continue
        before = max((newest[other.log] for other in job.before), default=-math.inf)
        log = find(job.stage, job.log)
        newest[job.log] = max(before, log.written) if log else before
        if log and log.written >= before:
            yield log


def _is_alive(log: _Log) -> bool:
    """Whether the process that writes a log is running; on another machine, whether it has written recently."""
    first = _FIRST_LINE.search(log.text)
    if first is None:
        return False
    pid, host = first.groups()
    if host != socket.gethostname():
        return time.time() - log.written < _SECONDS_OF_SILENCE
    try:
        return psutil.Process(int(pid)).create_time() <= log.written
    except psutil.NoSuchProcess:
        return False
