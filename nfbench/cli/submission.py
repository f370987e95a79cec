"""Submission of an experiment to the server of MVTec AD 2."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nfbench.cli.load import Experiment, Overrides, load_experiment
from nfbench.cli.options import Device, Threads
from nfbench.core.errors import NfbenchError

if TYPE_CHECKING:
    from nfbench.plan.cells import Cell
    from nfbench.plan.plan import Plan

__all__ = ["submission"]

_NAMED = 3


def submission(
    experiment: Experiment = None,
    output: Annotated[Path, typer.Option(help="Folder to write; it must not exist.")] = Path("submission"),
    select: Annotated[
        str, typer.Option(help="Part of the runs' folder names, such as 'fastflow/', if there are several models.")
    ] = "",
    sigmas: Annotated[
        float, typer.Option(min=0, help="Mark pixels this many standard deviations above normal ones.")
    ] = 3.0,
    overrides: Overrides = "{}",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Score the private images of MVTec AD 2 and write the folder that its server takes, complete or not at all."""
    from nfbench.core.device import pick_device
    from nfbench.datasets._manifest import read_manifest
    from nfbench.datasets._staging import staged_folder
    from nfbench.datasets._submission import check_images, check_submission
    from nfbench.inference.model import TrainedModel
    from nfbench.inference.submission import write_category

    plan, name = load_experiment(experiment, overrides)
    cells = _chosen(plan, name, select)
    if output.exists():
        raise NfbenchError(f"{output} exists; choose another folder with '--output'")
    where = pick_device(device, threads)
    private = {}
    for cell in cells:
        entries = read_manifest(plan.prepare(cell.dataset, cell.category).spec.manifest)
        private[cell] = [entry for entry in entries if entry.split == "unlabelled"]
        check_images(cell.category, private[cell], _expected(plan, cell))
    with staged_folder(output) as staged:
        sizes: dict[str, tuple[int, int]] = {}
        for cell, images in private.items():
            model = TrainedModel.load(plan.paths.run_record(cell), where)
            sizes |= write_category(model, cell.category, images, staged, sigmas)
        check_submission(staged, sizes)
    if plan.catalogue.is_miniature(cells[0].dataset):
        end = "it is of a miniature; do not upload it"
    else:
        end = f"'tar -czf {output.name}.tar.gz -C {output.parent} {output.name}' packs it for the server"
    typer.echo(f"{output}: {len(sizes) // 2} maps and as many masks of {len(cells)} categories, checked; {end}")


def _chosen(plan: "Plan", experiment: str, select: str) -> "list[Cell]":
    """Returns the finished cells of one model, one for each official category.

    Raises:
        NfbenchError: there is no such model, or more than one, or a category or a run is missing.
    """
    from nfbench.datasets._base import find_dataset
    from nfbench.stages.gather import stock_of

    reader = find_dataset("mvtec_ad_2")
    ours = {cell for cell in plan.cells(experiment) if _is_ours(plan, cell) and not cell.condition}
    if not ours:
        raise NfbenchError(f"experiment '{experiment}' has no dataset with the reader 'mvtec_ad_2'; nothing to submit")
    models: dict[str, dict[str, Cell]] = {}
    for cell in sorted(ours):
        if select in str(cell):
            model = f"{cell.setting}/{cell.dataset}/*/{cell.method}/{cell.backbone}/seed{cell.seed}"
            models.setdefault(model, {})[cell.category] = cell
    if len(models) != 1:
        found = f"several models: {_some(models)}" if models else "none"
        raise NfbenchError(f"a submission is of one model, but '--select {select}' gives {found}")
    ((model, by_category),) = models.items()
    if missing := [name for name in reader.categories if name not in by_category]:
        raise NfbenchError(
            f"a submission needs all {len(reader.categories)} categories; {model} lacks {_some(missing)}"
        )
    holes = {account.cell: account for account in stock_of(plan, experiment).holes}
    if waiting := [cell for cell in by_category.values() if cell in holes]:
        reason = holes[waiting[0]].reason
        raise NfbenchError(
            f"{len(waiting)} of {len(by_category)} runs are not done, first {waiting[0]}: {reason}; run 'snakemake "
            f"--cores all {experiment}'"
        )
    return [by_category[name] for name in reader.categories]


def _is_ours(plan: "Plan", cell: "Cell") -> bool:
    dataset = plan.bench.dataset(cell.dataset)
    return not dataset.union and dataset.dataset == "mvtec_ad_2"


def _expected(plan: "Plan", cell: "Cell") -> int:
    """Returns the number of images of each private set that the server expects; that of a miniature for miniatures."""
    from nfbench.datasets._sources import find_source
    from nfbench.datasets.mvtec_ad_2 import PRIVATE, PRIVATE_IMAGES

    if plan.catalogue.is_miniature(cell.dataset):
        return PRIVATE_IMAGES
    return find_source("mvtec_ad_2").facts[f"{cell.category}, {PRIVATE[0]}"]


def _some(names: Iterable[str]) -> str:
    """Names the first few."""
    names = list(names)
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
