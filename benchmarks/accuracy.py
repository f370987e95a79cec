"""FastFlow against anomalib's FastFlow on the same features.

The same epochs, batches and seeds, in the same run. Needs a finished run of mvtec_local (its features and manifests).
Three flows per category and seed, all evaluated by nfbench's metrics at the original image size after the last epoch:
anomalib's modules with its defaults (Adam 1e-3, weight decay 1e-5, batch 16, trained LayerNorm, maximum of the map),
ours with the same settings, and ours with those of ``fastflow-white``.

    python -m benchmarks.accuracy --results results --epochs 20 --seeds 3
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import yaml
from torch.nn import functional

from benchmarks.peers import PeerFastFlow
from nfbench.datasets.manifest import read_manifest
from nfbench.features.cache import FeatureCache
from nfbench.methods.base import LevelShape, Scores, build_method, resolve_settings
from nfbench.scoring.evaluate import GroundTruth, evaluate
from nfbench.scoring.maps import score_images
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import train

BACKBONE = "tf_efficientnet_lite0@256"
CPU = torch.device("cpu")
PLAIN = {"batch_size": 16, "kernels": "alternating", "val_fraction": 0, "checkpoints": 1}


class Peer(torch.nn.Module):
    """anomalib's FastFlow behind what our training loop and scoring call."""

    def __init__(self, shapes):
        super().__init__()
        self.shapes = shapes
        self.flow = PeerFastFlow(shapes)
        self.loss = self.flow.loss
        self.dimensions = sum(c * h * w for c, h, w in shapes)

    def prepare(self, passes):
        """Nothing to fit."""

    def score(self, features):
        """Minus the mean over levels of exp(-mean(z^2) / 2), up-sampled; the image score is the maximum."""
        latents, _ = self.flow.latents(features)
        maps = [-torch.exp(-0.5 * z.square().mean(1, keepdim=True)) for z in latents]
        resized = torch.cat([functional.interpolate(m, (256, 256), mode="bilinear") for m in maps], 1).mean(1)
        return Scores(resized, resized.flatten(1).amax(1))


def candidates(epochs):
    """Name, settings, and how to build the model."""
    white = yaml.safe_load((Path(__file__).parents[1] / "workflow/experiments/mvtec_local.yaml").read_text())
    white = {**white["variants"]["fastflow-white"]["settings"], "val_fraction": 0, "checkpoints": 1}
    plain = resolve_settings("fastflow", overrides={**PLAIN, "epochs": epochs})
    return {
        "anomalib's FastFlow": (plain, lambda shapes, seed: Peer(shapes)),
        "ours, same settings": (plain, lambda shapes, seed: build_method("fastflow", shapes, plain, (256, 256), seed)),
        "ours, fastflow-white": (
            settings := resolve_settings("fastflow", overrides=white),
            lambda shapes, seed: build_method("fastflow", shapes, settings, (256, 256), seed),
        ),
    }


def run_one(settings, build, train_cache, test_cache, truth, seed):
    """Trains and evaluates one flow; returns metrics and seconds of training."""
    torch.manual_seed(seed)
    model = build([LevelShape(*shape) for shape in train_cache.shapes], seed)
    data = TrainingData(train_cache.levels, 0, seed, CPU)
    started = time.perf_counter()
    train(model, data, settings, SideFolder(Path("/dev/null"), "none"), "benchmark", checkpoint_seconds=float("inf"))
    seconds = time.perf_counter() - started
    return {**evaluate(score_images(model.eval(), test_cache.levels, CPU), truth), "seconds": seconds}


def main():
    """Prints a line per category and candidate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for folder in sorted((options.results / "features" / BACKBONE / "mvtec_ad").iterdir()):
        caches = [FeatureCache(folder / view / "meta.json") for view in ("train", "test")]
        manifest = read_manifest(options.results / "manifests" / "mvtec_ad" / f"{folder.name}.csv")
        truth = GroundTruth([entry for entry in manifest if entry.split == "test"])
        for name, (settings, build) in candidates(options.epochs).items():
            found = [run_one(settings, build, *caches, truth, seed) for seed in range(options.seeds)]
            means = {key: statistics.mean(one[key] for one in found) for key in found[0]}
            print(
                f"{folder.name:<12} {name:<22} {settings.epochs} epochs, {options.seeds} seeds: "
                f"image AUROC {100 * means['image_auroc']:.2f}, pixel AUROC {100 * means['pixel_auroc']:.2f}, "
                f"AUPRO {100 * means['pixel_aupro']:.2f}, {means['seconds']:.0f} s of training",
                flush=True,
            )


if __name__ == "__main__":
    main()
