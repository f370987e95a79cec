"""Training step on one GPU: WRN-50 levels at 256 pixels, batch 32, features resident; fp32, bf16, and torch.compile.

Runs wherever torch sees a GPU, and says so where it sees none. Prints ratios against anomalib's modules in the same
run.
"""

import torch

from benchmarks.peers import PeerFastFlow, PeerUFlow, interleaved
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings

SHAPES = [LevelShape(256, 64, 64), LevelShape(512, 32, 32), LevelShape(1024, 16, 16)]
BATCH = 32


def step(model, features, bf16=False, compiled=False):
    """One optimizer step, as a function without arguments."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-4)
    loss_of = torch.compile(model.loss) if compiled else model.loss

    def run():
        with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
            loss = loss_of(features)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def main(rounds=20):
    """Runs the comparison."""
    if not torch.cuda.is_available():
        print("torch sees no GPU here; nothing was measured")
        return
    device = torch.device("cuda")
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, batch {BATCH}, median of {rounds} rounds")
    features = Features([torch.randn(BATCH, *shape, device=device) for shape in SHAPES])
    for title, method, peer in (("FastFlow", "fastflow", PeerFastFlow), ("U-Flow", "uflow", PeerUFlow)):
        ours = build_method(method, SHAPES, resolve_settings(method), (256, 256), 0).to(device).train()
        runs = {
            "anomalib fp32": step(peer(SHAPES).to(device).train(), features),
            "ours fp32": step(ours, features),
            "ours bf16": step(ours, features, bf16=True),
            "ours bf16 compiled": step(ours, features, bf16=True, compiled=True),
        }
        seconds = interleaved(runs, rounds)
        for name, value in seconds.items():
            print(
                f"{title:<10} {name:<20} {1000 * value:8.1f} ms, {seconds['anomalib fp32'] / value:5.2f} x", flush=True
            )


if __name__ == "__main__":
    main()
