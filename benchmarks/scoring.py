"""Scoring speed of each method on cached features, with the networks of its paper, and of anomalib's.

ResNet-18 features at 256 pixels, levels 1 to 3 (CS-Flow: level 3 at 256, 128 and 64 pixels; DifferNet: level 4 at the
same sizes, pooled, 16 views, without maps, which are gradients with respect to images). Methods are untrained, since
speed does not depend on weights. PaDiM's Gaussians and PatchCore's bank come from 32 made-up images, with a coreset
of 10 %. anomalib's PaDiM and PatchCore get the same features and sizes. All are timed alternately, on batches of 16.
"""

import torch

from benchmarks.accuracy import AS_ANOMALIB, PeerFlow, PeerPadim, PeerPatchCore
from benchmarks.peers import interleaved
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings

BATCH = 16
SIZE = (256, 256)
LEVELS = [LevelShape(64, 64, 64), LevelShape(128, 32, 32), LevelShape(256, 16, 16)]
SCALES = [LevelShape(256, 16, 16), LevelShape(256, 8, 8), LevelShape(256, 4, 4)]
POOLED = [LevelShape(512, 1, 1)] * 3
OURS = {
    "fastflow": (LEVELS, {}),
    "uflow": (LEVELS, {}),
    "cflow": (LEVELS, {}),
    "csflow": (SCALES, {}),
    "differnet": (POOLED, {}),
    "simplenet": (LEVELS[1:], {}),
    "patchcore": (LEVELS[1:], {}),
    "padim": (LEVELS, {"reduced_dimensions": 100}),
}
PEERS = {"fastflow": PeerFlow, "patchcore": PeerPatchCore, "padim": PeerPadim}


def draw(shapes, count, views=()):
    """Generates made-up features."""
    return Features([torch.randn(count, *views, *shape) for shape in shapes])


def scorer(method, shapes):
    """Fits a method to made-up features and returns a function that scores a batch."""
    views = (16,) if method.views else ()
    train, test = draw(shapes, 32, views), draw(shapes, BATCH, views)
    method.prepare(lambda: [train])
    method.eval()
    method.calibrate(lambda: [train])

    @torch.inference_mode()
    def run():
        method.score(test)

    return run


def main(rounds=3):
    """Prints one line per method."""
    torch.manual_seed(0)
    PeerPatchCore.ratio = 0.1
    print(f"scoring of cached features, batch {BATCH}, {torch.get_num_threads()} threads, median of {rounds} rounds")
    for name, (shapes, overrides) in OURS.items():
        settings = resolve_settings(name, backbone="resnet18", overrides=overrides)
        runs = {"ours": scorer(build_method(name, shapes, settings, SIZE, 0), shapes)}
        if name == "patchcore":
            alike = resolve_settings(name, overrides=AS_ANOMALIB)
            runs["ours, anomalib's form"] = scorer(build_method(name, shapes, alike, SIZE, 0), shapes)
        if name in PEERS:
            peer = PEERS[name](shapes, settings, SIZE, torch.Generator())
            if name == "padim":
                peer.model.idx = torch.randperm(sum(shape.channels for shape in shapes))[:100]
            runs["anomalib"] = scorer(peer, shapes)
        seconds = interleaved(runs, rounds)
        print(
            f"{name:<10}" + ", ".join(f" {who} {BATCH / value:.1f} images/s" for who, value in seconds.items()),
            flush=True,
        )


if __name__ == "__main__":
    main()
