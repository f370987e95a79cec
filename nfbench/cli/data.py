"""Data: from the images of a category to its manifest, and a look at what is there."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from nfbench.config import DatasetConfig
from nfbench.datasets.base import find_dataset

__all__ = ["app", "check", "prepare_data"]

app = typer.Typer(no_args_is_help=True, help="Look at datasets.")


def prepare_data(
    dataset: Annotated[str, typer.Option(help="Reader of the dataset.")],
    category: Annotated[str, typer.Option(help="Category to read.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the categories.")],
    output: Annotated[Path, typer.Option(help="Manifest to write (CSV).")],
    stride: Annotated[int, typer.Option(min=1, help="Of videos, every n-th frame only.")] = 1,
    max_train: Annotated[int | None, typer.Option(min=1, help="At most so many training images.")] = None,
    max_test_normal: Annotated[int | None, typer.Option(min=1, help="At most so many normal test images.")] = None,
    max_test_anomalous: Annotated[
        int | None, typer.Option(min=1, help="At most so many anomalous test images.")
    ] = None,
    miniature: Annotated[bool, typer.Option("--miniature", help="Make the dataset's tiny copy in ROOT first.")] = False,
) -> None:
    """Check and hash all images of a category, and write its manifest."""
    from nfbench.datasets.manifest import build_manifest, select_subset, write_manifest

    subset = DatasetConfig(
        dataset=dataset,
        stride=stride,
        max_train=max_train,
        max_test_normal=max_test_normal,
        max_test_anomalous=max_test_anomalous,
    )
    reader = find_dataset(dataset)
    if miniature:
        reader.miniature(root)
    samples = reader.sampled(root, category, stride)
    write_manifest(output, build_manifest(select_subset(samples, subset)))


@app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="Reader of the dataset: mvtec_ad, folder, elpv, synthetic.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the categories.")] = Path("data"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Decode every image and mask of a dataset and count them by category and split."""
    from nfbench.datasets.manifest import build_manifest

    dataset = find_dataset(name)
    counts = {}
    for category in dataset.available(root):
        entries = build_manifest(dataset.samples(root, category))
        copies = Counter(entry.sha256 for entry in entries)
        counts[category] = {
            "train": sum(entry.split == "train" for entry in entries),
            "test_normal": sum(entry.split == "test" and not entry.label for entry in entries),
            "test_anomalous": sum(entry.label for entry in entries),
            "masks": sum(bool(entry.mask) for entry in entries),
            "duplicate_images": sum(count - 1 for count in copies.values()),
            "sizes": sorted({f"{entry.width}x{entry.height}" for entry in entries}),
        }
    if as_json:
        typer.echo(json.dumps({"dataset": name, "root": str(root), "categories": counts}, indent=2))
        return
    for category, row in counts.items():
        typer.echo(f"{category}: " + ", ".join(f"{key} {value}" for key, value in row.items()))
