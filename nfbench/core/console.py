"""What a run of the workflow prints: one line per finished job, the progress of long jobs, and failures with their log.

The console wraps the handler that prints Snakemake's records. Records of jobs become lines of its own, records about
Snakemake itself are left out, and all others reach the wrapped handler. Snakemake's log files keep every record.

A logger plugin of Snakemake would have to be installed next to Snakemake. This console also works with Snakemake alone,
in a clone, because it depends on the standard library only.
"""

import logging
import re
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nfbench.core.errors import one_line

__all__ = ["Console", "duration", "last_progress", "log_excerpt"]

SECONDS_BETWEEN_UPDATES = 30.0
_MOST_UPDATES = 4
_LOG_TAIL = 1 << 16
_LOG_LINES = 6
_LINE_LENGTH = 200
_PROGRESS = re.compile(r" INFO .*: (\d+ of \d+, about .* left.*)$")
_UNUSED = re.compile(
    "Building DAG|Using shell|Provided |Rules claiming|Group jobs: inactive|Conda environments: ignored|"
    "Singularity containers: ignored|Select jobs|Execute |Removing temporary"
)
"""Beginnings of Snakemake's own notes."""

_REPEATED = re.compile(
    "Exiting because a job|RuleException:\nCalledProcessError|WorkflowError:\nAt least one job did not"
)
"""Beginnings of errors that follow a failed job."""

_UNUSED_EVENTS = ("shellcmd", "resources_info", "job_started", "workflow_started")


@dataclass
class _Job:
    rule: str
    title: str
    logs: list[str]
    began: float
    seconds: float = 0.0


@dataclass
class _Tally:
    """Counts and times of jobs by rule."""

    planned: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(self, job: _Job) -> None:
        self.done[job.rule] += 1
        self.seconds[job.rule] = self.seconds.get(job.rule, 0.0) + job.seconds

    def left(self, elapsed: float) -> tuple[float, bool]:
        """Estimated seconds for the remaining jobs, and whether each rule among them has a measured time."""
        remaining = self.planned - self.done
        work = sum(self.seconds[rule] / self.done[rule] * count for rule, count in remaining.items() if self.done[rule])
        at_once = max(1.0, sum(self.seconds.values()) / elapsed) if elapsed else 1.0
        return work / at_once, all(self.done[rule] for rule in remaining)


class Console(logging.Handler):
    """Prints the records of a run.

    Args:
        wrapped: Handler that prints Snakemake's records. Its filters decide what is printed, and its stream is used.
    """

    def __init__(self, wrapped: logging.StreamHandler) -> None:
        super().__init__(wrapped.level)
        self.name = wrapped.name
        self._wrapped = wrapped
        self._tally = _Tally()
        self._running: dict[int, _Job] = {}
        self._finished: list[_Job] = []
        self._failed: list[_Job] = []
        self._began = time.monotonic()
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin to print the progress of long jobs now and then, until the handler is closed."""
        self._began = time.monotonic()
        threading.Thread(target=self._update, daemon=True).start()

    def close(self) -> None:
        """End the updates and close the wrapped handler."""
        self._ended.set()
        self._wrapped.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record, as a line of the console's own where it is about a job."""
        if not self._wrapped.filter(record):
            return
        event = str(getattr(record, "event", None) or "")
        if of_event := getattr(self, f"_on_{event}", None):
            of_event(record)
        elif event not in _UNUSED_EVENTS and not _is_noise(record):
            self._wrapped.handle(record)

    def print_failures(self) -> None:
        """Print which jobs failed, and how to continue; nothing where none failed."""
        if self._failed:
            count = f"{len(self._failed)} job{'s' * (len(self._failed) > 1)} failed:"
            advice = "Fix the cause and run the same command again: finished jobs are kept."
            self._print("\n".join([count, *(f"  {job.title}" for job in self._failed), advice]))

    def _on_run_info(self, record: logging.LogRecord) -> None:
        counts = dict(getattr(record, "stats", None) or {})
        total = counts.pop("total", sum(counts.values()))
        self._tally.planned = Counter(counts)
        parts = ", ".join(f"{count} {rule}" for rule, count in counts.items())
        self._print(f"{total} job{'s' * (total != 1)}: {parts}")

    def _on_job_info(self, record: logging.LogRecord) -> None:
        found = vars(record)
        self._running[found["jobid"]] = _job_of(found, found.get("rule_msg"))

    def _on_group_info(self, record: logging.LogRecord) -> None:
        """Jobs of a group follow one by one."""

    def _on_job_finished(self, record: logging.LogRecord) -> None:
        job = self._running.pop(vars(record)["job_id"], None)
        if job:
            job.seconds = time.monotonic() - job.began
            self._failed = [other for other in self._failed if other.title != job.title]  # an earlier attempt
            self._tally.add(job)
            self._finished.append(job)

    def _on_progress(self, record: logging.LogRecord) -> None:
        done, total = vars(record)["done"], vars(record)["total"]
        seconds, is_complete = self._tally.left(time.monotonic() - self._began)
        left = f", {'' if is_complete else 'more than '}{duration(seconds)} left" if done < total and seconds else ""
        for number, job in enumerate(self._finished, done - len(self._finished) + 1):
            title, *details = job.title.splitlines()
            line = f"[{number:>{len(str(total))}}/{total}{left}] {title} ({duration(job.seconds)})"
            self._print("\n".join([line, *details]))
        self._finished.clear()

    def _on_job_error(self, record: logging.LogRecord) -> None:
        found = vars(record)
        job = self._running.pop(found["jobid"], None)
        job = job or _job_of(found)
        self._failed = [*(other for other in self._failed if other.title != job.title), job]
        lines = [f"FAILED  {job.title} ({duration(time.monotonic() - job.began)})"]
        if reason := found.get("rule_msg"):
            lines.append(f"  {one_line(reason)}")
        for log in found["log"]:
            lines += [f"  {log}:", *(f"    {line}" for line in log_excerpt(Path(log)))]
        self._print("\n".join(lines))

    def _on_group_error(self, record: logging.LogRecord) -> None:
        """Jobs of the group follow one by one."""

    def _update(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_UPDATES):
            self.print_updates()

    def print_updates(self) -> None:
        """Print how far the jobs are that have run for a while, the longest first."""
        now = time.monotonic()
        jobs = [job for job in list(self._running.values()) if now - job.began >= SECONDS_BETWEEN_UPDATES]
        for job in jobs[:_MOST_UPDATES]:
            progress = next((found for log in job.logs if (found := last_progress(Path(log)))), "")
            progress = f": {progress}" if progress else ""
            self._print(f"  in progress for {duration(now - job.began)}: {job.title}{progress}")
        if len(jobs) > _MOST_UPDATES:
            self._print(f"  and {len(jobs) - _MOST_UPDATES} more")

    def _print(self, text: str) -> None:
        record = logging.LogRecord("nfbench", logging.INFO, "", 0, text, None, None)
        self._wrapped.acquire()
        try:
            self._wrapped.emit(record)
        finally:
            self._wrapped.release()


def _is_noise(record: logging.LogRecord) -> bool:
    known = _UNUSED if record.levelno <= logging.INFO else _REPEATED
    return bool(known.match(str(record.msg or "")))


def _job_of(found: Mapping[str, Any], message: str | None = None) -> _Job:
    title = message or f"Rule {found['rule_name']}"
    return _Job(found["rule_name"], title, list(found["log"]), time.monotonic())


def duration(seconds: float) -> str:
    """Seconds as text, such as ``12 s``, ``5 min`` or ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def last_progress(log: Path) -> str:
    """The last line about progress in the log of a job, without its time; empty if there is none."""
    found = (_PROGRESS.search(line) for line in reversed(_tail(log)))
    return next((one_line(match[1], _LINE_LENGTH) for match in found if match), "")


def log_excerpt(log: Path) -> list[str]:
    """The last lines in the log of a failed job, beginning with its error where it has one.

    Of an error that a user can fix, which is one line, the trace is left out.
    """
    lines = _tail(log) or ["(no log)"]
    errors = [number for number, line in enumerate(lines) if " ERROR " in line]
    chosen = lines[-_LOG_LINES:]
    if errors:
        trace = [] if "NfbenchError: " in lines[-1] else lines[errors[-1] + 1 :]
        chosen = [lines[errors[-1]], *trace[-_LOG_LINES:]]
    return [line.rstrip()[:_LINE_LENGTH] for line in chosen]


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_TAIL))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
