"""Download and check datasets."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nfbench.core.errors import NfbenchError
from nfbench.core.files import write_json
from nfbench.datasets._base import Counts, find_dataset

if TYPE_CHECKING:
    from nfbench.datasets._check import Pixels, Report

__all__ = ["app", "check", "fetch", "list_datasets", "shape"]

app = typer.Typer(no_args_is_help=True, help="Download and check datasets.")

Root = Annotated[Path, typer.Option(help="Folder that holds one folder per dataset.")]
Output = Annotated[Path | None, typer.Option(help="JSON file for the output.")]


@app.command("list")
def list_datasets(
    data_root: Root = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Output = None,
) -> None:
    """List the datasets that can be downloaded: state, access, size, licence and citation."""
    from nfbench.datasets._sources import read_sources

    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "title": find_dataset(name).title,
            "there": (data_root / name).is_dir(),
            "access": source.access,
            "categories": len(find_dataset(name).categories),
            "published": {"images": sum(map(sum, source.counts.values()))} if source.counts else source.facts,
            "licence": source.licence,
            "citation": source.citation,
            "homepage": source.homepage,
        }
        for name, source in read_sources().items()
    ]
    if output:
        write_json(output, rows)
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        state = "there" if row["there"] else "to be fetched" if row["access"] == "open" else "to be downloaded by hand"
        size = ", ".join(f"{count:,} {what}" for what, count in row["published"].items())
        typer.echo(f"{row['name']}: {row['title']}, {state}; {size}; {row['licence']}")
        typer.echo(f"    {row['citation']}; {row['homepage']}")


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="Dataset; 'nfbench data list' prints the names.")],
    data_root: Root = Path("data"),
    archive: Annotated[list[Path] | None, typer.Option(help="Archive downloaded by hand. Repeatable.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Keep downloaded archives after unpacking.")] = False,
) -> None:
    """Download, check and unpack a dataset to DATA_ROOT/NAME; continue a stopped download."""
    from nfbench.datasets._fetch import fetch as fetch_dataset

    folder = fetch_dataset(name, data_root, by_hand=archive or [], keep=keep)
    typer.echo(f"{folder}; look at it with 'nfbench data check {name} --root {folder}'")


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="Reader of the dataset, such as mvtec_ad or folder.")],
    root: Annotated[Path | None, typer.Option(help="Folder with the categories. Default: data/NAME.")] = None,
    stride: Annotated[int, typer.Option(min=1, help="Use every n-th frame of videos.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    output: Output = None,
) -> None:
    """Read every image and mask of a dataset and compare counts with the official ones; exit with 1 on broken files."""
    from nfbench.datasets._check import check_dataset
    from nfbench.datasets._sources import read_sources

    folder = root or Path("data") / name
    report = check_dataset(find_dataset(name), folder, read_sources().get(name), stride)
    described = {"dataset": name, "root": str(folder), **report.to_dict()}
    if output:
        write_json(output, described)
    typer.echo(json.dumps(described, indent=2) if as_json else _in_words(report))
    if not report.sound:
        raise NfbenchError(f"dataset '{name}' in {folder} has broken files; they are listed above")


@app.command("shape")
def shape(
    name: Annotated[str, typer.Argument(help="Reader of the dataset, such as mvtec_ad or folder.")],
    root: Annotated[Path | None, typer.Option(help="Folder with the categories. Default: data/NAME.")] = None,
    side: Annotated[int, typer.Option(min=32, help="Side of a square with the area of the input.")] = 256,
    multiple: Annotated[int, typer.Option(min=1, help="Number that divides height and width.")] = 32,
) -> None:
    """Print the input_size that keeps the shape of the images of each category, at the area of a square."""
    from nfbench.datasets._shape import input_size_for, shape_of

    dataset, folder = find_dataset(name), root or Path("data") / name
    for category in dataset.available(folder):
        found = shape_of(dataset, folder, category)
        size = input_size_for(found.ratio, side, multiple)
        shown = size.height if size.is_square else list(size)
        low, high = min(found.sizes), max(found.sizes)
        sizes = f"{low.height} x {low.width}" + ("" if low == high else f" to {high.height} x {high.width}")
        typer.echo(f"{category}: input_size: {shown} (height / width {found.ratio:.2f}; images of {sizes} pixels)")


def _in_words(report: "Report") -> str:
    lines = []
    for name, found in report.categories.items():
        same = "no official counts"
        if found.official:
            same = "as published" if found.counts == found.official else f"published: {_counts(found.official)}"
        lines.append(f"{name}: {_counts(found.counts)}; {same}; {found.masks} masks; {', '.join(found.sizes)}")
        if found.validation:
            lines.append(f"  {found.validation} normal images for validation")
        if found.unlabelled:
            lines.append(f"  {found.unlabelled} test images without labels")
        lines += _stored(found.pixels)
        lines += [f"  broken: {problem}" for problem in found.broken]
        lines += [f"  mask without defect: {path}" for path in found.empty_masks]
        lines += [f"  mask that marks every pixel: {path}" for path in found.pixels.full_masks]
        lines += [f"  mask of many values, all above 0 count: {path}" for path in found.pixels.shaded_masks]
        lines += [f"  equal: {', '.join(paths)}" for paths in found.duplicates]
    for name, (value, official) in report.facts.items():
        lines.append(f"{name}: {value:,}" + ("" if official is None else f"; published: {official:,}"))
    if report.missing:
        lines.append(f"missing: {', '.join(report.missing)}")
    lines += [f"left out: {line}" for line in report.left_out]
    return "\n".join(lines)


def _stored(found: "Pixels") -> list[str]:
    """How the images and masks of a category are stored, in one line each."""
    lines = []
    if found.modes:
        lines.append(f"  images: {_modes(found.modes)}; {_range(found.values)} values")
    if found.mask_modes:
        low, mean, high = (f"{100 * share:.3g}" for share in found.defective)
        shares = f"{mean} % defective ({low} to {high} %)"
        lines.append(f"  masks: {_modes(found.mask_modes)}; {_range(found.mask_values)} values; {shares}")
    return lines


def _modes(modes: dict[str, int]) -> str:
    return " and ".join(f"{count} {mode}" for mode, count in sorted(modes.items()))


def _range(values: list[int]) -> str:
    low, high = values
    return str(low) if low == high else f"{low} to {high}"


def _counts(counts: Counts) -> str:
    return f"{counts.train} for training, {counts.test_normal} normal and {counts.test_anomalous} anomalous for testing"
