"""The configuration of the folder that a command is run in."""

import json
from pathlib import Path
from typing import Annotated

import typer

from nfbench.config import Bench, load_bench, read_config
from nfbench.core.errors import NfbenchError
from nfbench.plan.plan import Plan

__all__ = ["Experiment", "Overrides", "load", "load_experiment", "load_plan"]

Experiment = Annotated[str | None, typer.Argument(help="Experiment. Default: that of config.yaml.")]
Overrides = Annotated[str, typer.Option("--config", help="Keys that override config.yaml, as a JSON object.")]


def load(overrides: str = "{}", folder: Path = Path()) -> Bench:
    """Reads ``config.yaml`` and the experiments of a checkout, with overrides as JSON.

    Raises:
        NfbenchError: the folder is not a checkout, or a file, a key or the overrides are wrong.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        raise NfbenchError(f"{path.absolute()} is missing; run this command in the root folder of the repository")
    try:
        given = json.loads(overrides)
    except json.JSONDecodeError as error:
        raise NfbenchError(f"--config {overrides}: not valid JSON: {error}") from None
    if not isinstance(given, dict):
        raise NfbenchError(f"--config {overrides}: expected a JSON mapping of keys of config.yaml")
    return load_bench(read_config(path, given), folder / "workflow" / "experiments")


def load_plan(overrides: str = "{}") -> Plan:
    """The plan of the configuration in this folder."""
    return Plan(load(overrides))


def load_experiment(experiment: str | None, overrides: str = "{}") -> tuple[Plan, str]:
    """The plan of the configuration in this folder, and an experiment; default: that of config.yaml."""
    plan = load_plan(overrides)
    return plan, experiment or plan.bench.config.experiment
