"""Small models of PatchCore, PaDiM and SimpleNet, and features for them."""

import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, LevelShape, build_method, resolve_settings

SHAPES = [LevelShape(8, 16, 16), LevelShape(12, 8, 8)]
SMALL = {
    "patchcore": {"pretrain_dim": 20, "target_dim": 20, "projection_dim": 8},
    "padim": {"reduced_dimensions": 10},
    "simplenet": {"embedding_dim": 24, "hidden_dim": 16},
}
METHODS = sorted(SMALL)


def build(name, shapes=SHAPES, size=64, seed=0, **overrides):
    return build_method(
        name, shapes, resolve_settings(name, overrides={**SMALL[name], **overrides}), (size, size), seed
    )


def draw(n, shapes=SHAPES, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return Features([torch.randn(n, *shape, generator=generator) for shape in shapes])


def fit(model, features, batch=4):
    """Fit the model, and train it for a while where it is trained by gradient."""
    batches = [features[first : first + batch] for first in range(0, len(features), batch)]
    calls = []
    model.train().prepare(lambda: calls.append(1) or batches)
    generator = torch.Generator().manual_seed(0)
    if list(model.parameters()):
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(20):
            for each in batches:
                for loss in model.losses(Batch(each), generator):
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    assert len(calls) <= 2
    return model.eval()
