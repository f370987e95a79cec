"""Features: from a manifest to the cache of one view."""

from pathlib import Path
from typing import Annotated

import typer

from nfbench.backbones.base import find_backbone
from nfbench.cli.options import Device, Threads, parse_numbers
from nfbench.config import AnomaliesConfig
from nfbench.core.errors import NfbenchError

__all__ = ["extract"]


def extract(
    manifest: Annotated[Path, typer.Option(help="Manifest of the category.")],
    view: Annotated[str, typer.Option(help="train, test, or a view of pseudo-anomalies, such as pseudo-blend-k8.")],
    backbone: Annotated[str, typer.Option(help="Name of the backbone.")],
    output: Annotated[Path, typer.Option(help="meta.json of the cache to write.")],
    input_size: Annotated[int, typer.Option(help="Side of the square input in pixels.")] = 256,
    levels: Annotated[str | None, typer.Option(help="Levels, fine to coarse, by default the backbone's.")] = None,
    scales: Annotated[str | None, typer.Option(help="Divisors of the input's side, by default the backbone's.")] = None,
    interpolation: Annotated[str | None, typer.Option(help="How inputs are scaled, by default the backbone's.")] = None,
    padding: Annotated[str, typer.Option(help="zeros or reflect.")] = "zeros",
    rotations: Annotated[int, typer.Option(min=0, help="Rotated views of each image.")] = 0,
    pooled: Annotated[bool, typer.Option("--pooled", help="Keep the global average of each level.")] = False,
    image: Annotated[bool, typer.Option("--image", help="Keep the normalized image too.")] = False,
    online: Annotated[bool, typer.Option("--online", help="Cache nothing: compute when features are read.")] = False,
    weights: Annotated[str, typer.Option(help="default, package, hub, random, or a file.")] = "default",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Pass the images of one view through a frozen backbone and cache its features."""
    from nfbench.anomalies.base import make_generator
    from nfbench.core.device import pick_device
    from nfbench.datasets.manifest import read_manifest
    from nfbench.features.extract import Synthesis, extract_features
    from nfbench.features.recipe import Recipe

    described = find_backbone(backbone)
    if weights == "default":
        weights = "package" if described.package else "hub"
    pseudo = AnomaliesConfig.of_view(view)
    entries = read_manifest(manifest)
    synthesis = None
    if pseudo:
        config, seed = pseudo
        generator, entries = make_generator(config, entries, seed, input_size)
        synthesis = Synthesis(config.generator, generator, config.views, seed)
    else:
        entries = [entry for entry in entries if entry.split == view]
    if not entries:
        raise NfbenchError(f"manifest {manifest} has no image of view '{view}'")
    recipe = Recipe(
        described,
        input_size,
        parse_numbers("levels", levels),
        parse_numbers("scales", scales),
        interpolation,
        padding,
        rotations,
        pooled,
        image,
        weights,
    )
    where = pick_device(device, threads)
    source = manifest if online else None
    extract_features(entries, recipe, output, view=view, device=where, synthesis=synthesis, online=source)
