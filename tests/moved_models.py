"""Small models away from their start, and features for them, both in float64."""

from collections.abc import Sequence
from typing import Any

import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, Method, build_method, resolve_settings

__all__ = ["draw_features", "moved_model"]


def moved_model(name: str, shapes: Sequence[LevelShape], side: int, moved: float, overrides: dict[str, Any]) -> Method:
    """A model whose parameters were moved by noise of standard deviation ``moved``."""
    model = build_method(name, shapes, resolve_settings(name, overrides=overrides), (side, side), 0)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.data += moved * torch.randn(parameter.shape, generator=generator)
    return model.double().eval()


def draw_features(count: int, shapes: Sequence[LevelShape], seed: int = 0) -> Features[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return Features([torch.randn(count, *shape, generator=generator, dtype=torch.double) for shape in shapes])
