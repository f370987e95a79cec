"""The plan and the helper functions of the rules."""

import inspect
import json
import os
import re
import shlex
import sys
from functools import wraps
from pathlib import Path

from nfbench.config import NAME_PATTERN, condition_pattern, load_bench, read_config
from nfbench.core.errors import NfbenchError, system_error
from nfbench.core.registry import plugin_names
from nfbench.core.resources import gpus_per_job, memory, time_limit
from nfbench.datasets._sources import read_sources, record_path
from nfbench.plan.cells import Cell
from nfbench.plan.code import code_hash
from nfbench.plan.measured import kept_models, times_images
from nfbench.plan.memory import memory_mb
from nfbench.plan.paths import EVALUATED, SCORED, TRAINED
from nfbench.plan.plan import Plan
from nfbench.tracking.store import Store
from snakemake.logging import logger
from snakemake.settings.enums import RerunTrigger


def refuse(message):
    """Ends the run with one line. Snakemake would print an exception with rule, line and trace, or hide it if a file is
    the target."""
    logger.error(f"Error: {message}")
    sys.exit(1)


def reporting_errors(function):
    """Prints an error that the user can fix as one line."""

    @wraps(function)
    def reported(*arguments, **keywords):
        try:
            return function(*arguments, **keywords)
        except NfbenchError as error:
            refuse(error)
        except OSError as error:
            refuse(system_error(error))

    reported.__signature__ = inspect.signature(function)  # Snakemake asks for it several times a job
    return reported


@reporting_errors
def make_plan():
    """The plan for config.yaml and the keys that the command line overrides. The file is read as text, because Snakemake
    would turn names such as 01 or 2024 into numbers."""
    values = read_config(Path("config.yaml"), OVERRIDES)
    return Plan(load_bench(values, WORKFLOW / "experiments"))


if {"{", "}"} & set(str(WORKFLOW)):
    refuse(f"{WORKFLOW}: Snakemake reads braces in the path of a workflow as wildcards; move or rename the folder")

OVERRIDES = workflow.config_settings.overwrite_config
PLAN = make_plan()
BENCH, PATHS = PLAN.bench, PLAN.paths
CONFIG = json.dumps(OVERRIDES, sort_keys=True)
FETCHED = str(record_path("{reader}", Path(BENCH.config.data_root)))

DEVICE = BENCH.config.device  # a resource of rules, not a parameter: changing it repeats no run
GPUS = gpus_per_job(DEVICE)

if not workflow.deployment_settings.deployment_method:
    # jobs use the Python that runs Snakemake, even if its environment is not activated
    shell.prefix(f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; ")


def any_of(names):
    """A regular expression that matches one of the names."""
    return "|".join(re.escape(name) for name in sorted(names)) or "none"


BY_NAME = {
    f"{kind}/{name}": f"{kind}/{experiment}/{name}"
    for experiment, config in BENCH.experiments.items()
    for kind in ("tables", "figures")
    for name in getattr(config, kind)
}


wildcard_constraints:
    setting="one-class|unified|few-anomaly",
    dataset=any_of({*BENCH.datasets, *plugin_names("nfbench.datasets")}),
    reader=any_of(read_sources()),
    category=NAME_PATTERN,
    method=any_of({*BENCH.variants, *plugin_names("nfbench.methods")}),
    backbone=any_of(BENCH.backbones),
    seed="0|[1-9][0-9]*",
    condition=condition_pattern(),
    worker="0|[1-9][0-9]*",
    view=any_of(PLAN.catalogue.views),
    experiment=any_of(BENCH.experiments),
    table=any_of(name for e in BENCH.experiments.values() for name in e.tables),
    figure=any_of(name for e in BENCH.experiments.values() for name in e.figures),
    named=any_of(BY_NAME),
    ending="tex|html|csv|pdf|png",


@reporting_errors
def fetched(wildcards):
    """Records of the downloads that a dataset needs first: with 'fetch: true', if it is missing."""
    return [FETCHED.format(reader=reader) for reader in PLAN.catalogue.to_fetch(wildcards.dataset)]


@reporting_errors
def complete(experiment):
    """The message at the end of an experiment: where its tables, figures and report are."""
    config, lines = BENCH.experiment(experiment), [f"{experiment} is complete"]
    lines += [f"tables: {PATHS.table(experiment, '*', '*').parent}/"] if config.tables else []
    lines += [f"figures: {PATHS.figure(experiment, '*', '*').parent}/"] if config.figures else []
    lines += [f"report: {PATHS.report(experiment)}"] if config.grid else []
    text = "\n  ".join([*lines, f"'nfbench show {experiment}' prints the means and the tables"])
    return text.replace("{", "{{").replace("}", "}}")  # Snakemake reads braces as wildcards


def outputs(experiment):
    """All outputs of an experiment: run records, and the tables, figures and report made from them."""
    return reporting_errors(lambda wildcards: PLAN.outputs(experiment))


@reporting_errors
def refuse_target(wildcards):
    """Raises the error for an unknown experiment; Snakemake's own names no other."""
    BENCH.experiment(wildcards.target)
