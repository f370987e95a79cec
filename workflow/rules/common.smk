"""Configuration, wildcards and the small functions that rules ask for inputs and options."""

import json
import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from nfbench.cli.build import available_categories, dataset_root, is_miniature, to_fetch
from nfbench.config import load_bench
from nfbench.datasets.sources import read_sources, record_path
from nfbench.core.errors import NfbenchError
from nfbench.plan.cells import Cell, classes_of, expand, members
from nfbench.plan.paths import Paths
from nfbench.core.provenance import fingerprint, training_code
from nfbench.core.registry import plugin_names
from nfbench.core.resources import gpus_per_job, memory, time_limit
from nfbench.tracking.store import Store
from nfbench.tracking.studies import studies_of
from snakemake.exceptions import WorkflowError


def reporting_errors(function):
    """Shows an error of the user's as Snakemake shows its own: one message, no trace."""

    def reported(*arguments):
        try:
            return function(*arguments)
        except NfbenchError as error:
            raise WorkflowError(str(error)) from None

    return reported


BENCH = reporting_errors(load_bench)(config, Path(workflow.basedir) / "workflow" / "experiments")
PATHS = Paths(BENCH.config.results_root)
FETCHED = str(record_path("{reader}", Path(BENCH.config.data_root)))
CONFIG = json.dumps(config, sort_keys=True)
TRAINED = ("model.safetensors", "checkpoints.safetensors", "history.csv", "training.json")
EVALUATED = ("run.json", "scores.csv", "regions.csv", "miou.csv", "calibration.csv", "likelihoods.csv", "examples.npz")

DEVICE = BENCH.config.device  # a resource of rules, not a parameter: another one makes no run again
GPUS = gpus_per_job(DEVICE)

if not workflow.deployment_settings.deployment_method:
    # jobs use the Python that runs Snakemake, also where its environment is not activated
    shell.prefix(f"export PATH={shlex.quote(os.path.dirname(sys.executable))}:$PATH; ")


def computes_on_gpu_here():
    """Whether a job of this run must have a GPU of this machine. Jobs in a cluster or in an environment of conda's are
    left to find out for themselves: where Snakemake runs, there may be another torch, or no GPU."""
    here = workflow.local_exec and not workflow.touch and not workflow.deployment_settings.deployment_method
    return DEVICE == "cuda" and here and any(job.resources.get("gpu") for job in workflow.dag.needrun_jobs())


def any_of(names):
    """A regular expression for one of the names."""
    return "|".join(re.escape(name) for name in sorted(names)) or "none"


wildcard_constraints:
    setting="one-class|unified|few-anomaly",
    dataset=any_of({*BENCH.datasets, *plugin_names("nfbench.datasets")}),
    reader=any_of(read_sources()),
    category="[^/]+",
    method=any_of({*BENCH.variants, *plugin_names("nfbench.methods")}),
    backbone=any_of(BENCH.backbones),
    seed=r"\d+",
    worker=r"\d+",
    view="train|test|pseudo-[^/]+",
    experiment=any_of(BENCH.experiments),
    table=any_of(name for e in BENCH.experiments.values() for name in e.tables),
    figure=any_of(name for e in BENCH.experiments.values() for name in e.figures),


@cache
def available(dataset):
    """Categories of a dataset that are found on disk."""
    return available_categories(BENCH, dataset)


@cache
def cells(experiment):
    """Cells of an experiment, with the categories found on disk."""
    return expand(BENCH, experiment, available)


@reporting_errors
def run_records(experiment):
    """Run records of all cells of an experiment."""
    return [str(PATHS.run_record(cell)) for cell in cells(experiment)]


@reporting_errors
def experiment_outputs(name):
    """All that an experiment leaves: features and runs, results, tables and figures."""
    cell_files = dict.fromkeys(path for cell in cells(name) for path in made_for(cell))
    return [*map(str, cell_files), *gathered(name)]


@reporting_errors
def tracked_results(name):
    """What of an experiment is tracked: run records, all that is made of them, and studies."""
    return [*run_records(name), *gathered(name), *map(str, studies_of(BENCH, cells(name), PATHS))]


def gathered(name):
    """What is made of the runs of an experiment: tables and figures, and where it has runs, results and report."""
    experiment = BENCH.experiment(name)
    files = PATHS.gathered(name, experiment.tables, experiment.figures)
    kinds = files if cells(name) else ("tables", "figures")
    return [str(path) for kind in kinds for path in files[kind]]
