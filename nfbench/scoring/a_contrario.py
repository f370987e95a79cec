"""A contrario segmentation: regions by their Number of False Alarms (U-Flow, Tailanian et al., section 3.4).

For each scale, the components of the upper level sets of ``u^2 = sum_c z_c^2`` form a tree. Under the background model,
independent standard normal latents, a component R whose smallest ``u^2`` is x is as rare as

    log10 PFA(R) = -|R| (C/2) (x/C - 1 - ln(x/C)) / ln 10        (Chernoff's bound of P(chi2_C >= x)^|R|, equation 7)

and ``NFA = N_T * PFA`` with N_T the number of 4-connected regions that could have been tested (equation 9).

Prune and merge, as the paper iterates them, have a closed form. Pruning keeps the rarest component of a branch, merging
replaces children by a parent that is at least as rare; so each leaf that remains carries the minimum M of its
whole subtree, and a subtree becomes one leaf exactly if no fork in it is less rare than the best of its children. What
is left are the largest such subtrees, each painted over the component that attains M: the innermost of a branch if
several do, a fork before its children. Three passes over the tree.

The bound holds for x > C only. Below C, equation 7 as published rates low energies as rare: ``chernoff_guard``
sets log PFA to 0 there.
"""

from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nfbench.core.deferred import deferred
from nfbench.metrics._inputs import as_array, check_maps

__all__ = ["Region", "energy", "log10_n_tests", "log_nfa", "log_nfa_of_energies", "log_pfa", "regions"]

_ALPHA, _BETA = 0.316915, 4.062570
"""Constants: the number of polyominoes of r cells is about ``alpha * beta^r / r``."""


class Region(NamedTuple):
    """A 4-connected region of the mask ``log10 NFA < threshold``; ``bottom`` and ``right`` lie outside."""

    area: int
    top: int
    left: int
    bottom: int
    right: int
    log_nfa: float


def log_nfa(latents: Sequence[Any], output_size: tuple[int, int], chernoff_guard: bool = False) -> np.ndarray:
    """Return the map of log10 NFA of one image; pixels below 0 (NFA < 1) are detected.

    Args:
        latents: ``(C_l, H_l, W_l)`` by scale, finest first, independent and standard normal under the background model.
        output_size: height and width of the map.
        chernoff_guard: take log PFA as 0 where the bound does not hold.

    Returns:
        ``(H, W)`` float64, at most ``log10_n_tests`` (equations 8 and 10).

    Raises:
        ValueError: no latents, a latent that does not have three axes, or NaN or infinity among the values.
    """
    arrays = [as_array(z).astype(np.float64) for z in latents]
    for z in arrays:
        if z.ndim != 3 or not z.size:
            raise ValueError(f"'latents' must have shape (C, H, W), none of them 0, got {z.shape}")
    energies = [energy(torch.from_numpy(z)[None])[0].numpy() for z in arrays]
    return log_nfa_of_energies(energies, [len(z) for z in arrays], output_size, chernoff_guard)


def log_nfa_of_energies(
    energies: Sequence[np.ndarray], channels: Sequence[int], output_size: tuple[int, int], chernoff_guard: bool = False
) -> np.ndarray:
    """Return ``log_nfa`` from the latents' energies ``(H_l, W_l)`` and their numbers of channels."""
    if not energies:
        raise ValueError("'latents' must have at least one scale")
    upsampled = [
        functional.interpolate(
            torch.from_numpy(log_pfa(u2, c, chernoff_guard))[None, None], output_size, mode="bilinear"
        )
        for u2, c in zip(energies, channels, strict=True)
    ]
    return torch.stack(upsampled).amin(0)[0, 0].numpy() + log10_n_tests(tuple(u2.shape for u2 in energies))


def energy(latents: Tensor) -> Tensor:
    """``u^2 = sum_c z_c^2`` (equation 5): ``(B, C, H, W)`` to ``(B, H, W)`` float64."""
    return latents.detach().double().square().sum(1).cpu()


@cache
def log10_n_tests(shapes: tuple[tuple[int, int], ...]) -> float:
    """Return log10 of the number of tests over scales of ``shapes`` (equation 9)."""
    terms = []
    for height, width in shapes:
        sizes = np.arange(1, height * width + 1)
        terms.append(np.log(height * width * _ALPHA / sizes) + sizes * np.log(_BETA))
    return float(np.logaddexp.reduce(np.concatenate(terms)) / np.log(10))


def log_pfa(u2: np.ndarray, channels: int, chernoff_guard: bool = False) -> np.ndarray:
    """log10 PFA of one scale: of the meaningful regions that survive pruning and merging, 0 elsewhere.

    Args:
        u2: energies ``(H, W)``, chi-square with ``channels`` degrees of freedom under the background model.
        channels: C.
        chernoff_guard: take log PFA as 0 where ``u2 <= C``.

    Returns:
        ``(H, W)`` float64.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    u2 = np.asarray(u2, dtype=np.float64)
    if not np.isfinite(u2).all():
        raise ValueError("'latents' must be finite, got NaN or infinity")
    higra = _higra()
    tree, levels = higra.component_tree_max_tree(_grid(u2.shape), u2)
    n_pixels = tree.num_leaves()
    parents = tree.parents()
    pfa = _log_pfa_of_components(levels, higra.attribute_area(tree), channels, chernoff_guard)
    pfa[:n_pixels] = np.inf  # single pixels are the leaves of the data structure, not components

    best = higra.accumulate_and_min_sequential(tree, pfa, pfa[:n_pixels], higra.Accumulators.min)
    best_below = higra.accumulate_parallel(tree, best, higra.Accumulators.min)
    n_children = np.bincount(parents[n_pixels:-1], minlength=len(parents))
    blocked = ((n_children > 1) & (pfa > best_below)).astype(np.float64)
    blocked = higra.accumulate_and_max_sequential(tree, blocked, blocked[:n_pixels], higra.Accumulators.max)
    painted = (blocked == 0) & ((n_children != 1) | (pfa < best_below))
    painted[:n_pixels] = False
    values = np.where(painted, best, 0.0)  # no log PFA is above 0
    values = higra.propagate_sequential_and_accumulate(tree, values, higra.Accumulators.min)
    return values[:n_pixels].reshape(u2.shape)


def regions(log_nfa_map: Any, threshold: float = 0.0) -> list[Region]:
    """Return the regions of the mask ``log10 NFA < threshold``, the most meaningful first.

    Raises:
        ValueError: the shape of the map is not ``(H, W)``, or it has NaN or infinity.
    """
    from scipy import ndimage

    (log_nfa_map,) = check_maps([log_nfa_map])
    labels, _ = ndimage.label(log_nfa_map < threshold)
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        inside = log_nfa_map[rows, columns][labels[rows, columns] == number]
        box = (rows.start, columns.start, rows.stop, columns.stop)
        found.append(Region(inside.size, *box, float(inside.min())))
    return sorted(found, key=lambda region: region.log_nfa)


def _log_pfa_of_components(levels: np.ndarray, areas: np.ndarray, channels: int, guard: bool) -> np.ndarray:
    """Equation 7; an energy of 0, whose bound is 0, is taken as the smallest positive number."""
    ratio = np.maximum(levels / channels, np.finfo(np.float64).tiny)
    pfa = -areas * (channels / 2) * (ratio - 1 - np.log(ratio)) / np.log(10)
    return np.where(ratio > 1, pfa, 0.0) if guard else pfa


@cache
def _grid(shape: tuple[int, int]) -> Any:
    """The 4-connected pixel graph of an image."""
    return _higra().get_4_adjacency_graph(shape)


def _higra() -> ModuleType:
    """Import higra on first use: only flows with normal latents need it."""
    with deferred("matplotlib", "matplotlib.pyplot", "matplotlib.collections", "scipy.cluster.hierarchy"):
        import higra
    return higra
