"""The stages, as the workflow calls them. Each takes its spec as JSON or as a file with JSON."""

from typing import Annotated

import typer

from nfbench.cli.options import Device, Threads
from nfbench.config import Kept
from nfbench.core.extras import require
from nfbench.plan.specs import (
    EvaluateSpec,
    ExtractSpec,
    PrepareSpec,
    ScoreSpec,
    SearchSpec,
    StudySpec,
    SummarizeSpec,
    TrainSpec,
)

__all__ = [
    "Spec",
    "create_study",
    "evaluate_run",
    "extract_features",
    "prepare_data",
    "score_run",
    "search_hyperparameters",
    "summarize_study",
    "train_flow",
]

Spec = Annotated[str, typer.Option(help="Spec of the job: JSON, or a file with JSON. 'nfbench explain' prints it.")]
Checkpoints = Annotated[
    float,
    typer.Option(
        envvar="NFBENCH_CHECKPOINT_SECONDS",
        help="Minimum number of seconds between two checkpoints. They take at most 5 % of the time. 0: every epoch.",
    ),
]
KeepModels = Annotated[Kept, typer.Option(help="Models to keep after scoring; the others are deleted.")]


def prepare_data(spec: Spec) -> None:
    """Check and hash all images of a category and write its manifest."""
    from nfbench.stages import prepare

    prepare.prepare_data(PrepareSpec.parse(spec))


def extract_features(spec: Spec, device: Device = "auto", threads: Threads = None) -> None:
    """Pass the images of one view through a frozen backbone and cache its features."""
    from nfbench.stages import extract

    extract.extract_features(ExtractSpec.parse(spec), device, threads)


def create_study(spec: Spec) -> None:
    """Create a study and queue the method's default settings on each backbone as its first trials."""
    require("search")
    from nfbench.stages import search

    search.create_study(StudySpec.parse(spec))


def search_hyperparameters(spec: Spec, device: Device = "auto", threads: Threads = None) -> None:
    """Claim, train and score trials of a study until none are left."""
    require("search")
    from nfbench.stages import search

    search.search_hyperparameters(SearchSpec.parse(spec), device, threads)


def summarize_study(spec: Spec) -> None:
    """Write the record and the best settings of a study."""
    require("search")
    from nfbench.stages import search

    search.summarize_study(SummarizeSpec.parse(spec))


def train_flow(
    spec: Spec, device: Device = "auto", threads: Threads = None, checkpoint_seconds: Checkpoints = 20.0
) -> None:
    """Train a method on cached features; continue where a killed training stopped."""
    from nfbench.stages import train

    train.train_flow(TrainSpec.parse(spec), device, threads, checkpoint_seconds)


def score_run(
    spec: Spec,
    device: Device = "auto",
    threads: Threads = None,
    keep_models: KeepModels = "all",
    latency: Annotated[bool, typer.Option(help="Measure the latency per image with the last model.")] = False,
) -> None:
    """Score the test images of a category with every kept model, then delete the models that are not kept."""
    from nfbench.inference.latency import latency_of_run
    from nfbench.stages import score

    timer = latency_of_run if latency else None
    score.score_run(ScoreSpec.parse(spec), device, threads, keep_models, timer)


def evaluate_run(spec: Spec, threads: Threads = None) -> None:
    """Compute metrics from scores and maps, write the run record, and delete scores and maps."""
    from nfbench.stages import evaluate

    evaluate.evaluate_run(EvaluateSpec.parse(spec), threads)
