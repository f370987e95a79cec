"""Speed of a training step on cached features compared with anomalib's modules.

Features are ResNet-18 levels at 256 pixels, batch 16. Prints for FastFlow and U-Flow the median seconds of a step
(loss, backward, Adam), the ratio peer / ours in fp32, and the gain of bf16 autocast. Steps of both sides alternate;
each side uses its own Adam.
"""

import torch

from benchmarks.peers import PeerFastFlow, PeerUFlow, interleaved
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.training.optimizer import Adam

SHAPES = [LevelShape(64, 64, 64), LevelShape(128, 32, 32), LevelShape(256, 16, 16)]
BATCH = 16


def step(model, features, optimizer, precision="fp32"):
    """Returns a function without arguments that runs one optimizer step."""

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = model.loss(features)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def compare(title, method, overrides, peer, features, rounds):
    """Times one method in fp32 and bf16 alternately with its peer and prints a line."""
    runs = {"peer": step(peer, features, peer_adam(peer))}
    for precision in ("fp32", "bf16"):
        ours = build_method(method, SHAPES, resolve_settings(method, overrides=overrides), (256, 256), 0).train()
        runs[precision] = step(ours, features, Adam(ours.optimizer_groups(), 1e-4), precision)
    seconds = interleaved(runs, rounds)
    print(
        f"{title:<28} ours {seconds['fp32']:.3f} s, anomalib {seconds['peer']:.3f} s, "
        f"ratio {seconds['peer'] / seconds['fp32']:.2f}; bf16 {seconds['bf16']:.3f} s, "
        f"{seconds['fp32'] / seconds['bf16']:.2f} of our fp32",
        flush=True,
    )


def peer_adam(model):
    """Returns torch's Adam over trained parameters; anomalib's permutations are frozen parameters."""
    return torch.optim.Adam([parameter for parameter in model.parameters() if parameter.requires_grad], 1e-4)


def main(rounds=7):
    """Runs the comparison."""
    torch.manual_seed(0)
    features = Features([torch.randn(BATCH, *shape) for shape in SHAPES])
    print(f"training step, batch {BATCH}, {torch.get_num_threads()} threads, median of {rounds} rounds")
    compare("FastFlow, alternating kernels", "fastflow", {}, PeerFastFlow(SHAPES), features, rounds)
    three = {"kernels": "3x3"}
    compare("FastFlow, 3x3 kernels", "fastflow", three, PeerFastFlow(SHAPES, conv3x3_only=True), features, rounds)
    compare("U-Flow", "uflow", {}, PeerUFlow(SHAPES), features, rounds)


if __name__ == "__main__":
    main()
