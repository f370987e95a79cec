"""Priors of latents: a standard normal, a Gaussian per class, or a mixture over and within classes (HGAD)."""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["ClassPrior", "MixturePrior", "Prior", "StandardPrior", "spread_centres"]

_DISTANCE = 5.0


class Prior(nn.Module, ABC):
    """A prior of latents ``(B, P, D)`` of ``P`` positions of ``B`` images with classes ``(B,)``.

    Log-densities ``(B, P)`` are up to the constant ``-D/2 log 2 pi``.
    """

    def class_log_weights(self) -> Tensor:
        """Log-weights of the classes up to a constant, ``(K,)``."""
        raise NotImplementedError("this prior has no classes")

    def class_energies(self, z: Tensor) -> Tensor:
        """``-||z - mu_y||^2 / 2`` to the centre of every class, ``(B, P, K)``."""
        raise NotImplementedError("this prior has no classes")

    @abstractmethod
    def marginal(self, z: Tensor, classes: Tensor) -> Tensor:
        """Objective of the likelihood loss, to be maximized."""

    @abstractmethod
    def conditional(self, z: Tensor, classes: Tensor) -> Tensor:
        """Log-density given the class of the image; it scores positions."""


class StandardPrior(Prior):
    """A standard normal for every class."""

    def marginal(self, z: Tensor, classes: Tensor) -> Tensor:
        """``-||z||^2 / 2``."""
        return -0.5 * z.square().sum(2)

    def conditional(self, z: Tensor, classes: Tensor) -> Tensor:
        """The same."""
        return self.marginal(z, classes)


class ClassPrior(Prior):
    """Gaussians of unit variance: one for each of ``K`` classes, and ``M`` within each around its fixed centre.

    Args:
        classes: number of classes ``K``.
        dim: length ``D`` of a latent.
        intra_centres: number ``M`` of Gaussians within a class, including the class's own, which is the first; 0 for
            none.
        generator: draws the initial centres of the Gaussians within a class from a standard normal around its centre.

    Attributes:
        centres: centres of the classes, ``(K, D)``.
        offsets: offsets of the Gaussians within a class from its centre, ``(K, M - 1, D)``; only with
            ``intra_centres``.
        intra_weights: logits of their weights, ``(K, M)``.
    """

    learned = False

    def __init__(self, classes: int, dim: int, intra_centres: int, generator: torch.Generator) -> None:
        super().__init__()
        self.centres = nn.Parameter(spread_centres(classes, dim), requires_grad=self.learned)
        self.has_intra = intra_centres > 0
        if self.has_intra:
            drawn = torch.randn(classes, intra_centres - 1, dim, generator=generator)
            self.offsets = nn.Parameter(drawn.to(self.centres.device))
            self.intra_weights = nn.Parameter(torch.zeros(classes, intra_centres))

    def class_log_weights(self) -> Tensor:
        """Equal weights."""
        return torch.zeros_like(self.centres[:, 0])

    def class_energies(self, z: Tensor) -> Tensor:
        """``-||z - mu_y||^2 / 2``, computed by matrix products."""
        return -0.5 * _squared_distances(z, self.centres.expand(z.shape[0], -1, -1))

    def marginal(self, z: Tensor, classes: Tensor) -> Tensor:
        """``-||z - mu_y||^2 / 2`` to the centre of the own class."""
        return -0.5 * (z - self.centres[classes][:, None]).square().sum(2)

    def conditional(self, z: Tensor, classes: Tensor) -> Tensor:
        """``logsumexp_i(-||z - mu_y - delta_i||^2 / 2 + log softmax(phi_y)_i)`` of the own class, or its centre alone.

        The Gaussians within a class give no gradient to its centre.
        """
        if not self.has_intra:
            return ClassPrior.marginal(self, z, classes)
        centre = self.centres.detach()[classes][:, None]
        centres = torch.cat([centre, centre + self.offsets[classes]], dim=1)
        log_weights = functional.log_softmax(self.intra_weights, 1)[classes][:, None]
        return torch.logsumexp(-0.5 * _squared_distances(z, centres) + log_weights, dim=2)


class MixturePrior(ClassPrior):
    """``ClassPrior`` with learned centres, and a mixture over the classes with learned weights ``softmax(psi)``.

    Attributes:
        class_weights: the logits ``psi``, ``(K,)``.
    """

    learned = True

    def __init__(self, classes: int, dim: int, intra_centres: int, generator: torch.Generator) -> None:
        super().__init__(classes, dim, intra_centres, generator)
        self.class_weights = nn.Parameter(torch.zeros(classes))

    def class_log_weights(self) -> Tensor:
        """``log softmax(psi)``, ``(K,)``."""
        return functional.log_softmax(self.class_weights, 0)

    def marginal(self, z: Tensor, classes: Tensor) -> Tensor:
        """``logsumexp_y(-||z - mu_y||^2 / 2 + log softmax(psi)_y)``."""
        return torch.logsumexp(self.class_energies(z) + self.class_log_weights(), dim=2)


def spread_centres(classes: int, dim: int) -> Tensor:
    """``c I_K`` repeated along the dimensions while it fits, ``c = 5 / sqrt(floor(2 D / K))``, ``(K, D)``.

    Centres are thus about 5 apart. ``classes`` must be at most ``dim``.
    """
    scale = _DISTANCE / math.sqrt(2 * dim // classes)
    repeated = scale * torch.eye(classes).repeat(1, dim // classes)
    return functional.pad(repeated, (0, dim - repeated.shape[1]))


def _squared_distances(z: Tensor, centres: Tensor) -> Tensor:
    """``(B, P, D)`` and ``(B, M, D)`` to ``(B, P, M)``."""
    products = z @ centres.transpose(1, 2)
    return z.square().sum(2, keepdim=True) - 2 * products + centres.square().sum(2)[:, None]
