"""Cross-fitting: scores of normal images from models that were not fitted to them, for thresholds.

It is for methods that are fitted, not trained: their scores of the images that they were fitted to are far too low.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nfbench.blocks.features import Features
from nfbench.blocks.method import Method
from nfbench.blocks.settings import FittedSettings, MethodSettings
from nfbench.blocks.tiling import Tiling
from nfbench.core.errors import NfbenchError
from nfbench.core.progress import progress
from nfbench.core.provenance import derive_seed
from nfbench.features.batches import BATCH
from nfbench.features.building import build_on
from nfbench.metrics._tails import NormalScores
from nfbench.plan.cells import Cell
from nfbench.scoring.stitching import merge_tiles
from nfbench.training.assemble import Images, assemble
from nfbench.training.checkpoint import load_state, save_state
from nfbench.training.data import Passes, TrainingData
from nfbench.training.fit import initialization_of, seed_of

__all__ = ["cross_fit", "load_normal", "save_normal"]


def cross_fit(
    cell: Cell, method: str, settings: MethodSettings, images: Sequence[Images], device: torch.device
) -> list[NormalScores]:
    """Scores of all normal images for thresholds, each from a model that was not fitted to it.

    One model and the maps of one batch are in memory at a time.

    Args:
        cell: determines all random choices, as in training.
        method: name of the method.
        settings: settings of the method.
        images: images of each class, ordered by class number.
        device: device to compute on.

    Returns:
        Scores by class; empty if the settings have a 'val_fraction' or no folds, if all classes have validation images,
        or if the method is trained.

    Raises:
        NfbenchError: too few images, a method that cannot be cross-fitted, or a score that is not finite.
    """
    if not isinstance(settings, FittedSettings) or not settings.folds or settings.val_fraction:
        return []
    if all(one.n_validation for one in images):
        return []
    cache, seed, first = images[0].features, seed_of(cell), initialization_of(seed_of(cell))
    data: TrainingData | None = None
    fold_of = torch.cat([_deal(one, settings.folds, seed) for one in images])
    ends = np.cumsum([0, *(one.n_train for one in images)]).tolist()
    found = [NormalScores.of(last - begin) for begin, last in pairwise(ends)]
    for number in progress(range(settings.folds), total=settings.folds, label=f"cross-fit {cell}"):
        if not (fold_of == number).any():
            continue
        model = build_on(cache.meta.backbone, method, settings, first, len(images)).to(device)
        data = data or assemble(_checked(model), images, seed, device)
        _fit_without(model, data, fold_of != number, f"{cell}, fold {number + 1} of {settings.folds}")
        for place, (begin, last) in enumerate(pairwise(ends)):
            held_out = (fold_of[begin:last] == number).nonzero()[:, 0]
            found[place] = _score(model, data, begin + held_out, held_out, images[place].normal.tiling, found[place])
        del model  # one model is in memory at a time
    return [scores.sorted() for scores in found]


def _deal(images: Images, folds: int, seed: int) -> Tensor:
    """Fold number of each normal image, ``(N,)``; copies of one image share a fold."""
    files = [entry.sha256 for entry in images.normal_entries]
    different = sorted(set(files))
    if len(different) < 2:
        raise NfbenchError(
            f"{images.features.path}: 'folds' needs at least 2 different normal training images, got {len(different)}; "
            "set 'folds: 0', or add images"
        )
    generator = torch.Generator().manual_seed(derive_seed(seed, "folds"))
    shuffled = torch.randperm(len(different), generator=generator).tolist()
    fold = {different[number]: place % folds for place, number in enumerate(shuffled)}
    return torch.tensor([fold[file] for file in files])


def _checked(model: Method) -> Method:
    """Reject methods with scores relative to other images, or with maps computed from images."""
    if model.transductive or model.gradient_maps:
        reason = "its scores are relative to the test set" if model.transductive else "its maps are gradients"
        raise NfbenchError(f"method '{model.title}' cannot be cross-fitted, since {reason}; set 'folds: 0'")
    return model


def _fit_without(model: Method, data: TrainingData, kept: Tensor, label: str) -> None:
    passes = Passes(data, data.rows(kept.nonzero()[:, 0]))
    try:
        model.train().prepare(passes)
        model.eval().calibrate(passes)
    except NfbenchError as error:
        raise NfbenchError(f"{label}: {error}; 'folds: 0' fits only one model, to all images") from error


@torch.inference_mode()
def _score(
    model: Method, data: TrainingData, images: Tensor, numbers: Tensor, tiling: Tiling | None, scores: NormalScores
) -> NormalScores:
    """Return ``scores`` extended by some images of a class.

    Args:
        model: the model that was not fitted to them.
        data: images of all classes.
        images: their numbers in ``data``.
        numbers: their numbers in the class.
        tiling: of the class; None without tiles.
        scores: of the class.
    """
    if not len(images):  # a small class has no image in some folds
        return scores
    parts, size = _scored(model, data.ordered(data.rows(images))), BATCH
    if tiling is not None:
        parts, size = merge_tiles(parts, tiling.select(numbers), model), 1
    for (maps, of_images), rows in zip(parts, numbers.split(size), strict=True):
        scores = scores.add(rows, of_images.numpy(), None if maps is None else maps.numpy())
    return scores


def _scored(model: Method, batches: Iterable[Features[Tensor]]) -> Iterator[tuple[Tensor | None, Tensor]]:
    """Yield maps, if any, and image scores, batch by batch."""
    for batch in batches:
        found = model.score(batch)
        maps = None if found.maps is None else found.maps.float().cpu()
        if not all(torch.isfinite(part).all() for part in (found.images, maps) if part is not None):
            raise NfbenchError(f"method '{model.title}': the score of a held-out normal image is not finite")
        yield maps, found.images.float().cpu()


def save_normal(path: Path, normal: Mapping[str, NormalScores]) -> None:
    """Write scores by class."""
    arrays = {f"{name}/{key}": array for name, scores in normal.items() for key, array in scores.arrays().items()}
    save_state(path, {name: torch.from_numpy(array.copy()) for name, array in arrays.items()})


def load_normal(path: Path) -> dict[str, NormalScores]:
    """Read scores by class; see ``load_state``."""
    by_class: dict[str, dict[str, np.ndarray]] = {}
    for name, tensor in load_state(path).items():
        of_class, _, key = name.rpartition("/")
        by_class.setdefault(of_class, {})[key] = tensor.numpy()
    return {name: NormalScores.from_arrays(arrays) for name, arrays in by_class.items()}
