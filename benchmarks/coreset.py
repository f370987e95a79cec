"""Selection of PatchCore's coreset compared with anomalib's greedy k-centre, on the same points and start.

Made-up points are the sum of a map by position, coarse changes by image and noise, in correlated channels with
decreasing variance: 209 images of 32 x 32 positions by default. ``--features`` takes a folder of cached features
instead. Both sides get the same random projection to 128 dimensions. The radius is the largest distance of any point
to the coreset, in the original dimensions. anomalib runs the plain greedy algorithm; ``--peer-steps`` stops it after
a number of selections and extrapolates, since each of its selections takes the same time.
"""

import argparse
import time
from pathlib import Path

import torch
from torch.nn import functional

from nfbench.core.torchvision_guard import import_torchvision

import_torchvision()

from anomalib.models.components import KCenterGreedy

from nfbench.blocks.coreset import select_coreset
from nfbench.blocks.patches import PatchEmbedding
from nfbench.features.batches import read_batches
from nfbench.features.cache import FeatureCache
from nfbench.methods.patchcore import nearest_neighbors

SIDE = 32
PROJECTION = 128


def made_up(n_points, dim):
    """Generates redundant points ``(N, D)``, like the patches of images of one category."""
    generator = torch.Generator().manual_seed(0)

    def smooth_maps(count):
        coarse = torch.randn(count, dim, 8, 8, generator=generator)
        return functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic").flatten(2).mT

    n_images = -(-n_points // SIDE**2)
    by_position = smooth_maps(1)
    images = [
        by_position + 0.5 * smooth_maps(1) + 0.25 * torch.randn(1, SIDE**2, dim, generator=generator)
        for _ in range(n_images)
    ]
    scale = torch.arange(1, dim + 1).rsqrt()
    mixing = torch.linalg.qr(torch.randn(dim, dim, generator=generator)).Q
    return ((torch.cat(images).flatten(0, 1)[:n_points] * scale) @ mixing).contiguous()


def cached(folder):
    """Reads patches of cached features ``(N, D)``, in anomalib's form: averages over 3 x 3, all channels."""
    cache = FeatureCache(Path(folder) / "meta.json")
    embedding = PatchEmbedding(cache.shapes, 1, 1, "average")
    images = read_batches(cache.features, torch.arange(len(cache)), torch.device("cpu"))
    return torch.cat([embedding(features.levels).flatten(0, 1) for features in images])


def project(points):
    """Projects points to the dimensions in which both sides select."""
    dim = points.shape[1]
    if dim <= PROJECTION:
        return points
    return points @ torch.randn(dim, PROJECTION, generator=torch.Generator().manual_seed(1)) / PROJECTION**0.5


def peer_selection(projected, count, steps):
    """Returns anomalib's first ``steps`` indices from its own first point, and the seconds for them."""
    sampler = KCenterGreedy(projected[:, :, None], 1.0)  # a third axis turns its own projection off
    sampler.coreset_size = min(steps, count)
    torch.manual_seed(0)
    started = time.perf_counter()
    chosen = sampler.select_coreset_idxs()
    return torch.tensor(chosen), time.perf_counter() - started


def first_point(n_points):
    """Returns the point from which anomalib starts with the same seed."""
    torch.manual_seed(0)
    return int(torch.randint(high=n_points, size=(1,)))


def radius(points, chosen):
    """Returns the largest distance of a point to the selected ones."""
    return float(nearest_neighbors(points, points[chosen], 1)[0].max().sqrt())


def main():
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=209 * SIDE**2)
    parser.add_argument("--dimensions", type=int, default=152)
    parser.add_argument("--ratio", type=float, default=0.02)
    parser.add_argument("--features", help="folder of cached features, with its meta.json")
    parser.add_argument(
        "--peer-steps", type=int, help="extrapolate anomalib's time from this many selections; 0 skips it"
    )
    options = parser.parse_args()

    points = cached(options.features) if options.features else made_up(options.points, options.dimensions)
    projected = project(points)
    n_points, count = len(points), max(1, int(len(points) * options.ratio))
    print(
        f"coreset of {count} among {n_points} points, {points.shape[1]} dimensions, {projected.shape[1]} for the "
        f"selection, {torch.get_num_threads()} threads",
        flush=True,
    )
    started = time.perf_counter()
    ours = select_coreset(projected, count, first_point(n_points))
    seconds = time.perf_counter() - started
    print(f"ours     {seconds:7.1f} s, radius {radius(points, ours):.4f}", flush=True)
    steps = count if options.peer_steps is None else min(options.peer_steps, count)
    if not steps:
        return
    theirs, peer_seconds = peer_selection(projected, count, steps)
    alike = int((theirs == ours[:steps]).int().cumprod(0).sum())
    if steps < count:
        peer_seconds *= count / steps
        how, covers = f", extrapolated from {steps} of {count} selections", ""
    else:
        how, covers = "", f", radius {radius(points, theirs):.4f}"
    print(f"anomalib {peer_seconds:7.1f} s{how}{covers}")
    print(f"anomalib / ours {peer_seconds / seconds:.1f}{how}; the first {alike} of {steps} indices are the same")


if __name__ == "__main__":
    main()
