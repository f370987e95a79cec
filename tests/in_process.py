"""Commands of this project run in the process of the tests: an interpreter and its imports take one to three seconds.

What a new process does besides, such as one line for an error, the log, the exit code, is tested where a test starts
one.
"""

import importlib
import inspect
import io
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from typer.testing import CliRunner

from nfbench.cli.load import load_plan
from nfbench.plan.job import Job

__all__ = ["DRY_RUN", "count_jobs", "planned_jobs", "run_experiment", "run_job", "run_nfbench", "run_snakemake"]

DRY_RUN = ("--quiet", "rules", "--dry-run")


def run_nfbench(folder: Path, *arguments: str) -> str:
    """Run a command of nfbench in a folder; return all it printed, and raise what it raised."""
    from nfbench.cli import app

    handlers = logging.getLogger().handlers[:]
    argv = patch.object(sys, "argv", ["nfbench", *arguments])  # records keep the command
    with chdir(folder), argv:
        done = CliRunner().invoke(app, arguments)
    logging.getLogger().handlers = handlers  # the command's own write to where it has printed
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def run_snakemake(folder: Path, *arguments: str, fails: bool = False) -> str:
    """Run Snakemake in a folder, and the commands of its jobs, one at a time; return all that they printed.

    All that Snakemake does is real, down to its locks and metadata; a job is no process of its own, which would take
    two seconds and more to begin. Not for ``--use-conda``: Snakemake looks for conda once in a process.
    """
    from snakemake.cli import main
    from snakemake.logging import logger

    printed, alone = io.StringIO(), patch.object(logger, "propagate", False)
    jobs = patch.object(sys.modules["snakemake.shell"], "sp", SimpleNamespace(**{**vars(subprocess), "Popen": _start}))
    handled = signal.getsignal(signal.SIGTERM)
    with chdir(folder), alone, jobs, redirect_stdout(printed), redirect_stderr(printed):
        code = exit_code(main, [*arguments])
    signal.signal(signal.SIGTERM, handled)
    assert bool(code) == fails, printed.getvalue()
    return printed.getvalue()


_one_at_a_time = threading.Lock()


def _start(command: str, **options: Any) -> subprocess.Popen | SimpleNamespace:
    """Run a job's command of nfbench to its end, in this process; start any other."""
    _, _, ours = command.partition(" -m nfbench ")
    if not ours:
        return subprocess.Popen(command, **options)
    with _one_at_a_time:
        code = _run_main(shlex.split(ours))
    return SimpleNamespace(pid=os.getpid(), wait=lambda: code)


def _run_main(arguments: list[str]) -> int | str | None:
    """Run the program, as a job does; return its exit code."""
    from nfbench.cli import main

    handlers = logging.getLogger().handlers[:]
    logging.getLogger().handlers = []  # which the program would close
    try:
        with patch.object(sys, "argv", ["nfbench", *arguments]):
            return exit_code(main)
    finally:
        for handler in logging.getLogger().handlers:
            handler.close()
        logging.getLogger().handlers = handlers


def run_experiment(folder: Path, experiment: str, **config: object) -> None:
    """Run all jobs of an experiment in a checkout, each after those that it waits for, without Snakemake.

    For tests of what an experiment leaves: a job of Snakemake's costs two seconds and more before it begins.
    """
    with chdir(folder):
        plan = load_plan(json.dumps(config))
        made = plan.bench.experiment(experiment)
        last = [plan.table(experiment, name) for name in made.tables]
        last += [plan.figure(experiment, name) for name in made.figures]
        last += [plan.report(experiment)] if plan.cells(experiment) else []
        done: set[Path] = set()
        for job in (job for one in last for job in one.chain()):
            if job.log not in done:
                run_job(job)
                done.add(job.log)


def run_job(job: Job) -> None:
    """Runs one job in this process, on a CPU with one thread."""
    module, _, name = job.spec.function.partition(":")
    stage = getattr(importlib.import_module(f"nfbench.stages.{module}"), name)
    where = {"device": "cpu", "threads": 1}
    stage(job.spec, **{name: where[name] for name in inspect.signature(stage).parameters.keys() & where})


def exit_code(main: Callable[..., None], *arguments: list[str]) -> int | str | None:
    """What a program's entry point would give to the system."""
    try:
        main(*arguments)
    except SystemExit as end:
        return end.code
    return 0


def planned_jobs(folder: Path, *arguments: str) -> dict[str, int]:
    """Number of jobs of each rule in a dry run."""
    return count_jobs(run_snakemake(folder, "--cores", "2", *DRY_RUN, *arguments))


def count_jobs(printed: str) -> dict[str, int]:
    """Number of jobs of each rule, from what a dry run with ``DRY_RUN`` printed."""
    lines = printed.splitlines()
    if not any(line.startswith("job ") for line in lines):
        return {}
    start = next(number for number, line in enumerate(lines) if line.startswith("job "))
    table = [line.split() for line in lines[start + 2 :]]
    return {row[0]: int(row[1]) for row in table[: next(n for n, row in enumerate(table) if not row)]}
