"""Predictions for new images."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nfbench.cli.options import Device, Threads
from nfbench.core.progress import progress

if TYPE_CHECKING:
    from nfbench.inference.images import Given
    from nfbench.inference.predict import Prediction

__all__ = ["predict"]

_WATCHED_SECONDS = 1.0
_STREAM = "-"


def predict(
    run: Annotated[str, typer.Argument(help="Folder of a finished run, or an exported or packed file.")],
    images: Annotated[list[str], typer.Argument(help="Images, folders or patterns; '-': read paths from stdin.")],
    output: Annotated[str, typer.Option(help="Output folder; '-' prints the rows only.")] = "predictions",
    rule: Annotated[
        Literal["conformal", "sigma", "quantile", "nfa"], typer.Option(help="Rule that sets the thresholds.")
    ] = "conformal",
    alpha: Annotated[float, typer.Option(min=1e-6, max=0.999999, help="Accepted rate of false alarms.")] = 0.05,
    sigmas: Annotated[float, typer.Option(min=0, help="For 'sigma': standard deviations above the mean.")] = 3.0,
    masks: Annotated[bool, typer.Option("--masks", help="Write masks of anomalous pixels.")] = False,
    heatmaps: Annotated[
        Literal["png", "tiff"] | None, typer.Option(help="Write maps: png for colours, tiff for values.")
    ] = None,
    overlays: Annotated[bool, typer.Option("--overlays", help="Write images with heat map and contours.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON lines instead of CSV.")] = False,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per batch.")] = 16,
    watch: Annotated[bool, typer.Option("--watch", help="Wait for new images in a folder, until Ctrl-C.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing predictions.")] = False,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with status 3 if an image is anomalous.")
    ] = False,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Score new images: one row per image with score, p-value and decision, and optional masks and maps.

    Exit status: 0 if all images were scored, 1 if an image or the run cannot be used, 2 for wrong options.
    """
    to_stdout, folder = output == _STREAM, Path(output)
    table = folder / ("predictions.jsonl" if as_json else "predictions.csv")
    if watch and (len(images) != 1 or images[0] == _STREAM):
        raise typer.BadParameter("takes one folder and nothing else", param_hint="--watch")
    if to_stdout and (masks or heatmaps or overlays):
        raise typer.BadParameter("masks, heat maps and overlays need a folder", param_hint="--output")
    if not to_stdout and table.exists() and not overwrite:
        raise typer.BadParameter(f"{table} exists; choose another folder or add --overwrite", param_hint="--output")

    from nfbench.core.device import pick_device
    from nfbench.inference.decisions import Decisions
    from nfbench.inference.load import load_model
    from nfbench.inference.output import Pictures, Rows
    from nfbench.inference.predict import predict as decide

    model = load_model(run, pick_device(device, threads), batch_size)
    decisions = Decisions.of(model.thresholds, rule, alpha, sigmas)
    if model.thresholds.source == "training":
        _tell("warning: thresholds come from training images and cause too many false alarms; see 'folds'")
    pictures, tally = Pictures(folder, masks, heatmaps, overlays), _Tally(watch)
    predictions = (
        one for found in _sets_of(images, watch) for one in decide(model, decisions, found, batch_size, threads or 2)
    )
    if not to_stdout:
        folder.mkdir(parents=True, exist_ok=True)
    with nullcontext(sys.stdout) if to_stdout else open(table, "w", newline="", encoding="utf-8") as file:
        rows = Rows(file, decisions, as_json)
        with suppress(KeyboardInterrupt) if watch else nullcontext():
            for one in predictions:
                rows.write(one, pictures.draw(one, decisions))
                tally.add(one)
    _tell(f"{tally}{'' if to_stdout else f'; {table}'}")
    if tally.failed or (fail_on_anomaly and tally.anomalous):
        raise typer.Exit(1 if tally.failed else 3)


@dataclass
class _Tally:
    """Counts predictions and reports unreadable images, or every image of a watched folder."""

    each: bool
    count: int = 0
    anomalous: int = 0
    failed: int = 0

    def add(self, one: "Prediction") -> None:
        self.count, self.failed = self.count + 1, self.failed + bool(one.error)
        self.anomalous += bool(one.anomalous)
        if one.error:
            _tell(f"warning: {one.error}")
        elif self.each:
            _tell(f"{one.given.path}: {'anomalous' if one.anomalous else 'normal'}")

    def __str__(self) -> str:
        failed = f", {self.failed} could not be read" if self.failed else ""
        return f"{self.count} images: {self.anomalous} anomalous{failed}"


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _sets_of(images: list[str], watch: bool) -> "Iterator[Iterable[Given]]":
    """Images to score, in sets: the new ones of a watched folder, or all, with progress if their number is known."""
    from nfbench.inference.images import find_images, watched

    if watch:
        yield from (found for found in watched(images[0], _WATCHED_SECONDS) if found)
    elif _STREAM in images:
        yield find_images(images)
    else:
        found = list(find_images(images))
        yield progress(found, total=len(found), label="predict")
