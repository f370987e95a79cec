"""Progress of an experiment, and its remaining time, estimated from the wall times of finished jobs."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from nfbench.core.console import duration
from nfbench.plan.cells import Cell
from nfbench.plan.paths import SCORED, Paths
from nfbench.results.ledger import Account, Status, Stock

__all__ = ["describe_progress", "job_seconds", "seconds_left"]

_STAGES = ("train_flow", "score_run", "evaluate_run")
_STATUSES: tuple[Status, ...] = ("done", "running", "missing", "stale", "failed", "skipped")
_SHOWN = 10


def describe_progress(stock: Stock, paths: Paths) -> Iterator[str]:
    """Yield lines for the terminal."""
    counts = Counter(account.status for account in stock.accounts)
    shown = ", ".join(f"{counts[s]} {s}" for s in _STATUSES if counts[s])
    yield f"  {counts['done']} of {stock.expected} cells done ({shown})"
    methods = dict.fromkeys((account.cell.method, account.cell.backbone) for account in stock.accounts)
    for method, backbone in methods:
        mine = [a for a in stock.accounts if (a.cell.method, a.cell.backbone) == (method, backbone)]
        wanted = [account for account in mine if account.status != "skipped"]
        done = sum(account.status == "done" for account in wanted)
        yield f"  {method} on {backbone}: {done} of {len(wanted)}"
    for status in ("running", "failed", "stale"):
        found = [account for account in stock.accounts if account.status == status]
        yield from (f"  {status}: {account.cell}: {_reason(account)}" for account in found[:_SHOWN])
        if len(found) > _SHOWN:
            yield f"  {status}: {len(found) - _SHOWN} more"
    for reason, number in Counter(a.reason for a in stock.accounts if a.status == "skipped").items():
        yield f"  skipped: {number} cells, {reason}"
    yield f"  {_estimate(stock, paths)}"


def seconds_left(stock: Stock, paths: Paths) -> float | None:
    """Estimate the wall seconds of the cells that are not done, run sequentially; None without finished cells.

    The estimate for a cell is the median of the finished cells of its method and backbone, or of all finished cells if
    there are none. It counts training, scoring and evaluation, without stages that are already done.
    """
    import pandas as pd  # imported late: each run checks its disk first

    done = pd.DataFrame([_times(cell, paths) for cell in stock.records]).dropna()
    if done.empty:
        return None
    by_method = done.groupby(["method", "backbone"])[list(_STAGES)].median()
    overall = done[list(_STAGES)].median()
    total, to_train = 0.0, set()
    for hole in stock.holes:
        key = (hole.cell.method, hole.cell.backbone)
        expected = by_method.loc[key] if key in by_method.index else overall
        total += float(expected["evaluate_run"])
        if not (paths.run_record(hole.cell).parent / SCORED).is_file():
            total += float(expected["score_run"])
        if not (paths.run_record(hole.cell.trained).parent / "training.json").is_file():
            total += 0.0 if hole.cell.trained in to_train else float(expected["train_flow"])
            to_train.add(hole.cell.trained)
    return total


def _estimate(stock: Stock, paths: Paths) -> str:
    if not stock.holes:
        return "all cells are done"
    left = seconds_left(stock, paths)
    if left is None:
        return "no finished cell to estimate the remaining time from"
    running = len({account.log for account in stock.accounts if account.status == "running"})
    at_once = f", about {duration(left / running)} with {running} jobs at a time" if running > 1 else ""
    return f"left: about {duration(left)} of training, scoring and evaluation{at_once}"


def _times(cell: Cell, paths: Paths) -> dict[str, str | float]:
    """Wall seconds of the jobs of a cell, as measured by Snakemake; NaN if not measured."""
    times: dict[str, str | float] = {"method": cell.method, "backbone": cell.backbone}
    for stage, of_stage in zip(_STAGES, (cell.trained, cell, cell), strict=True):
        seconds = job_seconds(paths.run_benchmark(stage, of_stage))
        times[stage] = float("nan") if seconds is None else seconds
    return times


def job_seconds(path: Path) -> float | None:
    """Wall seconds of a finished job from its benchmark file; None if the file is missing or truncated."""
    try:
        header, *rows = path.read_text().splitlines()
        return float(rows[-1].split("\t")[header.split("\t").index("s")])
    except (OSError, ValueError, IndexError):
        return None


def _reason(account: Account) -> str:
    return f"{account.reason} (see {account.log})" if account.log and account.status == "failed" else account.reason
