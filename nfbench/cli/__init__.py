"""The command line: one subcommand per stage of the workflow, and commands to inspect results.

Every command prints one line for an error that a user can fix, including errors of the operating system, and exits with
status 1. The trace goes to the log. A log begins with the process that writes it and ends with ``finished`` after
success, so that the ledger can tell running, failed and killed jobs apart.
"""

import logging
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from nfbench.cli import (
    check,
    data,
    demo,
    experiments,
    explain,
    explore,
    export,
    pack,
    pages,
    plan,
    predict,
    share,
    show,
    stages,
    start,
    submission,
)
from nfbench.core.errors import NfbenchError, is_of_memory, one_line, system_error

__all__ = ["app", "main"]

_log = logging.getLogger(__name__)
_PLATFORMS = "nfbench runs on Linux and macOS; on Windows, use the Windows Subsystem for Linux"

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
for command in (
    stages.prepare_data,
    stages.extract_features,
    stages.create_study,
    stages.search_hyperparameters,
    stages.summarize_study,
    stages.train_flow,
    stages.score_run,
    stages.evaluate_run,
    experiments.aggregate_results,
    experiments.build_table,
    experiments.build_figure,
    experiments.build_report,
    experiments.report,
    experiments.track_runs,
    show.show,
    pages.mlflow,
    explain.explain,
    explain.status,
    plan.plan,
    predict.predict,
    export.export,
    pack.pack,
    share.bundle,
    share.merge,
    demo.demo,
    submission.submission,
    check.check,
    explore.describe,
    explore.errata,
    explore.coverage,
    explore.schema,
    start.check_start,
    start.check_device,
):
    app.command(command.__name__)(command)
app.command("list")(explore.list_names)
app.add_typer(data.app, name="data")


@app.callback()
def _configure(
    log: Annotated[Path | None, typer.Option(help="Log file; includes traces of errors.")] = None,
) -> None:
    """Benchmark of normalizing flows for image anomaly detection and localization."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setLevel(logging.WARNING)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(_LogFile(log, mode="w", encoding="utf-8", errors="backslashreplace"))
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=handlers, force=True
    )
    logging.captureWarnings(True)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # it logs odd headers of a server with a trace
    _log.info("process %d on %s: %s", os.getpid(), socket.gethostname(), shlex.join(["nfbench", *sys.argv[1:]]))


def main() -> None:
    """Runs the command line; prints an error that the user can fix as one line."""
    if os.name != "posix":
        print(f"error: {_PLATFORMS}; this is {sys.platform}", file=sys.stderr)
        raise SystemExit(1)
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        if not end.code:
            _log.info("finished")
        raise
    except Exception as error:
        line = _line_of(error)
        _log_failure(line or str(error) or type(error).__name__)
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        raise SystemExit(1) from None


def _line_of(error: Exception) -> str | None:
    """The line for an error that a user can fix; None for a bug, whose trace is printed."""
    if isinstance(error, NfbenchError):
        return str(error)
    if isinstance(error, OSError):
        return str(system_error(error))
    if is_of_memory(error):
        return f"out of memory: {one_line(error)}; take smaller batches or inputs, or a larger machine"
    return None


class _LogFile(logging.FileHandler):
    """A log file that warns once if it cannot be written; the command continues."""

    _told = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Called by logging, which would print a trace for each record."""
        if not self._told:
            print(f"warning: log {self.baseFilename}: {one_line(sys.exc_info()[1])}", file=sys.stderr)
            self._told = True


def _log_failure(message: str) -> None:
    """Writes an error with its trace to the log file, if there is one."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(logging.LogRecord("nfbench", logging.ERROR, "", 0, message, None, sys.exc_info()))
