"""Rehearsal of the papers' experiments without a GPU: every method on every backbone, at the papers' shapes.

Runs the stages with random weights and made-up images: features of a few images, two training steps with the paper's
batch size, scores and metrics. Each pair of method and backbone runs in its own process with limited time and memory.
Hours on a GPU are computed from the operations of a training step; see ``GPU`` and ``hours``.
"""

import argparse
import itertools
import math
import multiprocessing
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.placement import build_placed, training_step
from nfbench.blocks.method import LevelShape, resolve_settings
from nfbench.blocks.settings import MethodSettings, TrainedSettings
from nfbench.config import load_bench
from nfbench.config.load import read_config
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import read_manifest
from nfbench.datasets._miniature import Painter
from nfbench.plan.cells import Cell
from nfbench.plan.job import Job
from nfbench.plan.plan import Plan
from nfbench.training.data import held_out_count

ROOT = Path(__file__).parents[1]
DATASET, CATEGORIES = "mvtec_ad", ("bottle", "cable")
LOCAL = ("_local", "quickstart", "smoke")
"""Parts of the names of experiments that do not reproduce a paper."""
IMAGES = {"one-class": 242, "few-anomaly": 242, "unified": 3629}
"""Training images of MVTec AD: mean of a category, and all."""
COUNTED = 2
"""Number of images in the batch whose operations are counted and scaled to larger batches."""
HEADER = ("method", "backbone", "host peak", "features", "model", "step on CPU", "step", "hours on one GPU", "ended")


class GPU(NamedTuple):
    """Assumed sustained speed of a GPU."""

    flops: float = 10e12
    operation: float = 10e-6
    """Seconds of an operation with almost no computation."""


class Pair(NamedTuple):
    """A variant on a backbone in a setting, given by a cell of an experiment."""

    experiment: str
    cell: Cell
    settings: MethodSettings


class Rehearsal(Plan):
    """Plan with two epochs, of which the second is timed; with one epoch if a batch has many steps."""

    _epochs_at_most: int | None = 2
    tested = 0  # images per category


def plan_of(root: Path, images: int, anomalous: int) -> Rehearsal:
    """Plans the experiments on some images of two categories, without searches."""
    few = {"max_train": images, "max_test_normal": 2, "max_test_anomalous": anomalous}
    values = read_config(ROOT / "config.yaml", {"miniature": True, "results_root": str(root), "data_root": "/nowhere"})
    values |= {"categories": CATEGORIES, "datasets": {DATASET: few}}
    bench = load_bench(values, ROOT / "workflow" / "experiments")
    for name, variant in bench.variants.items():
        bench.variants[name] = variant.model_copy(update={"search": None})
    plan = Rehearsal(bench)
    plan.tested = 2 + anomalous
    return plan


def pairs_of(plan: Plan, experiment: str | None, only: str | None, each: bool) -> list[Pair]:
    """Lists pairs on each backbone in each setting: one per method, or one per variant with ``each``."""
    found: dict[tuple[str, ...], Pair] = {}
    for name in [experiment] if experiment else sorted(plan.bench.experiments):
        if experiment is None and any(word in name for word in LOCAL):
            continue
        try:
            cells = plan.cells(name)
        except NfbenchError:  # the experiment has no run on the two categories
            continue
        for cell in cells:
            variant = plan.bench.variant(cell.method)
            if cell.dataset != DATASET or only not in (None, variant.method, cell.method):
                continue
            settings = resolve_settings(
                variant.method,
                dataset=DATASET,
                category=cell.category,
                backbone=cell.backbone.partition("@")[0],
                overrides=variant.settings,
            )
            key = (cell.method if each else variant.method, cell.backbone, cell.setting)
            found.setdefault(key, Pair(name, cell, settings))
    return sorted(found.values(), key=lambda pair: (plan.bench.backbones[pair.cell.backbone].size, pair.cell.backbone))


def ordered(job: Job[Any], seen: dict[Path, Job[Any]]) -> dict[Path, Job[Any]]:
    """Lists a job after all its dependencies."""
    for before in job.before:
        ordered(before, seen)
    seen.setdefault(job.record or job.log, job)
    return seen


def run_job(job: Job[Any]) -> None:
    """Runs a job in this process."""
    from nfbench import stages

    module, _, function = job.spec.function.partition(":")
    stage = getattr(__import__(f"{stages.__name__}.{module}", fromlist=[function]), function)
    more = {"threads": os.cpu_count()} if job.stage != "prepare_data" else {}
    stage(job.spec, **more)


def images_of(plan: Rehearsal, pair: Pair) -> int:
    """Returns the number of images in an epoch of a pair, without anomalies."""
    held_out = pair.settings.val_fraction
    images = sum(len(read_manifest(one.manifest)) - plan.tested for one in plan.train(pair.cell.trained).spec.classes)
    return images - held_out_count(images, held_out)


def needed(settings: MethodSettings) -> int:
    """Returns the number of images that leaves a full batch after some are held out."""
    images = getattr(settings, "batch_size", 8)
    while images - held_out_count(images, settings.val_fraction) < getattr(settings, "batch_size", 0):
        images += 1
    return images


def rehearse(plan: Rehearsal, pair: Pair, notes: Any) -> None:
    """Runs all unfinished jobs of a pair; records the current job and measurements in ``notes``."""
    train = plan.train(pair.cell.trained).spec
    for job in ordered(plan.evaluate(pair.cell), {}).values():
        if job.record and job.record.exists():
            continue
        notes["stage"] = job.stage
        run_job(job)
        if job.stage == "train_flow":
            run = Path(train.run)
            notes["model"] = sum(path.stat().st_size for path in run.glob("model.safetensors"))
            rows = (run / "history.csv").read_text().split()
            if len(rows) > 1:
                seconds = float(dict(zip(rows[0].split(","), rows[-1].split(","), strict=True))["seconds"])
                notes["step"] = seconds / math.ceil(images_of(plan, pair) / pair.settings.batch_size)
    notes["stage"] = ""


def count(plan: Rehearsal, pair: Pair, notes: Any) -> None:
    """Counts the operations of a training step at the paper's shapes."""
    variant, backbone = plan.bench.variant(pair.cell.method), plan.bench.backbones[pair.cell.backbone]
    shapes = [LevelShape(*shape) for shape in backbone.level_shapes.values()]
    size, classes = tuple(backbone.size), 15 if pair.cell.setting == "unified" else 1
    with build_placed(variant.method, shapes, pair.settings, size, classes, max(1, backbone.rotations)) as placed:
        notes["model"] = sum(value.nbytes for value in placed.method.state_dict().values())
        notes["flops"], notes["operations"], notes["steps"] = training_step(placed, COUNTED)


def in_child(work: Any, plan: Rehearsal, pair: Pair, seconds: float, bytes_: int) -> dict[str, Any]:
    """Runs ``work`` in its own process; returns its notes, how it ended, and its peak memory."""
    with multiprocessing.Manager() as manager:
        notes = manager.dict()

        def target() -> None:
            resource.setrlimit(resource.RLIMIT_DATA, (bytes_, bytes_))
            try:
                work(plan, pair, notes)
            except Exception as error:
                words = str(error).strip().split("\n")[0][:160]
                notes["error"] = "memory" if "allocate" in words else f"{type(error).__name__}: {words}"

        child = multiprocessing.get_context("fork").Process(target=target)
        child.start()
        peak, end = 0, time.monotonic() + seconds
        while child.is_alive() and time.monotonic() < end:
            peak = max(peak, _peak(child.pid or 0))
            child.join(0.1)
        late = child.is_alive()
        if late:
            child.kill()
            child.join()
        found = {**notes, "host": peak}
    stage = found.get("stage", "")
    if late:
        found["error"] = f"longer than {seconds:.0f} s"
    elif child.exitcode:
        found["error"] = f"exit {child.exitcode}"
    found["ended"] = f"{stage}: {found['error']}".removeprefix(": ") if "error" in found else "well"
    return found


def _peak(process: int) -> int:
    """Returns the largest resident bytes of a process so far; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def hours(pair: Pair, found: dict[str, Any], gpu: GPU) -> float | None:
    """Estimates the hours of all training steps of one run on MVTec AD on a GPU."""
    if not isinstance(pair.settings, TrainedSettings) or "flops" not in found:
        return None
    batch = pair.settings.batch_size
    share = batch / COUNTED
    busy = found["flops"] * share / gpu.flops
    waits = found["operations"] * (share if found["steps"] > 1 else 1) * gpu.operation
    return pair.settings.epochs * math.ceil(IMAGES[pair.cell.setting] / batch) * max(busy, waits) / 3600


def row(plan: Plan, pair: Pair, found: dict[str, Any], gpu: GPU) -> tuple[str, ...]:
    """Returns a row of the table."""
    cell, backbone = pair.cell, plan.bench.backbones[pair.cell.backbone]
    values = sum(math.prod(shape) for shape in backbone.level_shapes.values()) * max(1, backbone.rotations)
    values += math.prod(backbone.image_shape or (0,)) * max(1, backbone.rotations)
    time_on_gpu = hours(pair, found, gpu)
    batch = getattr(pair.settings, "batch_size", 0)
    return (
        cell.method + (" (unified)" if cell.setting == "unified" else ""),
        cell.backbone.removesuffix("-random"),
        f"{found['host'] / 1e9:.1f} GB" if "host" in found else "",
        f"{2 * values / 1e6:.1f} MB",
        f"{found['model'] / 1e6:,.0f} MB" if "model" in found else "",
        f"{found['step']:.1f} s" if "step" in found else "",
        f"{found['flops'] * batch / COUNTED / 1e12:,.1f} TFLOP" if found.get("flops") else "",
        f"{max(time_on_gpu, 0.1):.1f}" if time_on_gpu is not None else "",
        found["ended"],
    )


def make_images(root: Path, count_: int) -> None:
    """Writes the requested number of images of the two categories; the miniature adds the other files."""
    for category, number in itertools.product(CATEGORIES, range(count_)):
        path = root / category / "train" / "good" / f"{number:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Painter(root, 900, 900).normal(path)


def main() -> None:
    """Runs the rehearsal and prints a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--experiment", help="run only this experiment")
    parser.add_argument("--only", help="run only this method or variant")
    parser.add_argument("--each", action="store_true", help="run every variant instead of one per method")
    parser.add_argument("--count", action="store_true", help="only count operations; run nothing")
    parser.add_argument("--seconds", type=float, default=60, help="time limit of each pair in seconds")
    parser.add_argument("--gigabytes", type=float, default=8, help="memory limit of each pair in GB")
    parser.add_argument("--images", type=int, default=40, help="maximum number of training images")
    arguments, gpu = parser.parse_args(), GPU()
    os.nice(10)
    limit = int(arguments.gigabytes * 1e9)
    print("| " + " | ".join(HEADER) + " |\n|" + " --- |" * len(HEADER), flush=True)
    with tempfile.TemporaryDirectory() as name:
        first = plan_of(Path(name), 1, 1)
        pairs = pairs_of(first, arguments.experiment, arguments.only, arguments.each)
        for number, (_, of_backbone) in enumerate(itertools.groupby(pairs, lambda pair: pair.cell.backbone)):
            root, group = Path(name, str(number)), list(of_backbone)
            largest = max(needed(pair.settings) for pair in group)
            unified = all(pair.cell.setting == "unified" for pair in group)
            images = -(-min(arguments.images, largest) // (len(CATEGORIES) if unified else 1))
            real = any(first.bench.variant(pair.cell.method).anomalies for pair in group)
            plan = plan_of(root, images, 12 if real else 2)
            make_images(plan.catalogue.root(DATASET), images)
            for pair in group:
                counted = in_child(count, plan, pair, arguments.seconds, limit)
                plan._epochs_at_most = 1 if counted.get("steps", 1) > 1 else 2
                counted.pop("host", None)
                found = {**counted, "ended": "not run" if "steps" in counted else counted["ended"]}
                if not arguments.count:
                    found |= in_child(rehearse, plan, pair, arguments.seconds, limit)
                print("| " + " | ".join(row(plan, pair, found, gpu)) + " |", flush=True)
            shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
