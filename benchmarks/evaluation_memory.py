"""Memory and time of an evaluation of many frames with large maps, as for CS-Flow on ShanghaiTech.

Scores made-up maps and latents, stores them as the stage does, measures them and writes the files of a run, once for
each share of the full size (11,100 training and 4,000 test frames of 480 x 856 pixels, maps of 768 x 768). Each share
has its own process. Files are written below ``--folder``: 42 GB at full size.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.method import Scores
from nfbench.core import scratch
from nfbench.core.provenance import file_sha256
from nfbench.datasets._manifest import Entry
from nfbench.results.artifacts import write_artifacts
from nfbench.scoring.evaluate import GroundTruth
from nfbench.scoring.protocol import Views, measure, score_views

TRAIN, TEST, SIZE, SIDE = 11_100, 4_000, (480, 856), 768
LATENTS = ((304, 24), (304, 12), (304, 6))


class MadeUp:
    """Standard normal latents by image number, larger in a corner for negative numbers, and maps of their energies."""

    title, gradient_maps, transductive = "made up", None, False

    def latent_shapes(self):
        """Returns the shape of the latents."""
        return LATENTS

    def score(self, features):
        """Scores images given by their numbers."""
        latents = [[] for _ in LATENTS]
        for number in features.levels[0][:, 0].int().tolist():
            generator = torch.Generator().manual_seed(abs(number))
            for level, (channels, side) in zip(latents, LATENTS, strict=True):
                z = torch.randn(channels, side, side, generator=generator)
                if number < 0:
                    z[:, : side // 4, : side // 4] *= 1.3
                level.append(z)
        latents = [torch.stack(level) for level in latents]
        energies = [z.square().mean(1, keepdim=True) for z in latents]
        maps = torch.stack([functional.interpolate(e, (SIDE, SIDE), mode="bilinear") for e in energies]).prod(0)[:, 0]
        return Scores(maps, maps.mean((1, 2)), latents)


def run(share, folder):
    """Runs one evaluation; prints numbers of images, peak memory in MB, seconds and AUPRO."""
    n_train, n_test = round(TRAIN * share), round(TEST * share)
    mask = np.zeros(SIZE, np.uint8)
    mask[: SIZE[0] // 4, : SIZE[1] // 4] = mask[-100:-60, 300:500] = 255
    path = folder / "mask.png"
    Image.fromarray(mask).save(path)
    rows = [(str(path), file_sha256(path)) if n % 5 < 2 else ("", "") for n in range(n_test)]
    truth = GroundTruth(
        [Entry("test", int(bool(m)), "x", f"{n}.png", m, *SIZE, "", found) for n, (m, found) in enumerate(rows)]
    )
    test = np.arange(1, n_test + 1, dtype=np.float32)
    test[truth.labels == 1] *= -1
    numbers = Features([np.arange(10_000, 10_000 + n_train, dtype=np.float32)[:, None]]), Features([test[:, None]])
    before, started = resident(), time.monotonic()
    views = score_views(MadeUp(), Views(*numbers), torch.device("cpu"), folder=folder)
    scratch.save(folder / "maps.npy", views.test.maps)
    views = views._replace(test=views.test._replace(maps=np.load(folder / "maps.npy", mmap_mode="r")))
    scored_at, peak = time.monotonic(), resident()
    scored = measure(views, truth, folder=folder)
    write_artifacts(folder / "run", scored, truth.entries)
    seconds = scored_at - started, time.monotonic() - scored_at
    print(n_train, n_test, before, peak, resident(), *seconds, scored.evaluation.metrics["pixel_aupro"])


def resident():
    """Returns the largest resident memory of this process so far in MB, including mapped files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000


def main():
    """Measures each share and prints one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 16, 1 / 8, 1 / 4], help="of the full size")
    parser.add_argument("--folder", type=Path, help="folder for files; default: the system's temporary folder")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        run(given.shares[0], given.folder)
        return
    print("  train   test  MB at start  scored  measured    scoring  measuring  AUPRO")
    for share in given.shares:
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            command = [sys.executable, __file__, "--measure", "--shares", str(share), "--folder", folder]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        n_train, n_test, before, scored, peak, *seconds, aupro = map(float, done.stdout.split())
        print(
            f"{n_train:7.0f} {n_test:6.0f} {before:12.0f} {scored:7.0f} {peak:9.0f} {seconds[0]:8.0f} s "
            f"{seconds[1]:8.0f} s {aupro:6.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
