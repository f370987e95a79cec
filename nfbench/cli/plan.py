"""What experiments will take: jobs, disk, memory and time."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from nfbench.cli.load import Overrides, load_plan
from nfbench.config import Bench
from nfbench.core.resources import gpus_per_job

if TYPE_CHECKING:
    from nfbench.results.foresight import Foresight

__all__ = ["disk_warning", "plan", "trainings_at_once"]

Experiments = Annotated[list[str] | None, typer.Argument(help="Experiments. Default: that of config.yaml.")]
_GB = 1e9


def plan(
    experiments: Experiments = None,
    overrides: Overrides = "{}",
    calibration: Annotated[bool, typer.Option(help="Measure unknown times, for up to a minute.")] = True,
) -> None:
    """Estimate jobs, disk, memory and time of experiments before they run."""
    from nfbench.core.device import pick_device
    from nfbench.plan.supposed import SupposedPlan
    from nfbench.results.calibration import Calibration
    from nfbench.results.foresight import foresee

    supposed = SupposedPlan(load_plan(overrides))
    names = experiments or [supposed.bench.config.experiment]
    at_once = trainings_at_once(supposed.bench)
    measured = Calibration(pick_device(supposed.bench.config.device, 1), 60) if calibration else None
    found = foresee(supposed, names, at_once, measured)
    typer.echo("\n".join([f"{', '.join(names)}:", *_describe(found, at_once, measured is not None)]))


def trainings_at_once(bench: Bench) -> int:
    """Number of trainings that run at the same time: one on a GPU, otherwise one per core."""
    return 1 if gpus_per_job(bench.config.device) else os.cpu_count() or 1


def _describe(found: "Foresight", at_once: int, calibrated: bool) -> Iterator[str]:
    yield f"  {'stage':24}{'done':>8}{'to run':>8}{'memory':>12}{'GPU memory':>12}{'time':>12}  times from"
    for name, stage in found.stages.items():
        sources = ", ".join(f"{source} ({count})" for source, count in stage.sources.items())
        yield (
            f"  {name:24}{stage.done:>8}{stage.to_run:>8}{_gb_of_mb(stage.memory):>12}{_gb_of_mb(stage.gpu):>12}"
            f"{_time(stage.seconds) if stage.unknown < stage.to_run else '-':>12}  {sources}"
        )
    yield "  memory: largest job, estimated from shapes and numbers of images, plus 50 %"
    yield "  GPU memory: one step; plus the features, if they fit half of the free GPU memory"
    times = "finished jobs, by images and epochs" + (
        ", otherwise one or two steps on random features" if calibrated else ""
    )
    yield f"  time: all jobs one after the other, from {times}; without reading images"
    disk = found.disk
    yield "  disk:"
    passing = f"  with keep_features: false {_gb(disk.features - disk.passing)}" if disk.passing else ""
    yield f"    features           {_gb(disk.features):>10}{passing}"
    kept = f"keep_models: {', '.join(found.kept) or '-'}; all would be {_gb(disk.all_models)}"
    yield f"    models in the end  {_gb(disk.kept):>10}  {kept}"
    on_the_way = f"checkpoints, and models until they have scored, of {at_once} training{'s' * (at_once > 1)} at once"
    yield f"    on the way         {_gb(disk.working):>10}  {on_the_way}"
    yield f"    scores and maps    {_gb(disk.scored):>10}  until they are evaluated"
    yield f"    peak               {_gb(disk.peak):>10}  of which there: {_gb(disk.there)}; free: {_gb(disk.free)}"
    yield "  images: " + ", ".join(f"{count} categories by {_SOURCES[one]}" for one, count in found.counted.items())
    if found.absent:
        yield f"  not on disk: {', '.join(found.absent)}; planned with all official categories"
    yield from (f"  {line}" for line in disk_warning(found))


def disk_warning(found: "Foresight") -> list[str]:
    """A line that says how to save space if the disk is too small; empty otherwise."""
    disk = found.disk
    if disk.fits:
        return []
    advice = ["'keep_models: none'"] if disk.deletable else []
    advice += ["'keep_features: false'"] if disk.passing else []
    advice += ["fewer 'seeds'"] if disk.kept else []
    advice += ["fewer 'categories', or 'online: true' of a backbone, which caches no features"]
    return [
        f"warning: the disk is too small: {_gb(disk.peak - disk.there)} more are needed at the peak, {_gb(disk.free)} "
        f"are free; set {', '.join(advice)}, or another 'results_root'"
    ]


_SOURCES = {
    "manifest": "manifests",
    "folder": "the files on disk",
    "official": "official numbers",
    "assumed": "assumption, since no official number is known",
}


def _gb(size: float) -> str:
    return f"{size / _GB:.1f} GB" if size >= _GB / 10 else f"{size / 1e6:.1f} MB"


def _gb_of_mb(size: float) -> str:
    return f"{size / 1000:.1f} GB" if size else "-"


def _time(seconds: float) -> str:
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.0f} min" if seconds >= 60 else f"{seconds:.0f} s"
