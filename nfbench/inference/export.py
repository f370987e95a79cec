"""Export of a trained model to one file: the graph from decoded images to maps and scores, with the backbone.

The graph rounds features to fp16, as feature caches do, so its numbers match the run. Scores are float32. Computations
in float64 stay float64 if ONNX Runtime has such operators; see ``blocks.exporting``.
"""

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import nfbench
from nfbench.blocks.features import Features
from nfbench.core.errors import NfbenchError, one_line, required
from nfbench.core.extras import require
from nfbench.core.files import atomic_path
from nfbench.core.quiet import quieted
from nfbench.features.forward import Picture, read_images, transform_of
from nfbench.features.recipe import Recipe
from nfbench.inference.archive import METADATA_FILE
from nfbench.inference.exported import IMAGE, ExportFormat, Metadata, load_exported
from nfbench.inference.model import TrainedModel
from nfbench.results.record import tested_images
from nfbench.scoring.maps import ScoredImages
from nfbench.scoring.scorer import Scorer

__all__ = ["TOLERANCE", "Agreement", "Exported", "export_model", "metadata_of", "write_exported"]

TOLERANCE = 1e-4
"""Default tolerance for the differences in ``Agreement``; ``Agreement.rounding`` if that is larger.

Backbones differ in the last bits of float32 between runtimes, so some features are rounded the other way.
"""

_BATCHES = (1, 2, 5)
_SMALLEST_SHARE = 0.01
_LARGEST_ONNX = 2**31 - 2**24
_OPSET = 20
_NOISY = ("torch.onnx", "torch.export", "torch.fx", "onnxscript", "onnx_ir")


class Agreement(NamedTuple):
    """Largest differences between an exported file and the method.

    Attributes:
        maps: relative to the range of all maps; None without maps.
        scores: relative to the largest absolute score.
        rounding: difference of the method itself, in maps or scores, if its features are not rounded to fp16.
        n_images: number of images, in batches of 1, 2 and 5.
        real: whether the images are test images of the run; otherwise they are noise.

    A range counts as at least 1 % of the largest absolute value, since smaller ranges approach float32 rounding.
    """

    maps: float | None
    scores: float
    rounding: float
    n_images: int
    real: bool


class Exported(NamedTuple):
    """An exported file, its size in bytes, and its agreement with the method."""

    path: Path
    size: int
    agreement: Agreement


def export_model(
    model: TrainedModel,
    path: Path,
    kind: ExportFormat,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Exports a trained model to one file, and compares it with the model on test images of its run.

    Args:
        model: model on the CPU.
        path: file to write.
        kind: ``onnx``, or ``torch`` for a program of ``torch.export``.
        tolerance: largest accepted difference; see ``Agreement``.

    Raises:
        NfbenchError: the method cannot be exported or is scored in tiles, the file differs from it, or a package is
            missing.
    """
    _refuse_tiles(model.scorer)
    pictures, real = _checked_with(model)
    return write_exported(model.scorer, path, kind, metadata_of(model), pictures, real, tolerance)


def metadata_of(model: TrainedModel) -> dict[str, Any]:
    """Returns the metadata of an exported file, as values of ``Metadata``."""
    record, recipe = model.record, model.scorer.recipe
    cell = record.cell
    return {
        "nfbench": nfbench.__version__,
        "method": cell.variant_of,
        "variant": cell.method,
        "title": cell.title,
        "setting": cell.setting,
        "dataset": cell.dataset,
        "category": cell.category,
        "seed": cell.seed,
        "backbone": cell.backbone,
        "weights_sha256": recipe.weights_sha256,
        "side": recipe.backbone.size.sides,
        "mean": recipe.mean,
        "std": recipe.std,
        "resize": transform_of(recipe.backbone.size),
        "outputs": ["score"] if model.method.gradient_maps else ["map", "score"],
        "thresholds": model.thresholds.model_dump(mode="json"),
    }


def write_exported(
    scorer: Scorer,
    path: Path,
    kind: ExportFormat,
    metadata: Mapping[str, Any],
    pictures: Sequence[Picture],
    real: bool = True,
    tolerance: float = TOLERANCE,
) -> Exported:
    """Exports a scorer to one file, and compares it with the scorer.

    Args:
        scorer: scorer on the CPU.
        path: file to write.
        kind: format of the file.
        metadata: values of ``Metadata``; ``outputs`` may be omitted.
        pictures: 8 images for the comparison.
        real: whether they are test images.
        tolerance: as for ``export_model``.

    Raises:
        NfbenchError: as ``export_model``.
    """
    _refuse_tiles(scorer)
    program = _trace(scorer)
    outputs = ("map", "score")[-len(program.graph_signature.user_outputs) :]
    text = Metadata.model_validate({**metadata, "outputs": outputs}).model_dump_json()
    with atomic_path(path) as temporary:
        if kind == "onnx":
            _write_onnx(program, temporary, text, outputs, scorer.model.title)
        else:
            with temporary.open("wb") as file:  # given a path, torch would store the temporary name in the archive
                torch.export.save(program, file, extra_files={METADATA_FILE: text})
        agreement = _compare(scorer, temporary, pictures, real)
        worst = max(agreement.maps or 0.0, agreement.scores)
        if not worst <= max(tolerance, agreement.rounding):
            raise NfbenchError(
                f"{path} was not written: it differs from {scorer.model.title} by {worst:.1e}, more than the tolerance "
                f"{max(tolerance, agreement.rounding):.1e}; set '--tolerance' to accept more"
            )
        size = temporary.stat().st_size
    return Exported(path, size, agreement)


def _refuse_tiles(scorer: Scorer) -> None:
    if scorer.recipe.backbone.tiles:
        raise NfbenchError(
            f"method '{scorer.model.title}' is scored in tiles here, but an exported file takes one image of fixed "
            "size; use a package of 'nfbench pack', with which 'nfbench predict' cuts images and merges maps"
        )


class _Graph(nn.Module):
    """Graph from ``(B, 3, H, W)`` uint8 to map ``(B, h, w)``, if any, and score ``(B,)``, float32."""

    mean: Tensor
    std: Tensor
    turned: Tensor | None

    def __init__(self, scorer: Scorer, rounds: bool = True) -> None:
        super().__init__()
        self.rounds = rounds
        self.recipe, self.class_number = scorer.recipe, scorer.class_number
        self.network, self.method = copy.deepcopy(scorer.extractor.model), copy.deepcopy(scorer.model)
        self.register_buffer("mean", torch.tensor(self.recipe.mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(self.recipe.std).view(3, 1, 1))
        self.register_buffer("turned", _turned(self.recipe) if self.recipe.backbone.rotations else None)
        for values in (*self.parameters(), *self.buffers()):  # torch writes memory as it is laid out
            values.data = values.data.clone(memory_format=torch.contiguous_format)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        pixels = image.float() / 255
        if self.turned is not None:
            pixels = _views(pixels, self.turned)
        scores = self.method.score(self._features((pixels - self.mean) / self.std))
        maps = () if scores.maps is None else (scores.maps.float(),)
        return (*maps, scores.images.float())

    def _features(self, inputs: Tensor) -> Features[Tensor]:
        backbone = self.recipe.backbone
        levels = self.network(inputs)
        if backbone.pooled:
            levels = [level.mean((2, 3), keepdim=True) for level in levels]
        arrays = [*([inputs] if backbone.image else []), *levels]
        if self.rounds:
            arrays = [x.half().float() for x in arrays]
        if backbone.rotations:
            arrays = [x.unflatten(0, (-1, backbone.rotations)) for x in arrays]
        features = self.recipe.features(arrays)
        if not self.method.takes_class:
            return features
        number = torch.full_like(inputs[:, 0, 0, 0], self.class_number, dtype=torch.long)
        return Features(features.levels, features.image, number)


def _views(pixels: Tensor, turned: Tensor) -> Tensor:
    """Returns all rotated views, ``(B * K, 3, H, W)``, with Pillow's pixels and black; see ``_turned``."""
    flat = nn.functional.pad(pixels.flatten(2), (1, 0))
    return flat.index_select(2, turned).unflatten(2, (-1, *pixels.shape[2:])).transpose(1, 2).flatten(0, 1)


def _turned(recipe: Recipe) -> Tensor:
    """Returns the source pixel, counted from 1, of each pixel of the views, ``(K * H * W,)``; 0 is black."""
    size = recipe.backbone.size
    numbers = Image.fromarray(np.arange(1, size.height * size.width + 1, dtype=np.int32).reshape(size))
    views = [np.array(numbers.rotate(angle, Image.Resampling.NEAREST)) for angle in recipe.angles]
    return torch.from_numpy(np.stack(views)).flatten().long()


def _trace(scorer: Scorer) -> torch.export.ExportedProgram:
    """Traces the graph for batches of any size.

    Raises:
        NfbenchError: the method has control flow that depends on values or on the batch size.
    """
    # torch would specialize on a batch of one
    example = torch.zeros(2, 3, *scorer.recipe.backbone.size, dtype=torch.uint8)
    graph = _Graph(scorer)
    try:
        with torch.no_grad(), quieted(_NOISY):
            program = torch.export.export(graph, (example,), dynamic_shapes={IMAGE: {0: torch.export.Dim.DYNAMIC}})
    except Exception as error:
        raise NfbenchError(f"method '{scorer.model.title}' cannot be exported: {one_line(error)}") from error
    for node in program.graph.nodes:  # stack traces contain paths of this machine
        node.meta = {key: value for key, value in node.meta.items() if key in ("val", "tensor_meta")}
    return program


def _write_onnx(
    program: torch.export.ExportedProgram, path: Path, text: str, outputs: Sequence[str], title: str
) -> None:
    require("export")
    tensors = [*program.state_dict.values(), *program.constants.values()]
    size = sum(x.nbytes for x in tensors if isinstance(x, Tensor))
    if size > _LARGEST_ONNX:
        raise NfbenchError(
            f"method '{title}' has {size / 2**30:.1f} GiB of values, but an ONNX file holds at most 2; use '--format "
            "torch'"
        )
    try:
        with quieted(_NOISY):
            made: Any = torch.onnx.export(
                program,
                dynamo=True,
                verbose=False,
                external_data=False,
                opset_version=_OPSET,
                input_names=[IMAGE],
                output_names=list(outputs),
            )
    except Exception as error:
        cause = error.__cause__ or error
        found = re.search(r"(?:aten|prims)[.:]+(\w+)", str(cause))
        what = f"it has no operator '{found[1]}'" if found else one_line(cause)
        raise NfbenchError(f"method '{title}' cannot be exported to ONNX: {what}; use '--format torch'") from error
    _tidy(made.model.graph)
    made.model.metadata_props[METADATA_FILE.partition(".")[0]] = text
    made.save(str(path), external_data=False)


def _tidy(graph: Any) -> None:
    """Removes the origin of each operator, and names the batch axis."""
    for node in graph.all_nodes():
        node.metadata_props.clear()
    for value in (*graph.inputs, *graph.outputs):
        value.metadata_props.clear()
        value.shape = type(value.shape)(["batch", *value.shape[1:]])


def _compare(scorer: Scorer, path: Path, pictures: Sequence[Picture], real: bool) -> Agreement:
    """Compares a file with the scorer, in batches of several sizes."""
    expected = scorer.score(pictures)
    exported = load_exported(path)
    images = read_images(pictures, exported.size)
    found = [exported.score(part.numpy()) for part in images.split(_BATCHES)]
    maps = None if found[0][0] is None else np.concatenate([part for part, _ in found if part is not None])
    with torch.no_grad():
        *unrounded, scores = (values.numpy() for values in _Graph(scorer, rounds=False)(images))
    rounding = [one for one in _differences(unrounded[0] if unrounded else None, scores, expected) if one is not None]
    differences = _differences(maps, np.concatenate([part for _, part in found]), expected)
    return Agreement(*differences, max(rounding), len(pictures), real)


def _differences(maps: np.ndarray | None, scores: np.ndarray, expected: ScoredImages) -> tuple[float | None, float]:
    """Returns the differences of maps and scores; see ``Agreement``."""
    paper = expected.images["paper"]
    of_scores = _difference(scores, paper, np.abs(paper).max())
    if maps is None:
        return None, of_scores
    own = required(expected.maps, "maps of the method")
    return _difference(maps, own, np.ptp(own)), of_scores


def _difference(found: np.ndarray, expected: np.ndarray, size: float) -> float:
    """Returns the largest difference relative to ``size``, at least ``_SMALLEST_SHARE`` of the largest value."""
    smallest = _SMALLEST_SHARE * np.abs(expected).max() + np.finfo(np.float32).tiny
    return float(np.abs(found.astype(float) - expected).max() / max(size, smallest))


def _checked_with(model: TrainedModel) -> tuple[list[Picture], bool]:
    """Selects evenly spaced test images of the run; noise if they are missing or too few."""
    count = sum(_BATCHES)
    try:
        entries = tested_images(model.record)
        if len(entries) >= count:
            chosen = [entries[number] for number in np.linspace(0, len(entries) - 1, count).round().astype(int)]
            read_images(chosen, model.scorer.recipe.backbone.input_size)
            return list(chosen), True
    except (NfbenchError, OSError):
        pass
    rng, shape = np.random.default_rng(0), (*model.scorer.recipe.backbone.size, 3)
    return [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for _ in range(count)], False
