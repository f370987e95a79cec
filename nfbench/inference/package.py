"""Packages: a run as one file, with everything that scoring needs and a model card.

A package is a zip without compression. ``manifest.json`` lists size and SHA-256 of all other files and has a seal like
records. Weights are safetensors, and the rest is text, so reading a package runs no code from it.
"""

import hashlib
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import ValidationError
from torch import nn

import nfbench
from nfbench.backbones._weights import state_hash
from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.files import atomic_path, write_text
from nfbench.core.record import Record
from nfbench.core.seals import KnownFile, known_files, read_sealed, seal_of, write_sealed
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

_FORMAT = 1
_MANIFEST, _CARD, _WEIGHTS = "manifest.json", "README.md", "backbone.safetensors"
_RUN, _MODEL = ("run.json", THRESHOLDS), ("training.json", "model.safetensors")
_REQUIRED = {*_RUN, *_MODEL, _CARD}
_LARGEST_MANIFEST = 1 << 20
_DAMAGED = (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError, RecursionError)
"""Errors of zipfile and json for damaged or foreign files."""


class PackageRecord(Record):
    """The manifest of a package.

    Attributes:
        format: version of the layout.
        nfbench: version of nfbench that packed the run.
        cell: cell of the run.
        weights_sha256: hash of the backbone's state, whether included or not.
        written: sizes and hashes of all other files.
    """

    format: int
    nfbench: str
    cell: str
    weights_sha256: str
    written: dict[str, KnownFile]


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
        names = sorted(file.name for file in folder.iterdir())
        manifest = PackageRecord(
            format=_FORMAT,
            nfbench=nfbench.__version__,
            cell=str(record.cell.cell),
            weights_sha256=recipe.weights_sha256,
            written=known_files(folder, names),
        )
        write_sealed(folder / _MANIFEST, manifest)
        with atomic_path(path) as staged, zipfile.ZipFile(staged, "w") as archive:
            for name in (_CARD, _MANIFEST, *(name for name in names if name != _CARD)):
                _add(archive, folder / name)
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
        package = _unpack(path, folder)
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
    return f"{cell.category}-{cell.method}-{cell.backbone}-seed{cell.seed}{SUFFIX}".replace("/", "-")


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


def _add(archive: zipfile.ZipFile, path: Path) -> None:
    """Adds a file uncompressed, without its modification time."""
    info = zipfile.ZipInfo(path.name)
    info.external_attr, info.file_size = 0o644 << 16, path.stat().st_size
    with path.open("rb") as source, archive.open(info, "w") as target:
        shutil.copyfileobj(source, target, 1 << 20)


def _unpack(path: Path, folder: Path) -> PackageRecord:
    """Copies the files of a package to a folder, and verifies names, sizes and hashes by the manifest."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(path, archive)
            package = _manifest(path, archive)
            if members.keys() != package.written.keys() or not members.keys() >= _REQUIRED:
                odd = min((members.keys() ^ package.written.keys()) | (_REQUIRED - members.keys()))
                raise NfbenchError(f"{path}: the file {odd!r} does not match the manifest; copy the package again")
            for name, known in package.written.items():
                with archive.open(name) as source:
                    found = _copy(source, folder / name, known.size)
                if found != known.sha256 or members[name].file_size != known.size:
                    raise NfbenchError(f"{path}: {name} has changed since the run was packed; copy it again")
    except _DAMAGED as error:
        raise NfbenchError(f"{path} is damaged or not a package ({one_line(error) or 'cut'}); copy it again") from error
    return package


def _members(path: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Returns all files except the manifest by name; checks that names are known, unique and uncompressed."""
    infos, size = archive.infolist(), path.stat().st_size
    allowed = {*_REQUIRED, _WEIGHTS, _MANIFEST}
    for info in infos:
        if info.filename not in allowed:
            raise NfbenchError(f"{path} has an unexpected file {info.filename[:60]!r}")
        stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not stored or info.flag_bits & 1:
            raise NfbenchError(f"{path}: {info.filename} is compressed or encrypted, unlike in a package")
    if len({info.filename for info in infos}) < len(infos) or sum(info.file_size for info in infos) > size:
        raise NfbenchError(f"{path} has a duplicate file, or files that are larger than the package")
    return {info.filename: info for info in infos if info.filename != _MANIFEST}


def _manifest(path: Path, archive: zipfile.ZipFile) -> PackageRecord:
    if _MANIFEST not in archive.namelist():
        raise NfbenchError(f"{path} is not a package: it has no {_MANIFEST}")
    with archive.open(_MANIFEST) as file:
        values = json.loads(file.read(_LARGEST_MANIFEST))
    if not isinstance(values, dict) or values.pop("seal", None) != seal_of(values):
        raise NfbenchError(f"{path}: {_MANIFEST} has changed since the run was packed; copy it again")
    if values.get("format") != _FORMAT:
        raise NfbenchError(
            f"{path} has format {one_line(values.get('format'))}, but nfbench {nfbench.__version__} reads {_FORMAT}; "
            "pack the run again"
        )
    try:
        return PackageRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise NfbenchError(f"{path}: {_MANIFEST}: '{'.'.join(map(str, first['loc']))}': {first['msg']}") from None


def _copy(source: Any, target: Path, size: int) -> str:
    """Copies at most ``size`` bytes and returns their SHA-256."""
    digest, left = hashlib.sha256(), size
    file: BinaryIO
    with target.open("xb") as file:
        while left and (part := source.read(min(left, 1 << 20))):
            digest.update(part)
            file.write(part)
            left -= len(part)
    return digest.hexdigest()
