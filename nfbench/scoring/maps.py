"""Anomaly maps and image scores."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.maps import top_percent_mean
from nfbench.blocks.method import Method, Scores
from nfbench.core.errors import NfbenchError
from nfbench.features.batches import CachedFeatures, read_batches
from nfbench.metrics._tails import UpperTail
from nfbench.scoring.a_contrario import energy

__all__ = [
    "IMAGE_SCORES",
    "Localizer",
    "ScoredImages",
    "contour_threshold",
    "image_scores",
    "resize_map",
    "score_images",
]

_CONTOUR_SHARE = 0.001

IMAGE_SCORES = ("paper", "max", "mean", "top1")
"""Rules for the score of an image: the method's own, maximum, mean, and mean of the top 1 % of its map."""

Localizer = Callable[[Sequence[int]], Tensor]
"""Maps ``(B, H, W)`` of some images by their numbers, for methods that do not make them of features."""


class ScoredImages(NamedTuple):
    """What a method says of ``N`` images.

    Attributes:
        maps: ``(N, H, W)`` float32 at the method's size; None of a method that makes none.
        images: image scores ``(N,)`` by rule; without maps by that of the paper alone.
        energies: of the latents ``sum_c z_c^2`` by scale, ``(N, H_l, W_l)`` float64, finest first; none where the
            method has no latents that are standard normal.
        channels: number of channels by scale.
    """

    maps: np.ndarray | None
    images: dict[str, np.ndarray]
    energies: tuple[np.ndarray, ...] = ()
    channels: tuple[int, ...] = ()


@torch.inference_mode()
def score_images(
    method: Method,
    features: CachedFeatures,
    device: torch.device,
    indices: Sequence[int] | None = None,
    localize: Localizer | None = None,
) -> ScoredImages:
    """Scores cached images.

    Args:
        method: trained method on ``device``, in evaluation mode.
        features: cached features of ``N`` images.
        device: where to compute.
        indices: which images, by default all.
        localize: makes the maps where the method does not.

    Raises:
        NfbenchError: a score is NaN or infinite, and the message names the image's number; or has another shape.
    """
    chosen = torch.arange(len(features)) if indices is None else torch.as_tensor(indices)
    parts, maps, n_done = [], None, 0
    for batch in read_batches(features, chosen, device):
        part = _score(method, batch)
        if part.maps is not None:
            maps = torch.empty(len(chosen), *part.maps.shape[1:]) if maps is None else maps
            maps[n_done : n_done + len(part.maps)] = part.maps
        parts.append(part._replace(maps=None))
        n_done += len(part.images)
    if method.gradient_maps:
        if localize is None:
            raise ValueError(f"{method.title} makes its maps of images: 'localize' is missing")
        maps = localize(chosen.tolist()).float().cpu()
    paper = torch.cat([part.images for part in parts]).float()
    scales = [torch.cat(scale) for scale in zip(*(part.energies for part in parts), strict=True)]
    checked = (paper, *scales) if maps is None else (maps, paper, *scales)
    finite = [[torch.isfinite(image).all() for image in values] for values in checked]
    bad = ~torch.tensor(finite).all(0)
    if bad.any():
        raise NfbenchError(
            f"method '{method.title}': the scores of {int(bad.sum())} images are not finite, first image "
            f"{int(bad.nonzero()[0])}"
        )
    energies = tuple(scale.numpy() for scale in scales)
    shown = None if maps is None else maps.numpy()
    return ScoredImages(shown, image_scores(maps, paper), energies, parts[0].channels)


class _Part(NamedTuple):
    maps: Tensor | None
    images: Tensor
    energies: tuple[Tensor, ...]
    channels: tuple[int, ...]


def _score(method: Method, features: Features[Tensor]) -> _Part:
    """Scores one batch and leaves of its latents, which may be large, their energies."""
    scores, count = method.score(features), len(features)
    if not isinstance(scores, Scores):
        raise NfbenchError(f"method '{method.title}': 'score' must return Scores, got {type(scores).__name__}")
    _check_shape(method, "images", scores.images, (count,))
    if scores.maps is not None:
        _check_shape(method, "maps", scores.maps, (count, "H", "W"))
    latents = scores.latents or []
    for z in latents:
        _check_shape(method, "latents", z, (count, "C", "H", "W"))
    energies = tuple(energy(z) for z in latents)
    maps = None if scores.maps is None else scores.maps.float().cpu()
    return _Part(maps, scores.images.cpu(), energies, tuple(z.shape[1] for z in latents))


def _check_shape(method: Method, part: str, values: object, wanted: tuple[int | str, ...]) -> None:
    shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
    if not isinstance(values, Tensor) or values.ndim != len(wanted) or len(values) != wanted[0]:
        expected = ", ".join(map(str, wanted))
        raise NfbenchError(f"method '{method.title}': '{part}' of its Scores must be ({expected}), got {shape}")


def image_scores(maps: Tensor | None, paper: Tensor) -> dict[str, np.ndarray]:
    """Image scores ``(N,)`` by all rules, from maps ``(N, H, W)``, if any, and the method's own scores ``(N,)``."""
    if maps is None:
        return {"paper": paper.numpy()}
    flat = maps.flatten(1)
    scores = {"paper": paper, "max": flat.amax(1), "mean": flat.mean(1), "top1": top_percent_mean(maps)}
    return {rule: scores[rule].numpy() for rule in IMAGE_SCORES}


def contour_threshold(tail: UpperTail) -> float:
    """Threshold that one in a thousand pixels of maps of normal images exceeds; figures draw contours."""
    rank = _CONTOUR_SHARE * (tail.n_pixels - 1)
    above = int(rank)
    upper, lower = tail.values[above : above + 2].astype(float)[[0, -1]]  # as np.quantile, between two values
    return float(upper + (rank - above) * (lower - upper))


def resize_map(score_map: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize of one map ``(h, w)`` to ``(height, width)``, pixel centres aligned (``align_corners=False``)."""
    if score_map.shape == (height, width):
        return score_map
    resized = functional.interpolate(torch.from_numpy(score_map)[None, None], (height, width), mode="bilinear")
    return resized[0, 0].numpy()
