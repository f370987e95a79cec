"""How a method represents positions: the spread of each dimension, and where groups of positions lie."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nfbench.blocks.likelihood import position_mask
from nfbench.blocks.method import Method
from nfbench.features.batches import CachedFeatures, read_batches
from nfbench.scoring.likelihoods import Positions

__all__ = ["Representation", "describe_representations"]

_IMAGES = 40
_PER_IMAGE, _PER_GROUP = 32, 300

_Key = tuple[str, int]
"""Name of a representation, and a level."""


class Representation(NamedTuple):
    """A representation of positions at one level.

    Attributes:
        name: as the method calls it.
        level: its number, fine to coarse.
        deviations: standard deviation of each dimension over positions of normal training images, ``(C,)``.
        points: coordinates of some positions in the plane of their largest variance, ``(N, 2)``.
        shares: of the variance of these positions that lies along each axis of the plane, ``(2,)``.
        groups: group of each of these positions, ``(N,)``.
    """

    name: str
    level: int
    deviations: np.ndarray
    points: np.ndarray
    shares: np.ndarray
    groups: np.ndarray


@torch.inference_mode()
def describe_representations(
    method: Method, normal: CachedFeatures, groups: Sequence[Positions], device: torch.device
) -> list[Representation]:
    """Describe the representations of a method, level by level; empty for methods without any.

    Args:
        method: trained, on ``device``, in evaluation mode.
        normal: features of the normal training images; deviations are over all positions of at most 40 of them.
        groups: images whose positions are drawn; at most 32 of each image and 300 of each group, chosen at random.
        device: where to compute.
    """
    deviations = _deviations(method, normal, device)
    drawn = _drawn(method, groups, device) if deviations else {}
    return [Representation(*key, found, *_plane(drawn.get(key, {}))) for key, found in deviations.items()]


def _levels(method: Method, features: CachedFeatures, device: torch.device) -> Iterator[dict[_Key, Tensor]]:
    """Yield representations ``(B, C, H, W)``, batch by batch."""
    for batch in read_batches(features, torch.arange(len(features)), device):
        found = method.representations(batch).items()
        yield {(name, level): x for name, levels in found for level, x in enumerate(levels)}


def _deviations(method: Method, features: CachedFeatures, device: torch.device) -> dict[_Key, np.ndarray]:
    """Return the standard deviation of each dimension, ``(C,)``."""
    few = features[np.unique(np.linspace(0, len(features) - 1, _IMAGES).astype(int))]
    moments: dict[_Key, np.ndarray] = {}
    for batch in _levels(method, few, device):
        for key, x in batch.items():
            for image in x:  # in float64, which would take much memory for a batch
                flat = image.flatten(1).double()
                found = torch.stack([torch.full_like(flat[:, 0], flat.shape[1]), flat.sum(1), flat.square().sum(1)])
                moments[key] = moments.get(key, 0.0) + found.cpu().numpy()
    return {
        key: np.sqrt((squares / count - (total / count) ** 2).clip(0))
        for key, (count, total, squares) in moments.items()
    }


def _drawn(method: Method, groups: Sequence[Positions], device: torch.device) -> dict[_Key, dict[str, np.ndarray]]:
    """Return the representations of chosen positions ``(N, C)``, by group."""
    rng = np.random.default_rng(0)
    found: dict[_Key, dict[str, list[np.ndarray]]] = {}
    for part in groups:
        masks, done = torch.from_numpy(np.array(part.masks)).float(), 0
        for batch in _levels(method, part.features, device):
            for key, x in batch.items():
                anomalous = position_mask(masks[done : done + len(x)], x.shape[2:]).flatten(1).numpy()
                for image, marked in zip(x.flatten(2), anomalous, strict=True):
                    for group, is_in in zip(part.groups, (~marked, marked), strict=True):
                        chosen = rng.permutation(np.flatnonzero(is_in))[:_PER_IMAGE]
                        if group is not None and len(chosen):
                            values = image[:, torch.from_numpy(chosen).to(image.device)].T.cpu().numpy()
                            found.setdefault(key, {}).setdefault(group, []).append(values)
            done += len(x)
    joined = {key: {group: np.concatenate(values) for group, values in of.items()} for key, of in found.items()}
    return {
        key: {group: rng.permutation(values)[:_PER_GROUP] for group, values in of.items()} for key, of in joined.items()
    }


def _plane(drawn: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points ``(N, 2)`` in the plane of largest variance, the shares of its axes ``(2,)``, and groups ``(N,)``.

    The sign of each axis makes its largest entry positive, so equal positions give equal planes.
    """
    points, shares = np.zeros((sum(map(len, drawn.values())), 2)), np.zeros(2)
    if len(points) > 1:
        values = np.concatenate(list(drawn.values())).astype(np.float64)
        left, sizes, axes = np.linalg.svd(values - values.mean(0), full_matrices=False)
        signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
        kept = min(2, len(sizes))
        points[:, :kept] = (left * sizes * signs)[:, :kept]
        shares[:kept] = (sizes**2 / max((sizes**2).sum(), np.finfo(float).tiny))[:kept]
    return points, shares, np.repeat(list(drawn), list(map(len, drawn.values()))).astype(str)
