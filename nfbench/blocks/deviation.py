"""Deviation learning: anomalies score far above draws from a standard normal distribution (DevNet, DRA)."""

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["anomalous_images", "deviation_loss", "top_mean"]


def deviation_loss(
    scores: Tensor,
    anomalous: Tensor,
    margin: float,
    references: int,
    generator: torch.Generator,
    weights: Tensor | None = None,
) -> Tensor:
    """Mean of ``|d|`` for normal images and ``max(0, margin - d)`` for anomalous ones.

    ``d`` is the deviation of a score from the mean of ``references`` standard normal draws, divided by their standard
    deviation. Each call draws new ones.

    Args:
        scores: ``(B,)``.
        anomalous: ``(B,)``, 1 for anomalous images and 0 for normal ones.
        margin: deviation above which an anomaly adds no loss.
        references: number of draws.
        generator: generator of the draws.
        weights: weights of the images in the mean, ``(B,)``; equal by default.
    """
    drawn = torch.randn(references, generator=generator, device=generator.device)
    deviation = (scores - drawn.mean()) / drawn.std()
    losses = (1 - anomalous) * deviation.abs() + anomalous * functional.relu(margin - deviation)
    return losses.mean() if weights is None else (weights * losses).sum() / weights.sum().clamp(min=1)


def top_mean(positions: Tensor, share: float) -> Tensor:
    """Mean of the largest ``share`` of absolute values, at least one: ``(B, 1, H, W)`` to ``(B,)``."""
    values = positions.flatten(1).abs()
    return values.topk(max(1, int(share * values.shape[1])), dim=1).values.mean(1)


def anomalous_images(images: Tensor, masks: Tensor | None) -> Tensor:
    """1 for images with an anomalous pixel and 0 for others, ``(B,)``; ``masks`` as in ``Batch``."""
    if masks is None:
        return images.new_zeros(images.shape[0])
    return (masks.flatten(1).amax(1) > 0).to(images.dtype)
