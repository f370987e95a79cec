"""Normalizations of features before a flow. Each maps ``(B, C, H, W)`` to the same shape."""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from nfbench.blocks.method import LevelShape, Passes
from nfbench.core.errors import required

__all__ = ["Normalization", "build_normalization", "check_normalization", "fit_normalizations", "log_det_map"]

Normalization = Literal["layer_norm", "counted_layer_norm", "standardize", "whiten", "none"]

_ORDINARY, _LARGEST_FACTOR, _ROUNDING_OF_FLOAT32 = 1e-3, 1e5, 1e-8
_POSITION_SHARE = 0.5
_SMALLEST_EIGENVALUE = 1e-3
"""Added to the eigenvalues of standardized channels, whose mean is 1."""
_SMALLEST_SHARE = 1e-4
"""Share of a level's median variance below which a channel has no scale of its own."""
_ROUNDING = 1e-12
"""Share of a channel's mean square below which a variance is an error of rounding."""


class _LayerNorm(nn.LayerNorm):
    """LayerNorm whose 1e-5, which is absolute, stays small next to the variance of features of any scale.

    Images whose variance is below ``_ORDINARY`` are scaled up to it first; of all others, the result is PyTorch's.
    """

    def forward(self, x: Tensor) -> Tensor:
        flat = x.detach().flatten(1)
        rounding = _ROUNDING_OF_FLOAT32 * flat.square().mean(1)  # of an image that is constant
        factor = (_ORDINARY / flat.var(1, correction=0).maximum(rounding)).sqrt().clamp(1.0, _LARGEST_FACTOR)
        return super().forward(x * factor.view(-1, *[1] * (x.ndim - 1)))


class _CountedLayerNorm(_LayerNorm):
    """LayerNorm whose trained scales count in the likelihood."""


class _Fitted(nn.Module):
    """A fixed map ``rotation @ ((x - mean) / std)`` whose statistics come from the training features.

    Args:
        shape: shape of the features.
        by_position: statistics for each position, else one per channel.
        rotate: decorrelate the channels.
    """

    mean: Tensor
    std: Tensor
    rotation: Tensor | None

    def __init__(self, shape: LevelShape, by_position: bool, rotate: bool) -> None:
        super().__init__()
        size = tuple(shape) if by_position else (shape.channels, 1, 1)
        self.by_position = by_position
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))
        self.register_buffer("rotation", torch.eye(shape.channels) if rotate else None)

    def forward(self, x: Tensor) -> Tensor:
        y = (x - self.mean) / self.std
        return y if self.rotation is None else torch.einsum("dc,bchw->bdhw", self.rotation, y)

    def fit_moments(self, total: Tensor, square: Tensor, images: int) -> Tensor:
        """Mean and standard deviation from the sums of ``x`` and ``x^2`` over images, each ``(C, H, W)`` float64.

        By position, the variance is the mean of the position's own and the channel's, which keeps positions that never
        change in training from dividing by next to nothing. A channel that hardly changes anywhere takes the level's
        median variance: what it does in a test image counts as in any other channel, and is not blown up.

        Returns:
            Which channels hardly change in training, ``(C,)`` bool.
        """
        mean_square = square.mean((1, 2)) / images
        if self.by_position:
            mean = total / images
            own = (square / images - mean.square()).clamp_min(0)
            pooled = own.mean((1, 2))
        else:
            mean = total.mean((1, 2), keepdim=True) / images
            pooled = mean_square - mean.flatten().square()
        varying = pooled > _ROUNDING * mean_square
        median = pooled[varying].median() if varying.any() else pooled.new_ones(())
        still = ~varying | (pooled < _SMALLEST_SHARE * median)
        variance = torch.where(still, median, pooled)[:, None, None]
        if self.by_position:
            variance = _POSITION_SHARE * own + (1 - _POSITION_SHARE) * variance
        self.mean.copy_(mean)
        self.std.copy_(variance.sqrt())
        return still

    def fit_rotation(self, covariance: Tensor, still: Tensor) -> None:
        """PCA whitening by the covariance ``(C, C)`` of the standardized features, over images and positions.

        Channels that hardly change in training, ``still`` ``(C,)``, are kept apart from the others, at variance 1.
        """
        covariance[still] = covariance[:, still] = 0
        covariance.diagonal()[still] = 1
        values, vectors = torch.linalg.eigh(covariance)
        required(self.rotation, "the rotation").copy_(
            (values.clamp_min(0) + _SMALLEST_EIGENVALUE).rsqrt()[:, None] * vectors.T
        )


def build_normalization(kind: Normalization, shape: LevelShape) -> nn.Module:
    """A normalization for one level.

    - ``layer_norm``: LayerNorm over (C, H, W) with a trained affine map for each value, as FastFlow and U-Flow use it;
    - ``counted_layer_norm``: the same, with its scales in the log-determinant, see ``log_det_map``;
    - ``standardize``: each channel to mean 0 and variance 1 over images and positions;
    - ``whiten``: each position and channel by its own mean and a shrunk variance, then PCA whitening of the channels;
    - ``none``: as it is.
    """
    if kind in ("layer_norm", "counted_layer_norm"):
        return (_CountedLayerNorm if kind == "counted_layer_norm" else _LayerNorm)(tuple(shape))
    if kind == "none":
        return nn.Identity()
    return _Fitted(shape, by_position=kind == "whiten", rotate=kind == "whiten")


def log_det_map(normalization: nn.Module) -> Tensor | float:
    """Each position's share of the ``log|det J|`` that a flow adds for its normalization, ``(H, W)``; mostly 0.

    Trained scales that the likelihood leaves out have no bound: smaller scales, made up for by the flow, lower the loss
    of any data. ``layer_norm`` leaves them out, as published; statistics that are fitted before are constants.
    """
    if isinstance(normalization, _CountedLayerNorm):
        return normalization.weight.abs().log().sum(0)
    return 0.0


def check_normalization(coupling: str, normalization: str) -> None:
    """Check that a flow of these couplings can learn the scales of its features.

    Raises:
        PydanticCustomError: the coupling scales all volumes alike, and the normalization is not fitted or not counted.
    """
    if coupling != "affine" and normalization in ("layer_norm", "none"):
        raise PydanticCustomError(
            "coupling",
            "coupling '{coupling}' cannot learn the scale of each feature and needs a normalization that is fitted to "
            "them; set 'normalization: standardize'",
            {"coupling": coupling},
        )


@torch.no_grad()
def fit_normalizations(normalizations: Iterable[nn.Module], passes: Passes) -> None:
    """Fit the normalizations that have statistics, one per level, in float64; two passes at most."""
    fitted = {level: module for level, module in enumerate(normalizations) if isinstance(module, _Fitted)}
    if not fitted:
        return
    totals: dict[int, Tensor] = {}
    squares: dict[int, Tensor] = {}
    images = 0
    for features in passes():
        images += len(features)
        for level in fitted:
            x = features.levels[level].double()
            totals[level] = totals.get(level, 0) + x.sum(0)
            squares[level] = squares.get(level, 0) + x.square().sum(0)
    still = {level: module.fit_moments(totals[level], squares[level], images) for level, module in fitted.items()}
    rotated = {level: module for level, module in fitted.items() if module.rotation is not None}
    covariances: dict[int, Tensor] = {}
    for features in passes() if rotated else ():
        for level, module in rotated.items():
            y = module(features.levels[level]).double()  # the rotation is still the identity
            positions = y.shape[2] * y.shape[3]
            covariance = torch.einsum("bchw,bdhw->cd", y, y) / (images * positions)
            covariances[level] = covariances.get(level, 0) + covariance
    for level, module in rotated.items():
        module.fit_rotation(covariances[level], still[level])
