"""The command line: one subcommand per stage of the workflow, and a few to look around.

Every command prints one line for an error that a user can repair, and exits with 1; the trace goes to the log, as that
of any other error does. A log begins with the process that writes it and ends with ``finished`` where all went well, so
that the ledger can tell jobs that run, failed or were killed.
"""

import logging
import os
import shlex
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from nfbench.cli import build, check, data, evaluate, explain, explore, extract, report, search, track, train
from nfbench.core.errors import NfbenchError

__all__ = ["app", "main"]

_log = logging.getLogger(__name__)

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
app.command("prepare_data")(data.prepare_data)
app.command("extract_features")(extract.extract)
app.command("create_study")(search.create_study)
app.command("search_hyperparameters")(search.search_hyperparameters)
app.command("summarize_study")(search.summarize_study)
app.command("train_flow")(train.train_flow)
app.command("evaluate_run")(evaluate.evaluate_run)
app.command("aggregate_results")(build.aggregate_results)
app.command("build_table")(build.build_table)
app.command("build_figure")(build.build_figure)
app.command("build_report")(report.build_report)
app.command("report")(report.report)
app.command("track_runs")(track.track_runs)
app.command("mlflow")(track.mlflow)
app.command("show")(build.show)
app.command("explain")(explain.explain)
app.command("status")(explain.status)
app.command("describe")(explore.describe)
app.command("list")(explore.list_names)
app.command("errata")(explore.errata)
app.command("check")(check.check)
app.command("schema")(explore.schema)
app.command("check_variants")(explore.check_variants)
app.command("check_device")(explore.check_device)
app.add_typer(data.app, name="data")


@app.callback()
def _configure(
    log: Annotated[Path | None, typer.Option(help="File that takes the log, with traces of errors.")] = None,
) -> None:
    """Benchmark of normalizing flows for image anomaly detection and localization."""
    handlers: list[logging.Handler] = [logging.StreamHandler()]
    handlers[0].setLevel(logging.WARNING)
    if log is not None:
        log.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log, mode="w"))
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", handlers=handlers, force=True
    )
    logging.captureWarnings(True)
    _log.info("process %d on %s: %s", os.getpid(), socket.gethostname(), shlex.join(["nfbench", *sys.argv[1:]]))


def main() -> None:
    """Runs the command line; errors of the user become one line."""
    try:
        app(standalone_mode=True)
    except SystemExit as end:
        if not end.code:
            _log.info("finished")
        raise
    except NfbenchError as error:
        _log_failure(error)
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except Exception as error:
        _log_failure(error)
        raise


def _log_failure(error: Exception) -> None:
    """Writes an error with its trace to the log file, if there is one."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            message = str(error) or type(error).__name__
            handler.emit(logging.LogRecord("nfbench", logging.ERROR, "", 0, message, None, sys.exc_info()))
