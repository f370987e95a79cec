"""One-class SVM on averaged features (Schölkopf et al., Neural Computation 2001), and two other densities.

No paper states its settings: published numbers refer to "a one-class SVM on transferred features" (Andrews et al.,
    2016). This is a baseline on the given features, not a reproduction.
An image is represented by the vector ``x`` of averages of all levels, and has an image score but no map:

- ``ocsvm``: ``-(sum_i a_i exp(-g |x - x_i|^2) + b)``, negative inside the boundary; ``g = 1 / (D var(X))``.
- ``knn``: mean squared distance to the k nearest training images (DN2: Bergman et al., arXiv 2002.10445).
- ``gaussian``: Mahalanobis distance by the Ledoit-Wolf covariance (Rippel et al., ICPR 2020, arXiv 2005.14140).

scikit-learn fits the model; scores are computed here, in float64, from its parameters.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from nfbench.blocks.features import Features
from nfbench.blocks.method import Method, Passes, Scores
from nfbench.blocks.settings import FittedSettings
from nfbench.blocks.whitening import inverse_factor, mahalanobis
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError
from nfbench.methods.patchcore import nearest_neighbors

__all__ = ["METHOD", "Ocsvm", "OcsvmSettings"]

MEMORY = {"parameters": 0, "network": 1e7}
"""See ``nfbench.plan.memory``; the solver's cache, or three float64 copies of a covariance of some 4,000 channels."""

_ROUNDING = 1e-10
"""Share of the mean; a smaller standard deviation counts as rounding error."""


class OcsvmSettings(FittedSettings):
    """Our own defaults, except ``knn_neighbors``, which is from DN2."""

    val_fraction: float = Field(
        0.0, ge=0, lt=1, description="share of the normal training images held out for the selection 'val'"
    )
    density: Literal["ocsvm", "knn", "gaussian"] = Field(
        "ocsvm", description="one-class SVM, distance to the nearest training images, or Mahalanobis distance"
    )
    standardize: bool = Field(True, description="scale each value of a vector to mean 0 and variance 1 in training")
    nu: float = Field(
        0.1,
        gt=0,
        le=1,
        description="upper bound on the share of training images outside the boundary, for the density 'ocsvm'",
    )
    knn_neighbors: int = Field(2, ge=1, description="number of nearest training images, for the density 'knn'")


class Ocsvm(Method):
    """Density of the training images, stored in float64.

    Attributes:
        mean, std: mean and standard deviation of the training vectors, ``(D,)``; 0 and 1 if vectors are not
            standardized.
        vectors: support vectors, or all training vectors for the density ``knn``, ``(N, D)``.
        coefficients: ``a`` of the support vectors, ``(N,)``.
        gamma, offset: ``g`` and ``b``.
        centre, whitening: ``m`` and ``W`` of the distance ``|W (x - m)|``, ``(D,)`` and ``(D, D)``.
    """

    title = "OCSVM"
    localizes = False
    settings_type = OcsvmSettings
    settings: OcsvmSettings
    mean: Tensor
    std: Tensor
    vectors: Tensor
    coefficients: Tensor
    gamma: Tensor
    offset: Tensor
    centre: Tensor
    whitening: Tensor
    search_space = {
        "density": Choices(choices=("ocsvm", "knn", "gaussian")),
        "nu": Range(low=0.01, high=0.5, log=True),
        "standardize": Choices(choices=(False, True)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Allocate the buffers of the density; nothing is random."""
        dim = sum(shape.channels for shape in self.shapes)
        shapes: dict[str, dict[str, tuple[int, ...]]] = {
            "ocsvm": {"vectors": (0, dim), "coefficients": (0,), "gamma": (), "offset": ()},
            "knn": {"vectors": (0, dim)},
            "gaussian": {"centre": (dim,), "whitening": (dim, dim)},
        }
        for name, shape in shapes[self.settings.density].items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.double))
        self.register_buffer("mean", torch.zeros(dim, dtype=torch.double))
        self.register_buffer("std", torch.ones(dim, dtype=torch.double))

    @torch.no_grad()
    def prepare(self, passes: Passes) -> None:
        """Fit the density to the training images.

        Raises:
            NfbenchError: the density is ``gaussian`` and the training images do not vary.
        """
        vectors = torch.cat([_averages(features) for features in passes()])
        if self.settings.standardize:
            std, self.mean = torch.std_mean(vectors, 0, correction=0)
            self.std = torch.where(std > _ROUNDING * self.mean.abs(), std, 1.0)
        x = (vectors - self.mean) / self.std
        if self.settings.density == "ocsvm":
            self._fit_svm(x)
        elif self.settings.density == "knn":
            self.vectors = x
        else:
            self._fit_gaussian(x)

    def _fit_svm(self, x: Tensor) -> None:
        from sklearn.svm import OneClassSVM

        svm = OneClassSVM(kernel="rbf", gamma="scale", nu=self.settings.nu).fit(x.cpu().numpy())
        self.vectors, self.coefficients = x[x.new_tensor(svm.support_).long()], x.new_tensor(svm.dual_coef_[0])
        self.gamma, self.offset = x.new_tensor(svm._gamma), x.new_tensor(svm.intercept_[0])

    def _fit_gaussian(self, x: Tensor) -> None:
        from sklearn.covariance import LedoitWolf

        found = LedoitWolf(store_precision=False).fit(x.cpu().numpy())
        factor, fault = torch.linalg.cholesky_ex(x.new_tensor(found.covariance_))
        if fault:
            raise NfbenchError(
                f"the density 'gaussian' of OCSVM has no covariance, because all {len(x)} training images have equal "
                "averages; add images, or set 'density: knn'"
            )
        self.centre, self.whitening = x.mean(0), inverse_factor(factor)

    def grown_rows(self, n_images: int) -> Mapping[str, int]:
        """Number of training images for ``knn``; maximum number of support vectors for ``ocsvm``."""
        names = {"ocsvm": ("vectors", "coefficients"), "knn": ("vectors",), "gaussian": ()}
        return dict.fromkeys(names[self.settings.density], n_images)

    @torch.no_grad()
    def score(self, features: Features[Tensor]) -> Scores:
        """Return the density's image scores, without maps."""
        x = (_averages(features) - self.mean) / self.std
        if self.settings.density == "gaussian":
            return Scores(None, mahalanobis(x, self.centre, self.whitening))
        if not len(self.vectors):
            raise NfbenchError("OCSVM has no training images; train the method first")
        if self.settings.density == "knn":
            return Scores(None, nearest_neighbors(x, self.vectors, self.settings.knn_neighbors)[0].mean(1))
        norms = x.square().sum(1, keepdim=True) + self.vectors.square().sum(1)
        squared = torch.addmm(norms, x, self.vectors.T, alpha=-2).clamp_min(0)
        return Scores(None, -(torch.exp(-self.gamma * squared) @ self.coefficients + self.offset))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return no groups: nothing is trained by gradient."""
        return {}


def _averages(features: Features[Tensor]) -> Tensor:
    """Return the averages of all levels, ``(B, D)`` float64; pooled levels are averages already."""
    return torch.cat([level.mean((2, 3)) for level in features.levels], dim=1).double()


METHOD = Ocsvm
