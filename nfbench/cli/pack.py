"""Pack a finished run into one file."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["pack"]


def pack(
    run: Annotated[str, typer.Argument(help="Folder of a finished run.")],
    output: Annotated[Path | None, typer.Option(help="File to write, *.nfbench. Default: named after the run.")] = None,
    weights: Annotated[bool, typer.Option("--weights", help="Include the weights of the backbone.")] = False,
) -> None:
    """Pack a run into one file for another machine: model, thresholds, records and a model card."""
    from nfbench.inference.package import pack as write

    path = write(run, output, weights)
    typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB; 'nfbench predict {path} IMAGES' scores images")
