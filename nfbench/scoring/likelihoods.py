"""Histograms of the log-likelihoods of positions: normal, anomalous and pseudo-anomalous ones."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from nfbench.blocks.likelihood import position_mask
from nfbench.blocks.method import Method
from nfbench.config.tiles import Window
from nfbench.datasets._manifest import Entry, read_checked_mask
from nfbench.features.batches import CachedFeatures, read_batches

__all__ = ["Positions", "likelihood_histograms", "positions_of_test"]

_IMAGES = 40
_BINS = 60
_QUANTILES = (0.002, 0.998)


class Positions(NamedTuple):
    """Images and which of their pixels are anomalous.

    Attributes:
        features: of ``N`` images or tiles.
        masks: ``(N, H, W)``, above 0 where anomalous.
        groups: names of the positions without and with anomaly; None leaves them out.
    """

    features: CachedFeatures
    masks: np.ndarray
    groups: tuple[str | None, str]


def positions_of_test(features: CachedFeatures, entries: Sequence[Entry], size: tuple[int, int]) -> Positions:
    """Return at most 40 evenly spaced test images, with masks of height and width ``size`` by the nearest pixel."""
    chosen = np.unique(np.linspace(0, len(entries) - 1, _IMAGES).astype(int))
    found = features.select(chosen)
    masks: list[np.ndarray] = []
    for number, index in enumerate(chosen):
        windows = [None] if found.tiling is None else found.tiling.windows(number)
        mask = Image.fromarray(read_checked_mask(entries[index]).astype(np.uint8)) if entries[index].mask else None
        masks += [_resized(mask, window, size) for window in windows]
    return Positions(found, np.stack(masks), ("normal", "anomalous"))


def _resized(mask: Image.Image | None, window: Window | None, size: tuple[int, int]) -> np.ndarray:
    """Return a mask, or the part of it in a window, with height and width ``size``; zeros without a mask."""
    if mask is None:
        return np.zeros(size, np.uint8)
    if window is not None:
        mask = mask.crop(window.box)
    return np.array(mask.resize(size[::-1], Image.Resampling.NEAREST))


@torch.inference_mode()
def likelihood_histograms(
    method: Method, images: Sequence[Positions], device: torch.device
) -> Iterator[tuple[int, str, float, float, float]]:
    """Yield histograms of the positions' log-likelihoods in nats per dimension, by level and group.

    Yields nothing for methods without likelihoods of positions.

    Yields:
        Level, fine to coarse, group, left and right end of a bin, and the group's share of positions in it; the outer
        bins take what lies beyond them. All groups of a level have the same bins.
    """
    for level, groups in enumerate(_by_level(method, images, device)):
        if not groups:
            continue
        everything = np.concatenate(list(groups.values()))
        edges = np.histogram_bin_edges(everything, _BINS, tuple(np.quantile(everything, _QUANTILES)))
        for group, values in groups.items():
            counts, _ = np.histogram(values.clip(edges[0], edges[-1]), edges)
            for left, right, count in zip(edges[:-1], edges[1:], counts, strict=True):
                yield level, group, float(left), float(right), float(count / len(values))


def _by_level(method: Method, images: Sequence[Positions], device: torch.device) -> list[Mapping[str, np.ndarray]]:
    found: list[dict[str, list[np.ndarray]]] = [{} for _ in method.shapes]
    for part in images:
        masks = torch.from_numpy(np.array(part.masks)).float().split(16)
        batches = read_batches(part.features, torch.arange(len(part.masks)), device)
        for features, mask in zip(batches, masks, strict=True):
            for level, (_, values) in enumerate(method.position_log_likelihoods(features) or ()):
                anomalous = position_mask(mask, values.shape[1:])
                for group, chosen in zip(part.groups, (~anomalous, anomalous), strict=True):
                    if group is not None:
                        found[level].setdefault(group, []).append(values.cpu()[chosen].double().numpy())
    joined = [{group: np.concatenate(values) for group, values in groups.items()} for groups in found]
    return [{group: values for group, values in groups.items() if len(values)} for groups in joined]
