"""Accuracy of FastFlow, PaDiM and PatchCore compared with anomalib's, on the same features and metrics.

Needs the features and manifests of a finished run of baselines_local. All train on all normal images; metrics are those
of nfbench at the original image size.

- FastFlow: anomalib's modules with its defaults (Adam 1e-3, weight decay 1e-5, batch 16, trained LayerNorm, maximum of
  the map), ours with the same settings, and ours with those of ``fastflow-local``.
- PaDiM: all channels of the levels 1 to 3.
- PatchCore: levels 2 and 3, a coreset of ``--ratio``; anomalib's; ours in anomalib's form (Euclidean distances,
  averages by channel, re-weighted image scores); and ours as published.

    python -m benchmarks.accuracy --results results --methods padim patchcore
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch
import yaml
from torch.nn import functional

from benchmarks.peers import Given, PeerFastFlow
from nfbench.blocks.method import Method, Scores, build_method, resolve_settings
from nfbench.datasets._manifest import read_manifest
from nfbench.features.cache import FeatureCache
from nfbench.metrics._tails import NormalScores
from nfbench.scoring.evaluate import GroundTruth, evaluate
from nfbench.scoring.maps import score_images
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import train

BACKBONE = "tf_efficientnet_lite0@256"
SIZE = (256, 256)
LAYERS = ["layer1", "layer2", "layer3"]
CPU = torch.device("cpu")
PLAIN = {"batch_size": 16, "kernels": "alternating", "val_fraction": 0, "checkpoints": 1}
AS_ANOMALIB = {"embedding": "average", "distance": "euclidean", "reweighting": True, "start": "point"}


class PeerFlow(Method):
    """anomalib's FastFlow with nfbench's interface of methods."""

    title = "anomalib's FastFlow"

    def build(self, generator):
        self.flow = PeerFastFlow(self.shapes)

    @property
    def loss_scale(self):
        return self.dimensions

    def loss(self, features):
        return self.flow.loss(features)

    def score(self, features):
        """Returns minus the mean over levels of exp(-mean(z^2) / 2), upsampled; the image score is the maximum."""
        latents, _ = self.flow.latents(features)
        maps = [-torch.exp(-0.5 * z.square().mean(1, keepdim=True)) for z in latents]
        resized = torch.cat([functional.interpolate(m, self.map_size, mode="bilinear") for m in maps], 1).mean(1)
        return Scores(resized, resized.flatten(1).amax(1))

    def parameter_groups(self):
        return {"flow": list(self.flow.parameters())}


class PeerOfFeatures(Method):
    """An anomalib model that is fitted in one pass on nfbench's features instead of its own backbone's."""

    def run(self, features):
        self.model.feature_extractor.features = dict(zip(LAYERS, features.levels, strict=False))
        return self.model(torch.zeros(len(features), 3, *self.map_size))

    def score(self, features):
        found = self.run(features)
        return Scores(found.anomaly_map[:, 0], found.pred_score.flatten())

    def parameter_groups(self):
        return {}


class PeerPadim(PeerOfFeatures):
    """anomalib's PaDiM on all channels."""

    title = "anomalib's PaDiM"

    def build(self, generator):
        from anomalib.models.image.padim.torch_model import PadimModel

        self.model = PadimModel("resnet18", LAYERS, pre_trained=False, n_features=10)
        self.model.feature_extractor = Given()
        self.model.idx = torch.arange(sum(shape.channels for shape in self.shapes))

    @torch.no_grad()
    def prepare(self, passes):
        self.model.train()
        for features in passes():
            self.run(features)
        self.model.fit()


class PeerPatchCore(PeerOfFeatures):
    """anomalib's PatchCore."""

    title = "anomalib's PatchCore"
    ratio = 0.01

    def build(self, generator):
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel

        self.model = PatchcoreModel(LAYERS[:2], "resnet18", pre_trained=False)
        self.model.feature_extractor = Given()

    @torch.no_grad()
    def prepare(self, passes):
        self.model.train()
        for features in passes():
            self.run(features)
        self.model.subsample_embedding(self.ratio)


def candidates(method, epochs, ratio):
    """Returns, by name: folder of the features, settings, and a function that builds the model."""

    def ours(name):
        return lambda shapes, settings, seed: build_method(name, shapes, settings, SIZE, seed)

    def peer(peer_type):
        return lambda shapes, settings, seed: peer_type(shapes, settings, SIZE, torch.Generator())

    if method == "padim":
        settings = resolve_settings("padim")
        return BACKBONE, {"anomalib": (settings, peer(PeerPadim)), "ours": (settings, ours("padim"))}
    if method == "patchcore":
        PeerPatchCore.ratio = ratio
        plain = resolve_settings("patchcore", overrides={"coreset_ratio": ratio})
        alike = resolve_settings("patchcore", overrides={"coreset_ratio": ratio, **AS_ANOMALIB})
        return f"{BACKBONE}-l23", {
            "anomalib": (plain, peer(PeerPatchCore)),
            "ours, anomalib's form": (alike, ours("patchcore")),
            "ours, as published": (plain, ours("patchcore")),
        }
    local = yaml.safe_load((Path(__file__).parents[1] / "workflow/experiments/baselines_local.yaml").read_text())
    plain = resolve_settings("fastflow", overrides={**PLAIN, "epochs": epochs})
    white = resolve_settings("fastflow", overrides=local["variants"]["fastflow-local"]["settings"])
    return BACKBONE, {
        "anomalib": (plain, peer(PeerFlow)),
        "ours, same settings": (plain, ours("fastflow")),
        "ours, fastflow-local": (white, ours("fastflow")),
    }


def run_one(settings, build, caches, truth, seed):
    """Trains and evaluates one model; returns metrics and seconds of training."""
    torch.manual_seed(seed)
    model = build(caches[0].shapes, settings, seed)
    data = TrainingData(caches[0].features, 0, seed, CPU)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(model, data, settings, SideFolder(Path(folder), "none"), "benchmark", checkpoint_seconds=float("inf"))
    seconds = time.perf_counter() - started
    normal, test = (score_images(model.eval(), cache.features, CPU) for cache in caches)
    return {**evaluate(test, truth, NormalScores.of_maps(normal.maps), {}).metrics, "seconds": seconds}


def main():
    """Prints one line per category, method and candidate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--methods", nargs="+", choices=["fastflow", "padim", "patchcore"], default=["fastflow"])
    parser.add_argument("--categories", nargs="+")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--ratio", type=float, default=0.01, help="share of patches in PatchCore's coreset")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for method in options.methods:
        backbone, found = candidates(method, options.epochs, options.ratio)
        for folder in sorted((options.results / "features" / backbone / "mvtec_ad").iterdir()):
            if options.categories and folder.name not in options.categories:
                continue
            caches = [FeatureCache(folder / view / "meta.json") for view in ("train", "test")]
            manifest = read_manifest(options.results / "manifests" / "mvtec_ad" / f"{folder.name}.csv")
            truth = GroundTruth([entry for entry in manifest if entry.split == "test"])
            for name, (settings, build) in found.items():
                runs = [run_one(settings, build, caches, truth, seed) for seed in range(options.seeds)]
                means = {key: statistics.mean(run[key] for run in runs) for key in runs[0]}
                print(
                    f"{folder.name:<12} {method:<10} {name:<22} {options.seeds} seeds: "
                    f"image AUROC {100 * means['image_auroc']:.2f}, pixel AUROC {100 * means['pixel_auroc']:.2f}, "
                    f"AUPRO {100 * means['pixel_aupro']:.2f}, {means['seconds']:.0f} s of training",
                    flush=True,
                )


if __name__ == "__main__":
    main()
