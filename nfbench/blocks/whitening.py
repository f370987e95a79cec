"""Mahalanobis distances by the inverse Cholesky factor ``W`` of a covariance: ``|W (x - m)|``."""

import torch
from torch import Tensor

__all__ = ["inverse_factor", "mahalanobis"]


def inverse_factor(factor: Tensor) -> Tensor:
    """Inverse of lower triangular matrices ``(..., D, D)``, such as Cholesky factors."""
    identity = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return torch.linalg.solve_triangular(factor, identity, upper=False)


def mahalanobis(x: Tensor, mean: Tensor, whitening: Tensor) -> Tensor:
    """Distances ``(N,)`` of vectors ``(N, D)`` from ``mean`` ``(D,)``, by ``W`` ``(D, D)``."""
    return ((x - mean) @ whitening.mT).square().sum(1).sqrt()
