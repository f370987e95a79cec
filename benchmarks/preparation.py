"""Time and memory of preparing and checking as many images as in MVTec AD.

The 5,354 synthetic PNG images have 64 pixels, with 1,258 masks. Prints time and peak memory for a quarter, half and
all of them, each in its own process; twice the images should take twice the time. For comparison, a plain loop reads,
decodes and hashes the same files.
"""

import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from nfbench.datasets._base import find_dataset
from nfbench.datasets._check import check_dataset
from nfbench.datasets._manifest import build_manifest, write_manifest

COUNTS = {"train/good": 3629, "test/good": 467, "test/dent": 1258}


def make_images(root, share):
    """Writes one category in MVTec AD's layout."""
    rng = np.random.default_rng(0)
    for kind, count in COUNTS.items():
        (root / "part" / kind).mkdir(parents=True)
        for number in range(round(share * count)):
            image = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(image).save(root / "part" / kind / f"{number:05}.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[10:20, 10:20] = 255
    (root / "part/ground_truth/dent").mkdir(parents=True)
    for number in range(round(share * COUNTS["test/dent"])):
        Image.fromarray(mask).save(root / "part/ground_truth/dent" / f"{number:05}_mask.png")


def prepare(root):
    """Prepares the images like ``prepare_data``."""
    dataset = find_dataset("folder")
    write_manifest(root / "manifest.csv", build_manifest(dataset.samples(root, "part")))


def check(root):
    """Checks the images like ``data check``."""
    assert check_dataset(find_dataset("folder"), root).sound


def bare(root):
    """Reads, decodes and hashes each file in a plain loop."""
    for path in root.rglob("*.png"):
        hashlib.sha256(path.read_bytes()).hexdigest()
        Image.open(path).load()


def main():
    """Measures each step in its own process."""
    for share in (0.25, 0.5, 1.0):
        with tempfile.TemporaryDirectory() as folder:
            make_images(Path(folder), share)
            images = sum(round(share * count) for count in COUNTS.values())
            for step in ("bare", "prepare", "check"):
                command = [sys.executable, "-m", "benchmarks.preparation", step, folder]
                printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
                print(f"{images} images, {step}: {printed}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        started = time.monotonic()
        globals()[sys.argv[1]](Path(sys.argv[2]))
        seconds = time.monotonic() - started
        print(f"{seconds:.2f} s, peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")
    else:
        main()
