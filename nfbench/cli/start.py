"""Checks before the first job of a run, in one process."""

from itertools import product
from typing import Annotated

import typer

from nfbench.cli.load import Overrides, load_plan
from nfbench.cli.plan import disk_warning, trainings_at_once
from nfbench.config import Bench
from nfbench.core.errors import NfbenchError, system_error
from nfbench.core.extras import require
from nfbench.core.registry import exported
from nfbench.plan.plan import Plan

__all__ = ["check_device", "check_start"]

Starting = Annotated[
    list[str] | None, typer.Argument(help="Experiments whose disk space is estimated and compared with the free space.")
]


def check_start(
    experiments: Starting = None,
    overrides: Overrides = "{}",
    gpu: Annotated[bool, typer.Option(help="Check that torch can compute on a GPU of this machine.")] = False,
    extra: Annotated[list[str] | None, typer.Option(help="Extra of nfbench that the jobs need. Repeatable.")] = None,
) -> None:
    """Check settings and backbones of all variants before the first job; warn if the disk is too small."""
    for name in extra or []:
        require(name)
    if gpu:
        check_device()
    plan = load_plan(overrides)
    _check_variants(plan.bench)
    for line in _disk_warning(plan, experiments or []):
        typer.echo(line, err=True)


def check_device() -> None:
    """Check that torch can compute on a GPU of this machine; say why if it cannot."""
    from nfbench.core.device import require_gpu

    require_gpu()


def _disk_warning(plan: Plan, experiments: list[str]) -> list[str]:
    from nfbench.plan.supposed import SupposedPlan
    from nfbench.results.foresight import foresee

    try:
        found = foresee(SupposedPlan(plan), experiments, trainings_at_once(plan.bench)) if experiments else None
        return disk_warning(found) if found else []
    except NfbenchError as error:
        return [f"warning: the disk was not checked: {error}"]
    except OSError as error:
        return [f"warning: the disk was not checked: {system_error(error)}"]


def _check_variants(bench: Bench) -> None:
    from nfbench.blocks.method import PACKAGE, Method, resolve_settings
    from nfbench.blocks.network import check_backbone

    for name, variant in bench.variants.items():
        try:
            resolve_settings(variant.method, overrides=variant.settings)
            if variant.search:
                from nfbench.search.space import search_space

                search_space(variant)
        except NfbenchError as error:
            raise NfbenchError(f"variant '{name}': {error}") from error
    blocks = ((name, block) for name, experiment in bench.experiments.items() for block in experiment.grid)
    for experiment, block in blocks:
        for method, backbone in product(block.methods, block.backbones):
            try:
                found: type[Method] = exported(PACKAGE, bench.variant(method).method, "METHOD", subclass_of=Method)
                check_backbone(found, backbone)
            except NfbenchError as error:
                message = f"experiment '{experiment}', '{method}' on '{backbone.tag}': {error}"
                raise NfbenchError(message) from error
