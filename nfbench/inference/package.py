"""Packages: a run as one file, with everything that scoring needs and a model card.

A package is an archive (``nfbench.core.archive``). Weights are safetensors, and the rest is text, so reading a package
runs no code from it.
"""

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

import nfbench
from nfbench.backbones._weights import state_hash
from nfbench.core.archive import ArchiveRecord, read_archive, write_archive
from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.files import write_text
from nfbench.core.seals import read_sealed
from nfbench.features.batches import BATCH
from nfbench.features.forward import load_extractor, load_recipe
from nfbench.features.recipe import Recipe
from nfbench.inference.card import model_card
from nfbench.inference.model import TrainedModel, trained_folder
from nfbench.plan.listing import ManifestRecord
from nfbench.results.record import RunRecord, read_record
from nfbench.results.scored import training_of
from nfbench.results.thresholds import THRESHOLDS
from nfbench.training.checkpoint import load_state, save_state

__all__ = ["SUFFIX", "PackageRecord", "is_package", "pack", "read_package"]

SUFFIX = ".nfbench"
"""File ending of packages."""

_CARD, _WEIGHTS = "README.md", "backbone.safetensors"
_RUN, _MODEL = ("run.json", THRESHOLDS), ("training.json", "model.safetensors")
_REQUIRED = {*_RUN, *_MODEL, _CARD}


class PackageRecord(ArchiveRecord):
    """The manifest of a package.

    Attributes:
        cell: cell of the run.
        weights_sha256: hash of the backbone's state, whether included or not.
    """

    kind: ClassVar[str] = "package"
    current: ClassVar[int] = 1

    cell: str
    weights_sha256: str


def is_package(path: str | Path) -> bool:
    """Whether a path is a file with the ending of a package."""
    return Path(path).suffix == SUFFIX and Path(path).expanduser().is_file()


def pack(run: str | Path, output: str | Path | None = None, weights: bool = False) -> Path:
    """Packs a finished run into one file, atomically; the same run gives the same bytes.

    Args:
        run: folder of the run, or its ``run.json``.
        output: file to write; default: named after the cell, in the current folder.
        weights: include the weights of the backbone.

    Returns:
        Path of the file.

    Raises:
        NfbenchError: the run is unusable, the name has another ending, or the backbone's weights are unavailable.
    """
    model = TrainedModel.load(run, torch.device("cpu"))
    record, source = model.record, trained_folder(model.folder, model.record)
    path = Path(output or _name(record)).expanduser()
    if path.suffix != SUFFIX:
        raise NfbenchError(f"{path}: the name of a package must end in {SUFFIX}")
    recipe = record.features.recipe
    with tempfile.TemporaryDirectory(prefix="nfbench-") as temporary:
        folder, thresholds = Path(temporary), model.thresholds
        for name in _RUN:
            shutil.copyfile(model.folder / name, folder / name)
        for name in _MODEL:
            shutil.copyfile(source / name, folder / name)
        if weights and recipe.weights != "none" and recipe.backbone.frozen:
            save_state(folder / _WEIGHTS, load_extractor(recipe).state_dict())
        included = (folder / _WEIGHTS).is_file()
        training = training_of(str(source), record.cell.cell)
        write_text(folder / _CARD, model_card(record, training, thresholds, _reader(model.folder, record), included))
        names = sorted(file.name for file in folder.iterdir() if file.name != _CARD)
        cell, sha256 = str(record.cell.cell), recipe.weights_sha256
        write_archive(PackageRecord, path, folder, [_CARD, *names], cell=cell, weights_sha256=sha256)
    return path


def read_package(path: str | Path, device: torch.device, batch_size: int = BATCH) -> TrainedModel:
    """Loads the model of a package.

    All files are verified against the manifest while they are copied to a temporary folder, which is then removed.

    Args:
        path: the file.
        device: device for computation.
        batch_size: number of images per batch; see ``TrainedModel.load``.

    Raises:
        NfbenchError: the file is damaged, not a package, or of another format, or the backbone's weights are
            unavailable; one line.
    """
    path = Path(path).expanduser()
    with tempfile.TemporaryDirectory(prefix="nfbench-") as temporary:
        folder = Path(temporary)
        package = read_archive(PackageRecord, path, folder, {*_REQUIRED, _WEIGHTS}.__contains__, _REQUIRED)
        try:
            record = read_record(folder / "run.json")
            network = _packed_network(record.features.recipe, folder) if _WEIGHTS in package.written else None
            model = TrainedModel.read(record, folder, folder, device, batch_size, network)
            model.thresholds  # noqa: B018 - read before the files are removed
        except NfbenchError as error:
            said = str(error).replace(f"{folder}/", "")
            raise NfbenchError(
                f"{path} was packed by nfbench {package.nfbench} and cannot be used by {nfbench.__version__}: {said}"
            ) from error
        if network is None:
            _load_network(path, model)
    return model


def _packed_network(recipe: Recipe, folder: Path) -> Any:
    """Returns a function that builds the backbone from its packed weights, which are read once."""
    state = load_state(folder / _WEIGHTS)

    def build() -> nn.Module:
        _, model = load_recipe(recipe.backbone.model_copy(update={"weights": "random"}))
        try:
            model.load_state_dict(state)
        except RuntimeError as error:
            raise NfbenchError(f"{_WEIGHTS}: {one_line(error)}") from error
        if state_hash(model) != recipe.weights_sha256:
            raise NfbenchError(f"{_WEIGHTS} differs from the weights that the model was trained with")
        return model

    return build


def _load_network(path: Path, model: TrainedModel) -> None:
    """Loads the backbone immediately, so that missing weights are reported before images are read."""
    try:
        model.scorer.extractor.model  # noqa: B018
    except NfbenchError as error:
        backbone = model.record.features.recipe.backbone
        raise NfbenchError(
            f"{path} does not include the weights of its backbone, and they cannot be loaded from "
            f"'{backbone.weights}' here; pack the run with '--weights' ({error})"
        ) from error


def _name(record: RunRecord) -> str:
    cell = record.cell
    run = str(cell.cell).rpartition("/")[2]
    return f"{cell.category}-{cell.method}-{cell.backbone}-{run}{SUFFIX}".replace("/", "-")


def _reader(folder: Path, record: RunRecord) -> str | None:
    """Returns the dataset reader's name from the record of the manifest; None if the record is missing."""
    spec = record.specs.evaluate
    depth = len(Path(spec.run).parts)
    if Path(spec.run).is_absolute() or len(folder.absolute().parts) <= depth:
        manifest = Path(spec.manifest)
    else:
        manifest = folder.absolute().parents[depth - 1] / spec.manifest
    try:
        return read_sealed(ManifestRecord, manifest.with_suffix(".json")).spec.dataset.dataset
    except NfbenchError:
        return None
