"""Export a trained model as one file."""

from pathlib import Path
from typing import Annotated, Literal

import typer

__all__ = ["export"]

_ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or its run.json.")],
    kind: Annotated[
        Literal["torch", "onnx"], typer.Option("--format", help="ONNX, or a torch.export program (.pt2).")
    ] = "onnx",
    output: Annotated[
        Path | None, typer.Option(help="File to write. Default: model.onnx or model.pt2 in the run's folder.")
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            min=0, help="Largest relative difference from the method; more if rounding the features changes more."
        ),
    ] = 1e-4,
) -> None:
    """Export a run's model, from decoded images to maps and scores, and compare it with the original."""
    import torch

    from nfbench.inference.export import export_model
    from nfbench.inference.model import TrainedModel

    model = TrainedModel.load(run, torch.device("cpu"))
    path = output or model.folder / f"model{_ENDINGS[kind]}"
    done = export_model(model, path, kind, tolerance)
    found = done.agreement
    images = "test images" if found.real else "made-up images (fewer test images are there)"
    maps = "no maps" if found.maps is None else f"maps by {found.maps:.1e} of their range"
    typer.echo(
        f"{done.path}: {done.size / 1e6:.1f} MB; differs from the method on {found.n_images} {images} by at most "
        f"{found.scores:.1e} in scores, {maps}; rounding features to fp16 makes {found.rounding:.1e}"
    )
