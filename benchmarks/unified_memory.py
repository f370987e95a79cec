"""Memory of training one model of 2, 4 and 8 categories of 200 images each, without and with features in memory.

Prints, for each method, by how much the largest resident memory of a process grows while it trains one epoch on
features of EfficientNet-Lite0's three coarsest levels at 256 pixels.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COUNTS = (2, 4, 8)
SHAPES = ((40, 32, 32), (112, 16, 16), (320, 8, 8))
IMAGES = 200
METHODS = ("hgad", "fastflow", "cflow", "uflow", "padim")


def make_features(folder):
    """Writes one file per level and category."""
    rng = np.random.default_rng(0)
    for category in range(max(COUNTS)):
        for level, shape in enumerate(SHAPES):
            np.save(folder / f"{category}-{level}.npy", rng.normal(size=(IMAGES, *shape)).astype(np.float16))


def train_on(folder, method, count, kept):
    """Trains one model for one epoch and prints its memory; ``kept`` keeps all features in memory."""
    import torch

    from nfbench.blocks.features import Features
    from nfbench.blocks.method import LevelShape, build_method, resolve_settings
    from nfbench.features.stacked import StackedArrays
    from nfbench.training.assemble import of_class
    from nfbench.training.checkpoint import SideFolder
    from nfbench.training.data import TrainingData
    from nfbench.training.loop import train

    torch.set_num_threads(1)
    small = {"coupling_blocks": 2, "condition_dim": 64, "flow_steps": 2, "online_rotation": 0, "val_fraction": 0}
    known = type(resolve_settings(method)).model_fields
    chosen = {"epochs": 0 if method == "padim" else 1, "checkpoints": 1, **small}
    settings = resolve_settings(method, overrides={key: value for key, value in chosen.items() if key in known})
    shapes = [LevelShape(*shape) for shape in SHAPES]
    model = build_method(method, shapes, settings, (256, 256), 0, count)
    caches = [
        Features([np.load(folder / f"{category}-{level}.npy", mmap_mode="r") for level in range(len(SHAPES))])
        for category in range(count)
    ]
    if model.takes_class:
        caches = [of_class(features, number) for number, features in enumerate(caches)]
    features = Features.join(caches, StackedArrays)
    if kept:
        features = features.map(np.asarray)
    before = resident()
    data = TrainingData(features, 0.0, 0, torch.device("cpu"))
    started = time.monotonic()
    train(model, data, settings, SideFolder(folder, f"{method}-{count}-{kept}"), method, float("inf"))
    print(f"{resident('VmHWM') - before:.0f} {time.monotonic() - started:.1f}")


def resident(key="VmRSS"):
    """Returns the resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def main():
    """Measures each training in its own process."""
    with tempfile.TemporaryDirectory() as name:
        make_features(Path(name))
        sizes = [count * IMAGES * 2 * sum(map(np.prod, SHAPES)) / 2**20 for count in COUNTS]
        print(f"features of {COUNTS} categories: {', '.join(f'{size:.0f}' for size in sizes)} MB")
        for method in METHODS:
            for kept in (0, 1) if method == "fastflow" else (0,):
                found = []
                for count in COUNTS:
                    command = [sys.executable, "-m", "benchmarks.unified_memory", name, method, str(count), str(kept)]
                    done = subprocess.run(command, check=True, capture_output=True, text=True)
                    memory, seconds = done.stdout.split()
                    found.append(f"{memory} MB ({float(seconds) / count:.1f} s a category)")
                kind = " with all features in memory" if kept else ""
                print(f"{method}{kind}: {', '.join(found)}", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train_on(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "1")
    else:
        main()
