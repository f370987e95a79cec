"""Speed of online work of a training with one and two threads: rotated images and SANFlow's blends.

Batches of 16 are generated from PNG images of 900 x 900 pixels and passed through ResNet-18 at 256 pixels, without
training steps. Rounds alternate, and the best of each counts. Two threads need two free cores: the first line says
how many cores two independent processes of plain arithmetic get from the machine.
"""

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch

from benchmarks.extraction import make_images
from nfbench.anomalies._base import make_generator
from nfbench.blocks.features import Features
from nfbench.config import AnomaliesConfig, BackboneConfig
from nfbench.features.forward import load_recipe
from nfbench.features.online import OnlineFeatures, RandomRotations, pseudo_anomalies
from nfbench.training.data import TrainingData

SIZE, BATCH = 256, 16


def epoch_seconds(data, threads, epoch):
    """Returns wall seconds and core seconds for the batches of an epoch."""
    torch.set_num_threads(threads)
    clock, cores = time.perf_counter(), time.process_time()
    for _ in data.batches(epoch, BATCH, False):
        pass
    return time.perf_counter() - clock, time.process_time() - cores


def _arithmetic(_):
    started = time.perf_counter()
    sum(number * number for number in range(4_000_000))
    return time.perf_counter() - started


def cores_at_hand():
    """Returns the number of cores that two processes get: 2 on an idle machine."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        alone, both = max(pool.map(_arithmetic, range(1))), max(pool.map(_arithmetic, range(2)))
    return 2 * alone / both


def main(count=32, rounds=4):
    """Runs the comparison."""
    cpu = torch.device("cpu")
    print(f"online work, {count} images, best of {rounds} rounds; two processes get {cores_at_hand():.2f} cores")
    with tempfile.TemporaryDirectory() as folder:
        entries = make_images(folder, count + 1)
        train = [entry for entry in entries if entry.split == "train"]
        recipe, _ = load_recipe(BackboneConfig(name="resnet18.tv_in1k", weights="random"))
        generator, _ = make_generator(AnomaliesConfig(generator="blend", online=True), entries, 0, SIZE)
        for name, draw in (
            ("rotations", RandomRotations(train, SIZE, 10.0, None)),
            ("blends", pseudo_anomalies([generator])),
        ):
            unread = Features([np.zeros((count, 1))])
            data = TrainingData(unread, 0, 0, cpu, OnlineFeatures(draw, count, recipe, cpu))
            found = {1: [], 2: []}
            for epoch in range(rounds):
                for threads, seconds in found.items():
                    seconds.append(epoch_seconds(data, threads, epoch))
            (one, one_cores), (two, two_cores) = (map(min, zip(*seconds, strict=True)) for seconds in found.values())
            used = " and ".join(f"{1000 * cores / count:.0f}" for cores in (one_cores, two_cores))
            print(
                f"{name:<10} 1 thread {count / one:5.1f} images/s, 2 threads {count / two:5.1f} images/s, ratio "
                f"{one / two:.2f}; {used} ms of core time per image",
                flush=True,
            )


if __name__ == "__main__":
    main()
