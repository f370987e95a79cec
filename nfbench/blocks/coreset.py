"""Greedy k-centre selection of a coreset, exact but with lazily updated distances.

Each step selects the point farthest from all points selected before. The plain loop computes the distance of every
point to every centre, one centre at a time. Here, each point keeps the last distance computed for it, which is an upper
bound. The points with the largest bounds form a pool. One matrix product updates the pool, and the plain loop runs
inside the pool as long as its farthest point exceeds the largest bound outside. The selection is the same.

Arithmetic: points are rounded to fixed-point numbers relative to the first point, with the most bits (22 for 128
    dimensions; float32 has 24) that keep every sum of products below 2^53. Squared distances in float64 are then exact
    in any order of summation: duplicates have distance 0, equal distances compare equal, and neither the pool, the
    shape of a matrix product, the number of threads nor the device changes the selection. Among equally far points, the
    first in order is selected. No point is selected twice.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from nfbench.core.errors import NfbenchError
from nfbench.core.progress import progress

__all__ = ["select_coreset"]

_ROWS, _COLUMNS = 4096, 512  # of a matrix product: large blocks are fast, small blocks skip more
_SELECTED, _NOBODY = -1.0, -2.0


@torch.no_grad()
def select_coreset(points: Tensor, count: int, start: int | Tensor = 0, pool_size: int = 8192) -> Tensor:
    """Indices of a greedy k-centre coreset, in the order of selection.

    Args:
        points: ``(N, D)``.
        count: number of points to select, 1 to N.
        start: index of the first centre; or indices ``(K,)`` of anchor points. The distance of a point is then at most
            its mean distance to the anchors, which need not be selected.
        pool_size: number of points updated at a time; it affects speed only.

    Returns:
        ``(count,)`` int64, all different, on the device of ``points``.

    Raises:
        NfbenchError: a value is NaN or infinite.
    """
    if not 1 <= count <= len(points):
        raise ValueError(f"'count' must be 1 to {len(points)}, the number of points, got {count}")
    if not torch.isfinite(points).all():
        raise NfbenchError("cannot select a coreset: the features contain NaN or infinity")
    selection = _FarthestFirst(points, count, start, pool_size)
    for _ in progress(selection.select(), total=count, label="coreset"):
        pass
    return selection.centres


class _FarthestFirst:
    """State of a selection.

    Attributes:
        centres: indices of the centres; ``n_centres`` of them are selected.
        bounds: upper bound of each point's squared distance to the centres, ``(N,)``.
        seen: number of centres, in order of selection, that each bound includes, ``(N,)``.
    """

    def __init__(self, points: Tensor, count: int, start: int | Tensor, pool_size: int) -> None:
        self.points = _fixed_point(points)
        self.norms = self.points.square().sum(1)
        self.pool_size = min(pool_size, len(points))
        self.centres = torch.empty(count, dtype=torch.long, device=points.device)
        self.n_centres = 0
        self.seen = torch.zeros(len(points), dtype=torch.long, device=points.device)
        self.bounds = torch.full_like(self.norms, torch.inf)
        if isinstance(start, int):
            self.first = start
        else:
            self.bounds = self._mean_distance(start).square()
            self.first = int(self.bounds.argmax())

    def select(self) -> Iterator[int]:
        """Select and yield indices one at a time."""
        self.bounds[self.first] = _SELECTED
        yield self._add(self.first)
        while self.n_centres < len(self.centres):
            pool, rival = self._pool()
            floor = float(self.bounds[rival]) if len(pool) < len(self.points) else _NOBODY
            yield from self._select_from(self._refresh(pool, floor), floor, rival)

    def _pool(self) -> tuple[Tensor, int]:
        """Return the points with the largest bounds, in order of index, and the first point outside."""
        threshold = self.bounds.topk(self.pool_size, sorted=False).values.min()
        above = (self.bounds > threshold).nonzero()[:, 0]
        level = (self.bounds == threshold).nonzero()[: self.pool_size - len(above), 0]
        pool = torch.cat([above, level]).sort().values
        return pool, int(self.bounds.index_fill(0, pool, _NOBODY).argmax())

    def _refresh(self, pool: Tensor, floor: float) -> Tensor:
        """Update the bounds of a pool; return its points not below ``floor``, in order of index.

        The other points cannot be selected before the next pool is formed, so their updates stop early.
        """
        oldest_first = pool[self.seen[pool].argsort()]
        for block in oldest_first.split(_ROWS):
            rows, done = block, int(self.seen[block[0]])
            while done < self.n_centres and len(rows):
                centres = self.centres[done : min(done + _COLUMNS, self.n_centres)]
                done += len(centres)
                distances = self._squared_distances(rows, centres).amin(1)
                self.bounds[rows] = torch.minimum(self.bounds[rows], distances)
                self.seen[rows] = self.seen[rows].clamp_min(done)
                rows = rows[self.bounds[rows] >= floor]
        return pool[self.bounds[pool] >= floor]

    def _select_from(self, pool: Tensor, floor: float, rival: int) -> Iterator[int]:
        """Run the plain loop on points with exact bounds until the point ``rival`` outside may be the next centre.

        Points below ``floor`` are never the farthest; they are dropped once they are the majority.
        """
        points, norms, bounds = self.points[pool], self.norms[pool], self.bounds[pool]
        while self.n_centres < len(self.centres) and len(pool):
            best = int(bounds.argmax())  # the first of equal values
            farthest, index = float(bounds[best]), int(pool[best])
            if farthest == floor and index > rival:
                break
            yield self._add(index)
            distances = torch.addmv(norms, points, points[best], alpha=-2).add_(norms[best])
            bounds = torch.minimum(bounds, distances)
            bounds[best] = _SELECTED
            able = bounds >= floor
            if 2 * int(able.sum()) < len(pool):
                self._keep(pool, bounds)
                pool, points, norms, bounds = pool[able], points[able], norms[able], bounds[able]
        self._keep(pool, bounds)

    def _keep(self, pool: Tensor, bounds: Tensor) -> None:
        self.bounds[pool] = bounds
        self.seen[pool] = self.n_centres

    def _add(self, index: int) -> int:
        self.centres[self.n_centres] = index
        self.n_centres += 1
        return index

    def _squared_distances(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Exact squared distances, ``(rows, columns)``."""
        products = torch.addmm(self.norms[columns], self.points[rows], self.points[columns].T, alpha=-2)
        return products.add_(self.norms[rows, None])

    def _mean_distance(self, anchors: Tensor) -> Tensor:
        """Mean distance of each point to the points ``anchors``, summed in their order, ``(N,)``."""
        total = torch.zeros_like(self.norms)
        for anchor in anchors.tolist():
            squared = torch.addmv(self.norms, self.points, self.points[anchor], alpha=-2).add_(self.norms[anchor])
            total += squared.sqrt()
        return total / len(anchors)


def _fixed_point(points: Tensor) -> Tensor:
    """Points relative to the first as integers in float64, scaled by a power of two."""
    bits = (51 - math.ceil(math.log2(points.shape[1]))) // 2  # 4 * D * 2^(2 * bits) stays below 2^53
    relative = points.double() - points[0].double()
    _, exponent = math.frexp(float(relative.abs().max()))
    return relative.mul_(2.0 ** (bits - exponent)).round_()
