"""Anomaly maps and image scores."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.maps import top_percent_mean
from nfbench.blocks.method import Method, Scores
from nfbench.core import scratch
from nfbench.core.errors import NfbenchError
from nfbench.core.progress import progress
from nfbench.features.batches import BATCH, CachedFeatures, read_batches
from nfbench.features.extractor import filled_up
from nfbench.metrics._tails import NormalScores
from nfbench.scoring.a_contrario import energy, log_nfa_of_energies
from nfbench.scoring.stitching import merge_tiles

__all__ = [
    "IMAGE_SCORES",
    "Localizer",
    "NormalImages",
    "ScoredImages",
    "image_scores",
    "resize_map",
    "score_images",
    "score_normal",
]

IMAGE_SCORES = ("paper", "max", "mean", "top1")
"""Rules for the score of an image: the method's own, maximum, mean, and mean of the top 1 % of its map."""

Localizer = Callable[[Sequence[int]], Tensor]
"""Maps ``(B, H, W)`` of images by number, for methods that do not compute them from features."""


class ScoredImages(NamedTuple):
    """A method's scores of ``N`` images. Arrays may be mapped from files, see ``nfbench.core.scratch``.

    Attributes:
        maps: ``(N, H, W)`` float32 at the method's size, or merged from the maps of tiles; None for a method without
            maps.
        images: image scores ``(N,)`` by rule; without maps, by the paper's rule only.
        energies: of the latents ``sum_c z_c^2`` by scale, ``(N, H_l, W_l)`` float64, finest first; none where the
            method has no latents that are standard normal, and none of tiles.
        channels: number of channels by scale.
    """

    maps: np.ndarray | None
    images: dict[str, np.ndarray]
    energies: tuple[np.ndarray, ...] = ()
    channels: tuple[int, ...] = ()


class NormalImages(NamedTuple):
    """Scores of normal images that are kept.

    Attributes:
        scores: statistics for thresholds, of the images that count.
        energies: of all images, as in ``ScoredImages``.
    """

    scores: NormalScores
    energies: tuple[np.ndarray, ...]


@torch.inference_mode()
def score_images(
    method: Method,
    features: CachedFeatures,
    device: torch.device,
    indices: Sequence[int] | None = None,
    localize: Localizer | None = None,
    folder: Path | None = None,
    batch_size: int = BATCH,
) -> ScoredImages:
    """Score cached images.

    Args:
        method: trained method on ``device``, in evaluation mode.
        features: cached features of ``N`` images.
        device: where to compute.
        indices: which images, by default all.
        localize: computes the maps of rows (images or tiles) if the method does not.
        folder: for files of arrays too large for memory; see ``nfbench.core.scratch.empty``.
        batch_size: images at once, on which the last bits of scores depend.

    Raises:
        NfbenchError: a score is NaN or infinite, and the message names the image's number; or has another shape.
    """
    chosen = torch.arange(features.n_images) if indices is None else torch.as_tensor(indices)
    kept, channels = _Kept(len(chosen), folder), tuple[int, ...]()
    for first, part in _scored(method, features, chosen, device, localize, batch_size):
        kept.write(first, {"paper": part.images, **({} if part.maps is None else {"maps": part.maps})})
        kept.write(first, dict(enumerate(part.energies)))
        channels = part.channels
    maps, paper = kept.arrays.get("maps"), torch.from_numpy(kept.arrays["paper"])
    return ScoredImages(maps, _by_rule(maps, paper), kept.energies, channels)


@torch.inference_mode()
def score_normal(
    method: Method,
    features: CachedFeatures,
    device: torch.device,
    held_out: Sequence[int] = (),
    localize: Localizer | None = None,
    folder: Path | None = None,
) -> NormalImages:
    """Score cached normal images, and keep the statistics that thresholds need.

    Args:
        method: as for ``score_images``, and so are all but ``held_out``.
        features: of the normal images.
        device: where to compute.
        held_out: rows of the images that count, by default all.
        localize: computes the maps if the method does not.
        folder: of files.

    Raises:
        NfbenchError: as ``score_images``.
    """
    chosen = torch.arange(features.n_images)
    counts = np.isin(chosen, list(held_out)) if len(held_out) else np.ones(len(chosen), dtype=bool)
    kept, scores = _Kept(len(chosen), folder), NormalScores.of(int(counts.sum()))
    for first, part in _scored(method, features, chosen, device, localize):
        kept.write(first, dict(enumerate(part.energies)))
        counted = first + np.flatnonzero(counts[first : first + len(part.images)])
        if len(counted):
            maps = None if part.maps is None else part.maps.numpy()[counted - first]
            scores = scores.add(counted, part.images.numpy()[counted - first], maps)
    return NormalImages(scores, kept.energies)


class _Part(NamedTuple):
    maps: Tensor | None
    images: Tensor
    energies: tuple[Tensor, ...]
    channels: tuple[int, ...]


class _Kept:
    """Values of all images by name (energies by scale), filled batch by batch."""

    def __init__(self, count: int, folder: Path | None) -> None:
        self.count, self.folder = count, folder
        self.arrays: dict[str | int, np.ndarray] = {}

    @property
    def energies(self) -> tuple[np.ndarray, ...]:
        """Of all scales."""
        return tuple(array for key, array in self.arrays.items() if isinstance(key, int))

    def write(self, first: int, values: Mapping[str, Tensor] | Mapping[int, Tensor]) -> None:
        """Store the values of the images from number ``first`` on."""
        for key, of_part in values.items():
            rows = of_part.numpy()
            if key not in self.arrays:
                self.arrays[key] = scratch.empty((self.count, *rows.shape[1:]), rows.dtype, self.folder)
            self.arrays[key][first : first + len(rows)] = rows
            scratch.release(self.arrays[key])


def _scored(
    method: Method,
    features: CachedFeatures,
    chosen: Tensor,
    device: torch.device,
    localize: Localizer | None,
    batch_size: int = BATCH,
) -> Iterator[tuple[int, _Part]]:
    """Yield scores batch by batch, or image by image where these have tiles, with the number of the first image."""
    rows = torch.as_tensor(features.rows(chosen), dtype=torch.long)
    by_row = _by_row(method, features, rows, device, localize, batch_size)
    if features.tiling is None:
        yield from by_row
        return
    parts = ((part.maps, part.images) for _, part in by_row)
    for number, (maps, images) in enumerate(merge_tiles(parts, features.tiling.select(chosen), method)):
        yield number, _Part(maps, images, (), ())


def _by_row(
    method: Method,
    features: CachedFeatures,
    chosen: Tensor,
    device: torch.device,
    localize: Localizer | None,
    batch_size: int,
) -> Iterator[tuple[int, _Part]]:
    """Yield scores of rows batch by batch, with the number of the first row; see ``score_images``."""
    if method.gradient_maps and localize is None:
        raise ValueError(f"{method.title} makes its maps of images: 'localize' is missing")
    bad: list[bool] = []
    numbers = chosen.split(batch_size)
    batches = read_batches(features, chosen, device, batch_size)
    if method.gradient_maps:
        batches = progress(batches, total=len(numbers), label="gradients")
    for of_batch, batch in zip(numbers, batches, strict=True):
        part = _score(method, batch, batch_size)
        if method.gradient_maps and localize:
            part = part._replace(maps=localize(of_batch.tolist()).float().cpu())
        values = [part.images, *part.energies, *([] if part.maps is None else [part.maps])]
        finite = [torch.isfinite(of_images).reshape(len(of_images), -1).all(1) for of_images in values]
        yield len(bad), part
        bad += (~torch.stack(finite).all(0)).tolist()
    if any(bad):
        what = "images" if features.tiling is None else "tiles"
        raise NfbenchError(
            f"method '{method.title}': the scores of {sum(bad)} {what} are not finite, first {what[:-1]} "
            f"{bad.index(True)}"
        )


def _by_rule(maps: np.ndarray | None, paper: Tensor) -> dict[str, np.ndarray]:
    """As ``image_scores``, part by part."""
    if maps is None:
        return image_scores(None, paper)
    found, n_done = [], 0
    for part in scratch.parts(maps):
        found.append(image_scores(torch.from_numpy(part), paper[n_done : n_done + len(part)]))
        n_done += len(part)
    return {rule: np.concatenate([scores[rule] for scores in found]) for rule in IMAGE_SCORES}


def _score(method: Method, features: Features[Tensor], count: int) -> _Part:
    """Score one batch, and reduce its latents, which may be large, to their energies.

    All batches have one size, so that no bit of an image's score depends on which images are scored with it.
    """
    scores = method.score(features.map(lambda part: filled_up(part, count)))
    if not isinstance(scores, Scores):
        raise NfbenchError(f"method '{method.title}': 'score' must return Scores, got {type(scores).__name__}")
    _check_shape(method, "images", scores.images, (count,))
    if scores.maps is not None:
        _check_shape(method, "maps", scores.maps, (count, "H", "W"))
    latents = scores.latents or []
    for z in latents:
        _check_shape(method, "latents", z, (count, "C", "H", "W"))
    own = slice(len(features))
    energies = tuple(energy(z[own]) for z in latents)
    maps = None if scores.maps is None else scores.maps[own].float().cpu()
    return _Part(maps, scores.images[own].float().cpu(), energies, tuple(z.shape[1] for z in latents))


def _check_shape(method: Method, part: str, values: object, wanted: tuple[int | str, ...]) -> None:
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if not isinstance(values, Tensor) or values.ndim != len(wanted) or len(values) != wanted[0]:
        expected = ", ".join(map(str, wanted))
        raise NfbenchError(f"method '{method.title}': '{part}' of its Scores must be ({expected}), got {shape}")


def image_scores(maps: Tensor | None, paper: Tensor) -> dict[str, np.ndarray]:
    """Return image scores ``(N,)`` by all rules, from maps ``(N, H, W)``, if any, and the method's own."""
    if maps is None:
        return {"paper": paper.numpy()}
    flat = maps.flatten(1)
    scores = {"paper": paper, "max": flat.amax(1), "mean": flat.mean(1), "top1": top_percent_mean(maps)}
    return {rule: scores[rule].numpy() for rule in IMAGE_SCORES}


def resize_map(score_map: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize of one map ``(h, w)`` to ``(height, width)``, pixel centres aligned (``align_corners=False``)."""
    if score_map.shape == (height, width):
        return score_map
    values = torch.from_numpy(np.require(score_map, requirements="W"))  # torch warns about read-only maps
    resized = functional.interpolate(values[None, None], (height, width), mode="bilinear")
    return resized[0, 0].numpy()


def log_nfa_maps(scored: ScoredImages, folder: Path | None = None) -> dict[str, np.ndarray]:
    """Maps of log10 NFA at the size of the anomaly maps, ``(N, H, W)`` float32; ``folder`` as for ``scratch.empty``.

    Returns:
        ``nfa`` as published and ``nfa_guard`` with the guard; nothing where the method has no standard normal latents.
    """
    if not scored.energies or scored.maps is None:
        return {}
    shape = scored.maps.shape
    found = {name: scratch.empty(shape, np.float32, folder) for name in ("nfa", "nfa_guard")}
    for row, image in enumerate(zip(*map(scratch.walk, scored.energies), strict=True)):
        for name, maps in found.items():
            maps[row] = log_nfa_of_energies(image, scored.channels, shape[1:], name == "nfa_guard")
            scratch.release(maps)
    return found
