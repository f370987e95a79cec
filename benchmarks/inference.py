"""Latency of every method, and agreement of exported files: ``python -m benchmarks.inference FOLDER``.

FOLDER is a category in MVTec AD's layout. Small models (those of the tests) on EfficientNet-Lite0 with ImageNet weights
are fitted to a few of its training images for one epoch; the numbers are of test images. Prints Markdown, row by row.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from nfbench import Detector
from nfbench.backbones._base import IMAGENET_MEAN, IMAGENET_STD
from nfbench.blocks.method import PACKAGE, resolve_settings
from nfbench.blocks.settings import epochs_of
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin, plugin_names
from nfbench.datasets._manifest import unlisted
from nfbench.features.forward import TRANSFORM, read_images
from nfbench.inference.export import write_exported
from nfbench.inference.exported import load_exported
from nfbench.inference.latency import measure_latency, time_single

LITE = {"name": "tf_efficientnet_lite0"}
BACKBONES = {
    "ae_ssim": {"name": "image"},
    "csflow": {**LITE, "levels": (3,), "scales": (1, 2, 4)},
    "sanflow": {**LITE, "image": True},
}
ALWAYS_ANOMALIES = {"devnet"}
"""Omitted methods, which cannot be trained without anomalies."""
NO_ANOMALIES = {"sanflow": {"mixture": False}, "bgad": {"boundary": "pull", "focal": False}}
HEADS = ("method", "ms", "p95", "images/s at 32", "GFLOP", "MB", "ONNX ms", ".pt2 ms", "ONNX MB", ".pt2 MB",
         "ONNX maps", "ONNX scores", ".pt2 maps", ".pt2 scores", "rounding", "ONNX export s")  # fmt: skip


def detector_of(name, side):
    """Builds a small detector of a method on a backbone that it supports."""
    settings = {**plugin(PACKAGE, name).METHOD.tiny.settings, **NO_ANOMALIES.get(name, {})}
    if epochs_of(resolve_settings(name, overrides=settings)):
        settings |= {"epochs": 1, "batch_size": 4}
    network = plugin(PACKAGE, name).METHOD.tiny.backbone
    usual = {**BACKBONES.get(name, LITE), "input_size": side}
    backbone = network.model_copy(update={"input_size": side}) if network else usual
    return Detector(name, backbone, settings=settings, device="cpu")


def described(detector, name, side):
    """Returns the metadata of a detector's exported files."""
    return {
        "nfbench": "0", "method": name, "variant": name, "title": name, "setting": "one-class", "dataset": "-",
        "category": "-", "seed": 0, "backbone": detector.recipe.backbone.name, "side": side, "resize": TRANSFORM,
        "weights_sha256": detector.recipe.weights_sha256, "mean": IMAGENET_MEAN, "std": IMAGENET_STD,
        "thresholds": {"source": "training", "images": [], "pixels": None},
    }  # fmt: skip


def row_of(name, train, test, side, folder):
    """Returns a row of the table for a method."""
    detector = detector_of(name, side).fit(train)
    pictures = [unlisted(path) for path in test]
    found = measure_latency(detector._scorer, pictures)
    batch = "–" if found.fps_32 is None else f"{found.fps_32:.1f}"
    first = [f"{found.ms:.0f}", f"{found.p95_ms:.0f}", batch, f"{found.flops / 1e9:.2f}", f"{found.model_mb:.1f}"]
    times, sizes, agreements, rounding, exported = [], [], [], "–", "–"
    for kind, ending in (("onnx", "onnx"), ("torch", "pt2")):
        start = time.perf_counter()
        path = folder / f"{name}.{ending}"
        try:
            written = write_exported(
                detector._scorer, path, kind, described(detector, name, side), pictures[:8], tolerance=1
            )
        except NfbenchError as error:
            print(f"{name}, {kind}: {error}", file=sys.stderr)
            times, sizes, agreements = [*times, "–"], [*sizes, "–"], [*agreements, "–", "–"]
            continue
        exported = f"{time.perf_counter() - start:.0f}" if kind == "onnx" else exported
        model = load_exported(path)
        single = time_single(lambda one, run=model: run.score(read_images([one], side).numpy()), pictures, 2)
        times.append(f"{1e3 * np.median(single):.0f}")
        sizes.append(f"{written.size / 1e6:.1f}")
        maps, rounding = written.agreement.maps, f"{written.agreement.rounding:.0e}"
        agreements += ["–" if maps is None else f"{maps:.0e}", f"{written.agreement.scores:.0e}"]
    return [detector.model.title, *first, *times, *sizes, *agreements, rounding, exported]


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--methods", nargs="+", default=sorted({*plugin_names(PACKAGE)} - ALWAYS_ANOMALIES))
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train = sorted((arguments.folder / "train/good").iterdir())[:12]
    test = sorted(arguments.folder.glob("test/*/*"))
    test = [test[number] for number in np.linspace(0, len(test) - 1, 16).round().astype(int)]
    print(f"| {' | '.join(HEADS)} |\n|{' --- |' * len(HEADS)}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.methods:
            print(f"| {' | '.join(row_of(name, train, test, arguments.side, Path(folder)))} |", flush=True)


if __name__ == "__main__":
    main()
