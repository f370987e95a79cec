"""Speed and memory of a contrario segmentation and of exact metrics.

(a) log NFA of one image compared with a tree as in U-Flow's code: a networkx graph with one node per component, which
holds the list of its pixels. The peer follows the published description. For the official code, 4 to 10 s for 112 +
56 + 28 and 0.04 to 0.15 s for 28 + 14 positions per side are quoted. One thread. (b) AUPRO, and AUPRO with AUROC, AP
and F1 from the same sort, compared with anomalib's, on 100 maps of 900 x 900, with the memory of each beyond its
input, in its own process.
"""

import multiprocessing
import resource
import time

import networkx as nx
import numpy as np
import torch
from skimage.morphology import max_tree

from nfbench.core.torchvision_guard import import_torchvision
from nfbench.metrics import pixel_areas
from nfbench.scoring.a_contrario import log_nfa, log_pfa

SHAPES = {
    "112 + 56 + 28": ((64, 112, 112), (128, 56, 56), (256, 28, 28)),
    "28 + 14": ((816, 28, 28), (192, 14, 14)),
}


def peer_log_pfa(u2, channels):
    """Prunes and merges a networkx tree; equals ``log_pfa`` of nfbench, which needs three passes."""
    parents, order = max_tree(u2, connectivity=1)
    parents, values = parents.ravel(), u2.ravel()
    tree = nx.DiGraph()
    for pixel in order[::-1]:
        parent = int(parents[pixel])
        if pixel == order[0] or values[parent] != values[pixel]:
            tree.add_node(int(pixel), pixels=[])
    canonical = {int(p): int(p) if int(p) in tree else int(parents[p]) for p in range(values.size)}
    for pixel, node in canonical.items():
        tree.nodes[node]["pixels"].append(pixel)
    root = canonical[int(order[0])]
    for node in list(tree):
        if node != root:
            tree.add_edge(node, canonical[int(parents[node])])
    for node in nx.topological_sort(tree):
        for parent in tree.successors(node):
            tree.nodes[parent]["pixels"] = tree.nodes[parent]["pixels"] + tree.nodes[node]["pixels"]
        pixels = tree.nodes[node]["pixels"]
        ratio = values[pixels].min() / channels
        tree.nodes[node]["pfa"] = -len(pixels) * (channels / 2) * (ratio - 1 - np.log(ratio)) / np.log(10)
    while _prune(tree) + _merge(tree):
        pass
    result = np.zeros(values.size)
    for node in tree:
        if tree.in_degree(node) == 0:
            result[tree.nodes[node]["pixels"]] = tree.nodes[node]["pfa"]
    return result.reshape(u2.shape)


def _prune(tree):
    removed = 0
    for leaf in [node for node in tree if tree.in_degree(node) == 0]:
        branch = [leaf]
        while (above := list(tree.successors(branch[-1]))) and tree.in_degree(above[0]) == 1:
            branch.append(above[0])
        best = min(branch, key=lambda node: tree.nodes[node]["pfa"])
        for parent in list(tree.successors(branch[-1])):
            tree.add_edge(best, parent)
        tree.remove_nodes_from([node for node in branch if node != best])
        removed += len(branch) - 1
    return removed


def _merge(tree):
    removed = 0
    for node in [node for node in tree if tree.in_degree(node) > 1]:
        children = list(tree.predecessors(node))
        rarest = min(tree.nodes[child]["pfa"] for child in children)
        if all(tree.in_degree(child) == 0 for child in children) and tree.nodes[node]["pfa"] <= rarest:
            tree.remove_nodes_from(children)
            removed += len(children)
    return removed


def nfa():
    """Measures log NFA on noise with a spot; both sides give the same map."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for name, shapes in SHAPES.items():
        latents = [rng.standard_normal(shape) for shape in shapes]
        for z in latents:
            z[:, : z.shape[1] // 4, : z.shape[2] // 4] *= 1.5
        log_nfa(latents, (256, 256))
        started = time.perf_counter()
        for _ in range(20):
            log_nfa(latents, (256, 256))
        ours = (time.perf_counter() - started) / 20
        started = time.perf_counter()
        peers = [peer_log_pfa(np.square(z).sum(0), len(z)) for z in latents]
        peer = time.perf_counter() - started

        for z, found in zip(latents, peers, strict=True):
            np.testing.assert_allclose(log_pfa(np.square(z).sum(0), len(z)), found, rtol=1e-9)
        print(
            f"log NFA, {name:<13} ours {1e3 * ours:6.1f} ms, networkx tree {peer:5.2f} s, {peer / ours:5.0f} x",
            flush=True,
        )


def make_maps(count=100, side=900, added=2.0):
    """Maps of noise ``(N, H, W)`` and their masks; every second image has three defects, where scores are higher."""
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((count, side, side), dtype=np.float32)
    masks = np.zeros((count, side, side), dtype=bool)
    for mask in masks[::2]:
        for top, left in rng.integers(0, side - 100, (3, 2)):
            mask[top : top + 60, left : left + 80] = True
    maps[masks] += added
    return maps, masks


def _ours(metric):
    maps, masks = make_maps()
    before, started = memory(), time.perf_counter()
    areas = pixel_areas(maps, masks)
    values = [*areas.aupro] if metric == "aupro" else [areas.auroc, areas.average_precision, *areas.aupro]
    return values, time.perf_counter() - started, memory() - before


def _anomalib(metric):
    import_torchvision()
    from anomalib.metrics.aupro import _AUPRO
    from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

    maps, masks = (torch.from_numpy(array) for array in make_maps())
    masks = masks.int()
    before, started = memory(), time.perf_counter()
    metrics = [_AUPRO()] if metric == "aupro" else [_AUPRO(), BinaryAUROC(), BinaryAveragePrecision()]
    values = []
    for one in metrics:
        one.update(maps, masks)
        values.append(float(one.compute()))
    return values, time.perf_counter() - started, memory() - before


def memory():
    """Peak memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def ranking():
    """Measures speed and memory of the ranking metrics, each in a new process."""
    context = multiprocessing.get_context("spawn")
    for metric in ("aupro", "all"):  # nfbench always computes all of them
        figures = []
        for function in (_ours, _anomalib):
            with context.Pool(1) as pool:
                figures.append(pool.apply(function, (metric,)))
        (value, ours, memory), (peer_value, peer, peer_memory) = figures
        np.testing.assert_allclose(np.sort(value), np.sort(peer_value), atol=1e-4)
        name = "AUPRO" if metric == "aupro" else "AUPRO, AUROC and AP"
        print(
            f"{name:<20} ours {ours:5.1f} s and {memory:4.1f} GiB, anomalib {peer:5.1f} s and {peer_memory:4.1f} GiB, "
            f"{peer / ours:.2f} x",
            flush=True,
        )


if __name__ == "__main__":
    nfa()
    ranking()
