"""Commands of this project run in the process of the tests: an interpreter and its imports take one to three seconds.

What a new process does besides, such as one line for an error, the log, the exit code, is tested where a test starts
one.
"""

import importlib
import inspect
import io
import json
import logging
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from typer.testing import CliRunner

from nfbench.cli.load import load_plan
from nfbench.plan.job import Job

__all__ = ["DRY_RUN", "count_jobs", "planned_jobs", "run_experiment", "run_job", "run_nfbench", "run_snakemake"]

DRY_RUN = ("--quiet", "rules", "--dry-run")


def run_nfbench(folder: Path, *arguments: str) -> str:
    """Runs a command of nfbench in a folder; returns all it printed, and raises what it raised."""
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
    """Runs Snakemake in a folder; returns all it printed. For dry runs: jobs would be processes of their own."""
    from snakemake.cli import main
    from snakemake.logging import logger

    printed, alone = io.StringIO(), patch.object(logger, "propagate", False)
    with chdir(folder), alone, redirect_stdout(printed), redirect_stderr(printed):
        code = exit_code(main, [*arguments])
    assert bool(code) == fails, printed.getvalue()
    return printed.getvalue()


def run_experiment(folder: Path, experiment: str, **config: object) -> None:
    """Runs all jobs of an experiment in a checkout, each after those that it waits for, without Snakemake.

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
    on_device = "device" in inspect.signature(stage).parameters
    stage(job.spec, **({"device": "cpu", "threads": 1} if on_device else {}))


def exit_code(main: Callable[[list[str]], None], arguments: list[str]) -> int | str | None:
    """What a program's entry point would give to the system."""
    try:
        main(arguments)
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
