"""Training speed of CFLOW-AD on cached features compared with anomalib's decoders.

Features are ResNet-18 levels 2 to 4 at 256 pixels, batch 32.

A step is the loss of 256 fibres of one level, backward and Adam. Prints the median milliseconds of a step by level,
the sum over all steps of a batch (128 + 32 + 8), and the ratio peer / ours; once with permutations of channels
(anomalib's default) and once with rotations (the paper's). Steps of both sides alternate; each side uses its own
Adam.
"""

import torch

from nfbench.core.torchvision_guard import import_torchvision

import_torchvision()

from anomalib.models.image.cflow.utils import cflow_head, get_logp, positional_encoding_2d
from torch.nn import functional

from benchmarks.peers import interleaved
from benchmarks.training_step import peer_adam
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, LevelShape, build_method, resolve_settings
from nfbench.training.optimizer import Adam

SHAPES = [LevelShape(128, 32, 32), LevelShape(256, 16, 16), LevelShape(512, 8, 8)]
BATCH = 32
FIBRES = 256


class PeerCFlow(torch.nn.Module):
    """anomalib's decoder of one level and the loss of its training step."""

    def __init__(self, shape, permutation):
        super().__init__()
        self.decoder = cflow_head(128, 8, 1.9, shape.channels, permute_soft=permutation == "soft")

    def losses(self, batch, generator):
        (x,) = batch.features.levels
        batch, channels, height, width = x.shape
        code = positional_encoding_2d(128, height, width).flatten(1).T.repeat(batch, 1)
        fibres = x.permute(0, 2, 3, 1).reshape(-1, channels)
        order = torch.randperm(len(fibres), generator=generator)
        for rows in order.split(FIBRES):
            z, log_det = self.decoder(fibres[rows], [code[rows]])
            yield -functional.logsigmoid(get_logp(channels, z, log_det) / channels).mean()


def step(model, features, optimizer):
    """Returns a function without arguments that runs the next optimizer step."""

    def endless():
        generator = torch.Generator().manual_seed(0)
        while True:
            yield from model.losses(Batch(features), generator)

    losses = endless()

    def run():
        loss = next(losses)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return run


def compare(permutation, rounds):
    """Times one kind of permutation, level by level."""
    totals = {"ours": 0.0, "anomalib": 0.0}
    for shape in SHAPES:
        features = Features([torch.randn(BATCH, *shape)])
        settings = resolve_settings("cflow", overrides={"permutation": permutation, "fibre_batch": FIBRES})
        ours = build_method("cflow", [shape], settings, (256, 256), 0).train()
        peer = PeerCFlow(shape, permutation)
        runs = {
            "ours": step(ours, features, Adam(ours.optimizer_groups(), 1e-4)),
            "anomalib": step(peer, features, peer_adam(peer)),
        }
        seconds = interleaved(runs, rounds)
        steps = BATCH * shape.height * shape.width // FIBRES
        for name in totals:
            totals[name] += steps * seconds[name]
        report(f"{permutation}, {'x'.join(map(str, shape))}, step", seconds)
    report(f"{permutation}, a batch of {BATCH} images", totals)


def report(title, seconds):
    """Prints a line."""
    ours, peer = seconds["ours"], seconds["anomalib"]
    print(f"{title:<28} ours {1e3 * ours:7.1f} ms, anomalib {1e3 * peer:7.1f} ms, ratio {peer / ours:.2f}", flush=True)


def main(rounds=25):
    """Runs the comparison."""
    torch.manual_seed(0)
    print(f"CFLOW-AD, chunks of {FIBRES} fibres, {torch.get_num_threads()} threads, median of {rounds} rounds")
    for permutation in ("hard", "soft"):
        compare(permutation, rounds)


if __name__ == "__main__":
    main()
