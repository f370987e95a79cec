"""Speed and memory of AUPIMO compared with anomalib's, on 60 maps of 900 x 900, each in a process of its own.

anomalib samples 300,000 thresholds; nfbench takes all of them. One thread.
"""

import multiprocessing
import time

import numpy as np
import torch

from benchmarks.segmentation import make_maps, memory
from nfbench.core.torchvision_guard import import_torchvision
from nfbench.metrics import aupimo


def _ours():
    maps, masks = make_maps(60, added=3.5)
    before, started = memory(), time.perf_counter()
    values = aupimo(maps, masks)
    return values, time.perf_counter() - started, memory() - before


def _anomalib():
    import_torchvision()
    from anomalib.metrics.pimo.functional import aupimo_scores

    torch.set_num_threads(1)
    maps, masks = (torch.from_numpy(array) for array in make_maps(60, added=3.5))
    masks = masks.int()
    before, started = memory(), time.perf_counter()
    values = aupimo_scores(maps, masks)[4].numpy()
    return values, time.perf_counter() - started, memory() - before


def main():
    """Measures both, one after the other, in two rounds, and checks that their values agree."""
    context = multiprocessing.get_context("spawn")
    for number in range(2):
        figures = []
        for function in (_ours, _anomalib):
            with context.Pool(1) as pool:
                figures.append(pool.apply(function))
        (values, ours, own_memory), (peer_values, peer, peer_memory) = figures
        np.testing.assert_allclose(values, peer_values, rtol=0.02)
        means = f"mean {np.nanmean(values):.4f} and {np.nanmean(peer_values):.4f}"
        print(
            f"AUPIMO, round {number + 1}: ours {ours:5.2f} s and {own_memory:4.2f} GiB, anomalib {peer:5.1f} s and "
            f"{peer_memory:4.1f} GiB, {peer / ours:.1f} x; {means}",
            flush=True,
        )


if __name__ == "__main__":
    main()
