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
"""Share of a level's median variance; a channel with less variance gets no scale of its own."""
_ROUNDING = 1e-12
"""Share of a channel's mean square; a smaller variance counts as rounding error."""


class _LayerNorm(nn.LayerNorm):
    """LayerNorm whose absolute epsilon of 1e-5 stays small compared with the variance of features of any scale.

    Images whose variance is below ``_ORDINARY`` are scaled up to it first; for all others, the result equals PyTorch's.
    """

    def forward(self, x: Tensor) -> Tensor:
        flat = x.detach().flatten(1)
        rounding = _ROUNDING_OF_FLOAT32 * flat.square().mean(1)  # of a constant image
        factor = (_ORDINARY / flat.var(1, correction=0).maximum(rounding)).sqrt().clamp(1.0, _LARGEST_FACTOR)
        return super().forward(x * factor.view(-1, *[1] * (x.ndim - 1)))


class _CountedLayerNorm(_LayerNorm):
    """LayerNorm whose trained scales count in the likelihood."""


class _Fitted(nn.Module):
    """A fixed map ``rotation @ ((x - mean) / std)`` whose statistics come from the training features.

    Args:
        shape: shape of the features.
        by_position: use statistics for each position instead of each channel.
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

        By position, the variance is the mean of the position's own and the channel's. This avoids division by almost
        zero at positions that never change in training. A channel that is almost constant everywhere takes the level's
        median variance, so that its changes in a test image count as in any other channel and are not amplified.

        Returns:
            Mask of the almost constant channels, ``(C,)`` bool.
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

        Almost constant channels, ``still`` ``(C,)``, are not mixed with the others and have variance 1.
        """
        covariance[still] = covariance[:, still] = 0
        covariance.diagonal()[still] = 1
        values, vectors = torch.linalg.eigh(covariance)
        required(self.rotation, "the rotation").copy_(
            (values.clamp_min(0) + _SMALLEST_EIGENVALUE).rsqrt()[:, None] * vectors.T
        )


def build_normalization(kind: Normalization, shape: LevelShape) -> nn.Module:
    """Build a normalization for one level.

    - ``layer_norm``: LayerNorm over (C, H, W) with a trained affine map for each value, as FastFlow and U-Flow use it;
    - ``counted_layer_norm``: the same, with its scales counted in the log-determinant, see ``log_det_map``;
    - ``standardize``: each channel to mean 0 and variance 1 over images and positions;
    - ``whiten``: each position and channel with its own mean and a shrunk variance, then PCA whitening of the channels;
    - ``none``: no normalization.
    """
    if kind in ("layer_norm", "counted_layer_norm"):
        return (_CountedLayerNorm if kind == "counted_layer_norm" else _LayerNorm)(tuple(shape))
    if kind == "none":
        return nn.Identity()
    return _Fitted(shape, by_position=kind == "whiten", rotate=kind == "whiten")


def log_det_map(normalization: nn.Module) -> Tensor | float:
    """``log|det J|`` of the normalization at each position, which the flow adds to its own, ``(H, W)``; mostly 0.

    Trained scales that the likelihood ignores are unbounded: smaller scales, which the flow can compensate, lower the
        loss of any data. ``layer_norm`` ignores them, as published. Fitted statistics are constants.
    """
    if isinstance(normalization, _CountedLayerNorm):
        return normalization.weight.abs().log().sum(0)
    return 0.0


def check_normalization(coupling: str, normalization: str) -> None:
    """Check that a flow with these couplings can learn the scales of its features.

    Raises:
        PydanticCustomError: the coupling scales all volumes alike, and the normalization is neither fitted nor counted.
    """
    if coupling != "affine" and normalization in ("layer_norm", "none"):
        raise PydanticCustomError(
            "coupling",
            "coupling '{coupling}' cannot learn the scales of features and needs a fitted normalization; set "
            "'normalization: standardize'",
            {"coupling": coupling},
        )


@torch.no_grad()
def fit_normalizations(normalizations: Iterable[nn.Module], passes: Passes) -> None:
    """Fit the normalizations that use statistics, one per level, in float64, in at most two passes."""
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
