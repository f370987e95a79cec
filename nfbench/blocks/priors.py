"""Learnable priors of latents: a Gaussian mixture over classes, and another within each class (HGAD)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["HierarchicalPrior", "spread_centres"]

_DISTANCE = 5.0


class HierarchicalPrior(nn.Module):
    """Gaussians of unit variance: ``K`` of classes, and ``M`` within each class around that class's centre.

    Latents come as ``z`` ``(B, P, D)``, the ``P`` positions of ``B`` images; all positions of an image have its class.

    Args:
        classes: number of classes ``K``.
        dim: length ``D`` of a latent.
        intra_centres: number ``M`` of Gaussians within a class, the first of which is the class's own; 0 for none.
        learned: whether the centres of the classes, and the weights of the mixture over them, are learned.
        generator: draws where the Gaussians within a class start, from a standard normal around its centre.

    Attributes:
        centres: of the classes, ``(K, D)``.
        class_weights: logits of the weights of the classes, ``(K,)``; there where the centres are learned.
        offsets: of the Gaussians within a class from its centre, ``(K, M - 1, D)``; there with ``intra_centres``.
        intra_weights: logits of their weights, ``(K, M)``.
    """

    def __init__(
        self, classes: int, dim: int, intra_centres: int, *, learned: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.centres = nn.Parameter(spread_centres(classes, dim), requires_grad=learned)
        if learned:
            self.class_weights = nn.Parameter(torch.zeros(classes))
        self.has_intra = intra_centres > 0
        if self.has_intra:
            drawn = torch.randn(classes, intra_centres - 1, dim, generator=generator)
            self.offsets = nn.Parameter(drawn.to(self.centres.device))
            self.intra_weights = nn.Parameter(torch.zeros(classes, intra_centres))

    def class_log_weights(self) -> Tensor:
        """``log softmax(psi)``, the log-weights of the classes, ``(K,)``."""
        return functional.log_softmax(self.class_weights, 0)

    def class_energies(self, z: Tensor) -> Tensor:
        """``-||z - mu_y||^2 / 2`` to the centre of every class: ``(B, P, D)`` to ``(B, P, K)``."""
        return -0.5 * _squared_distances(z, self.centres.expand(len(z), -1, -1))

    def own_energies(self, z: Tensor, classes: Tensor) -> Tensor:
        """``-||z - mu_y||^2 / 2`` to the centre of the own class ``(B,)``: ``(B, P, D)`` to ``(B, P)``."""
        return -0.5 * (z - self.centres[classes][:, None]).square().sum(2)

    def intra_energies(self, z: Tensor, classes: Tensor) -> Tensor:
        """``logsumexp_i(-||z - mu_y - delta_i||^2 / 2 + log softmax(phi_y)_i)`` of the own class ``(B,)``.

        The centre of the class takes no gradient. ``(B, P, D)`` to ``(B, P)``.
        """
        centre = self.centres.detach()[classes][:, None]
        centres = torch.cat([centre, centre + self.offsets[classes]], dim=1)
        log_weights = functional.log_softmax(self.intra_weights, 1)[classes][:, None]
        return torch.logsumexp(-0.5 * _squared_distances(z, centres) + log_weights, dim=2)


def spread_centres(classes: int, dim: int) -> Tensor:
    """``c I_K`` repeated along the dimensions as often as it fits, ``c = 5 / sqrt(floor(2 D / K))``, ``(K, D)``.

    Centres are thus about 5 apart from each other. ``classes`` is at most ``dim``.
    """
    scale = _DISTANCE / math.sqrt(2 * dim // classes)
    repeated = scale * torch.eye(classes).repeat(1, dim // classes)
    return functional.pad(repeated, (0, dim - repeated.shape[1]))


def _squared_distances(z: Tensor, centres: Tensor) -> Tensor:
    """``(B, P, D)`` and ``(B, M, D)`` to ``(B, P, M)``."""
    products = z @ centres.transpose(1, 2)
    return z.square().sum(2, keepdim=True) - 2 * products + centres.square().sum(2)[:, None]
