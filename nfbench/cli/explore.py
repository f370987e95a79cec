"""List what is available, and describe a method without data or weights."""

import inspect
import json
from collections.abc import Iterable
from itertools import product
from typing import Annotated, Literal

import typer

from nfbench.backbones._base import backbone_names, find_backbone
from nfbench.cli.load import load
from nfbench.cli.options import Set, parse_numbers, parse_overrides
from nfbench.config import BackboneConfig, Config, Experiment, FigureConfig, TableConfig, validate
from nfbench.core.errors import required
from nfbench.core.input_size import InputSize
from nfbench.core.registry import exported, plugin_names
from nfbench.metrics import metric_list

__all__ = ["coverage", "describe", "errata", "list_names", "schema"]


_WHOLE = '{"categories": null, "seeds": 1, "miniature": false}'
"""What makes the configuration one of all official categories."""

_KINDS: dict[str, type[TableConfig] | type[FigureConfig]] = {"tables": TableConfig, "figures": FigureConfig}


def list_names(
    kind: Annotated[
        Literal["methods", "backbones", "datasets", "metrics", "experiments", "tables", "figures"], typer.Argument()
    ],
) -> None:
    """List methods, backbones, datasets, metrics (a table in Markdown), experiments, or kinds of tables or figures."""
    if kind in _KINDS:
        models = {name: _KINDS[kind].of_kind(name) for name in plugin_names(f"nfbench.{kind}")}
        names = [
            f"{name}: {required(inspect.getdoc(model), f'docstring of {name}').splitlines()[0]}"
            for name, model in models.items()
        ]
    elif kind == "backbones":
        names = backbone_names()
    elif kind == "metrics":
        names = metric_list().splitlines()
    elif kind == "experiments":
        names = [f"{name}: {experiment.title}" for name, experiment in load().experiments.items()]
    else:
        names = plugin_names(f"nfbench.{kind}")
    for name in names:
        typer.echo(name)


def describe(
    method: Annotated[str, typer.Argument(help="Name of the method.")],
    backbone: Annotated[str, typer.Option(help="Name of the backbone.")],
    input_size: Annotated[
        str | None, typer.Option(help="Side of the square input, or height,width. Default: the backbone's.")
    ] = None,
    levels: Annotated[str | None, typer.Option(help="Levels, fine to coarse. Default: the backbone's.")] = None,
    scales: Annotated[str | None, typer.Option(help="Divisors of the input size. Default: the backbone's.")] = None,
    classes: Annotated[int, typer.Option(min=1, help="Number of classes, for class-conditional methods.")] = 1,
    overrides: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Build a method without data or weights; print levels, latent shapes and trainable parameters."""
    from nfbench.blocks.method import PACKAGE, Method, count_parameters, resolve_settings
    from nfbench.features.building import count_on

    described = find_backbone(backbone)
    of_method: type[Method] = exported(PACKAGE, method, "METHOD", subclass_of=Method)
    sides = parse_numbers("input-size", input_size)
    given = {
        "frozen": of_method.takes_network == "no" or not described.taps,
        "input_size": described.input_size if sides is None else sides[0] if len(sides) == 1 else sides,
        "levels": parse_numbers("levels", levels),
        "scales": parse_numbers("scales", scales),
    }
    config = validate(BackboneConfig, {"name": backbone, **given}, "options")
    size, chosen, divisors = config.size, config.levels or described.levels, config.scales or described.scales
    settings = resolve_settings(method, backbone=backbone, overrides=parse_overrides(overrides))
    model = count_on(config, method, settings, classes)
    description = {
        "method": method,
        "title": model.title,
        "backbone": backbone,
        "input_size": size.sides,
        "image": config.image_shape,
        "levels": [
            {"level": level, "input_size": size.divided(divisor).sides, "shape": list(shape)}
            for (divisor, level), shape in zip(product(divisors, chosen), config.network_shapes.values(), strict=True)
        ],
        "latents": [list(shape) for shape in model.eval().latent_shapes()],
        "parameters": count_parameters(model),
        "settings": settings.model_dump(mode="json"),
    }
    if as_json:
        typer.echo(json.dumps(description, indent=2))
        return
    typer.echo(f"{model.title} on {backbone} at {_times(size)} pixels")
    if config.image_shape:
        typer.echo(f"  image {_times(config.image_shape)}")
    for entry in description["levels"]:
        at = f" at {_times(InputSize.of(entry['input_size']))}" if len(divisors) > 1 else ""
        typer.echo(f"  level {entry['level']}{at}: features {_times(entry['shape'])}")
    for shape in description["latents"]:
        typer.echo(f"  latents {_times(shape)}")
    for part, count in description["parameters"].items():
        typer.echo(f"  trainable parameters, {part}: {count:,}")
    for key, value in description["settings"].items():
        typer.echo(f"  {key}: {value}")


def schema(
    of: Annotated[Literal["config", "experiment"], typer.Argument(help="File to print the schema of.")] = "config",
) -> None:
    """Print the JSON schema of config.yaml or of experiments."""
    model = Config if of == "config" else Experiment
    typer.echo(json.dumps(model.model_json_schema(), indent=2))


def errata() -> None:
    """Print the page on doubtful or inconsistent published values, as Markdown."""
    from nfbench.reference.errata import errata_page

    typer.echo(errata_page(), nl=False)


def coverage() -> None:
    """Print the page on published tables and figures: which experiment makes each, and how many values it shows."""
    from nfbench.tables._coverage import coverage_page

    typer.echo(coverage_page(load(_WHOLE)), nl=False)


def _times(shape: Iterable[int]) -> str:
    return " x ".join(map(str, shape))
