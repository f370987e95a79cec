"""Two-sided affine couplings after Glow (Kingma and Dhariwal, NeurIPS 2018), on one tensor or on several at once.

CS-Flow and DifferNet use the same step. It takes a list of tensors with ``C`` channels each, one per scale:

1. the channels of each tensor are permuted in a fixed random order;
2. with ``x1`` the first ``C//2`` channels and ``x2`` the others, ``s, t = net2(x2)`` and ``y1 = x1 * exp(a(s)) + t``;
3. ``s, t = net1(y1)`` and ``y2 = x2 * exp(a(s)) + t``;
4. ``y = concat(y1, y2)``, clipped at ``+-1e6`` so that the scores of outliers stay finite.

The log-scale is ``a(s) = clamp * 0.636 * atan(s / clamp)``, within ``+-clamp``. Each net sees all tensors at once and
thereby couples the scales. ``log|det J|`` is the sum of ``a(s)`` over both sides and all tensors, one value per sample.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nfbench.blocks.freia import InvertibleModule

__all__ = ["ListSubnet", "TwoSidedCoupling", "TwoSidedFlow", "TwoSidedStep", "mlp_subnet", "permute"]

ListSubnet = Callable[[int, int], nn.Module]
"""Build a network from ``channels_in`` to ``channels_out``; it maps lists of tensors and keeps the spatial sizes."""

_ATAN_TO_ONE = 0.636  # 2 / pi, with the published digits
_LIMIT = 1e6
"""Largest absolute value of an output; keeps the scores of outliers finite."""


class TwoSidedCoupling(InvertibleModule):
    """Permutation and two-sided coupling of a list of tensors; subclasses build nets and draw permutations.

    Attributes:
        net1, net2: map the first and the second half of the channels of all tensors to log-scales and shifts of the
        other half.
        clamp: largest absolute log-scale.
    """

    net1: nn.Module
    net2: nn.Module
    clamp: float

    @property
    @abstractmethod
    def orders(self) -> Sequence[Tensor]:
        """Permutation of the channels of each tensor."""

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[list[Tensor], Tensor]:
        """Apply the step, or its inverse with ``rev``; the inverse is valid for outputs that were not clipped."""
        if rev:
            return self._inverse(x, c)
        x1, x2 = _halves(permute(x, self.orders, self._inverses))
        y1, log_det1 = _couple(x1, self.predict(self.net2, x2, c), self.clamp)
        y2, log_det2 = _couple(x2, self.predict(self.net1, y1, c), self.clamp)
        return [y.clamp(-_LIMIT, _LIMIT) for y in _join(y1, y2)], log_det1 + log_det2

    def output_dims(self, input_dims: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The step keeps its inputs' shapes."""
        return input_dims

    def predict(self, net: nn.Module, x: Sequence[Tensor], c: Sequence[Tensor]) -> list[Tensor]:
        """Call a net on one half of all tensors; by default without the conditions."""
        return net(x)

    def _inverse(self, y: Sequence[Tensor], c: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        y1, y2 = _halves(y)
        x2, log_det2 = _couple(y2, self.predict(self.net1, y1, c), self.clamp, rev=True)
        x1, log_det1 = _couple(y1, self.predict(self.net2, x2, c), self.clamp, rev=True)
        return permute(_join(x1, x2), self._inverses, self.orders), log_det1 + log_det2

    @property
    def _inverses(self) -> list[Tensor]:
        return [order.argsort() for order in self.orders]


class TwoSidedStep(TwoSidedCoupling):
    """Permutation and two-sided coupling of a list of tensors ``(B, C, H_l, W_l)`` or ``(B, C)``.

    Args:
        dims_in: shapes without the batch axis, all with the same ``C``.
        dims_c: conditions; not supported.
        subnet: builds ``net2`` from ``C - C//2`` to ``2 * (C//2)`` channels, and ``net1`` the other way round.
        generator: draws the permutations, one after the other.
        clamp: largest absolute log-scale.

    Raises:
        ValueError: fewer than two channels, different numbers of channels, or a condition.
    """

    def __init__(
        self,
        dims_in: Sequence[tuple[int, ...]],
        dims_c: Sequence[tuple[int, ...]] | None = None,
        *,
        subnet: ListSubnet,
        generator: torch.Generator,
        clamp: float = 3.0,
    ) -> None:
        super().__init__(dims_in, dims_c)
        channels = dims_in[0][0]
        if channels < 2 or any(shape[0] != channels for shape in dims_in):
            raise ValueError(f"'dims_in' needs the same number of channels, at least 2; got {list(dims_in)}")
        if dims_c:
            raise ValueError("'dims_c' must be empty: the step takes no condition")
        self.clamp = clamp
        first, second = channels // 2, channels - channels // 2
        self.net1 = subnet(first, 2 * second)
        self.net2 = subnet(second, 2 * first)
        orders = [torch.randperm(channels, generator=generator, device=generator.device) for _ in dims_in]
        self.register_buffer("permutations", torch.stack(orders))

    @property
    def orders(self) -> Sequence[Tensor]:
        """Permutation of the channels of each tensor."""
        return list(self.permutations)


class TwoSidedFlow(InvertibleModule):
    """A sequence of two-sided steps from a list of features to independent standard normal latents of the same shapes.

    Args:
        dims_in: shapes without the batch axis, all with the same number of channels.
        dims_c: conditions; not supported.
        subnets: builder of the nets of each step; their number is the number of steps.
        generator: draws the permutations, step by step.
        clamp: largest absolute log-scale.
    """

    def __init__(
        self,
        dims_in: Sequence[tuple[int, ...]],
        dims_c: Sequence[tuple[int, ...]] | None = None,
        *,
        subnets: Sequence[ListSubnet],
        generator: torch.Generator,
        clamp: float = 3.0,
    ) -> None:
        super().__init__(dims_in, dims_c)
        self.dimensions = sum(math.prod(shape) for shape in dims_in)
        self.steps = nn.ModuleList(
            TwoSidedStep(dims_in, dims_c, subnet=subnet, generator=generator, clamp=clamp) for subnet in subnets
        )

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[list[Tensor], Tensor]:
        """Apply all steps, or their inverses from the last to the first; ``log|det J|`` is ``(B,)``."""
        y, log_det = list(x), x[0].new_zeros(x[0].shape[0])
        for step in reversed(self.steps) if rev else self.steps:
            y, step_log_det = step(y, rev=rev)
            log_det = log_det + step_log_det
        return y, log_det

    def output_dims(self, input_dims: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The flow keeps its inputs' shapes."""
        return input_dims

    def negative_log_likelihood(self, x: Sequence[Tensor]) -> Tensor:
        """``(||z||^2 / 2 - log|det J|) / D``, ``(B,)``, nats per dimension without the constant ``log(2 pi) / 2``."""
        latents, log_det = self(x)
        energy = 0.5 * sum(z.square().flatten(1).sum(1) for z in latents)
        return (energy - log_det) / self.dimensions


def _couple(x: Sequence[Tensor], raw: Sequence[Tensor], clamp: float, rev: bool = False) -> tuple[list[Tensor], Tensor]:
    """Apply one side of a two-sided coupling, or invert it with ``rev``; return also its ``log|det J|``, ``(B,)``.

    Args:
        x: tensors to scale and shift, ``(B, C_l, ...)``.
        raw: ``s`` and ``t`` of each tensor, predicted from the other side, ``(B, 2 C_l, ...)``.
        clamp: largest absolute log-scale.
        rev: invert.
    """
    y, log_det = [], x[0].new_zeros(x[0].shape[0])
    for value, r in zip(x, raw, strict=True):
        # under autocast, the nets use low precision; everything else uses that of the features
        s, t = r.to(value.dtype).chunk(2, dim=1)
        log_scale = clamp * _ATAN_TO_ONE * torch.atan(s / clamp)
        y.append((value - t) * torch.exp(-log_scale) if rev else value * torch.exp(log_scale) + t)
        log_det = log_det + log_scale.flatten(1).sum(1)
    return y, -log_det if rev else log_det


def mlp_subnet(hidden_channels: int, hidden_layers: int) -> ListSubnet:
    """Linear layers with ReLU between them, applied to each vector of a list separately.

    Args:
        hidden_channels: width of the hidden layers.
        hidden_layers: number of hidden layers, at least 1.

    Returns:
        A builder for lists of vectors, ``(B, C_in) -> (B, C_out)``.
    """

    def build(channels_in: int, channels_out: int) -> nn.Module:
        layers: list[nn.Module] = []
        for layer in range(hidden_layers):
            layers += [nn.Linear(hidden_channels if layer else channels_in, hidden_channels), nn.ReLU(inplace=True)]
        return _OnEach(*layers, nn.Linear(hidden_channels, channels_out))

    return build


class _OnEach(nn.Sequential):
    """Applies its layers to each tensor of a list."""

    def forward(self, x: Sequence[Tensor]) -> list[Tensor]:
        apply = super().forward
        return [apply(value) for value in x]


def permute(x: Sequence[Tensor], orders: Iterable[Tensor], inverses: Iterable[Tensor]) -> list[Tensor]:
    """Permute the channels of each tensor; ``inverses`` are the inverse orders."""
    return [_Permutation.apply(*arguments) for arguments in zip(x, orders, inverses, strict=True)]


class _Permutation(torch.autograd.Function):
    """Permutation of channels. The backward pass uses the inverse order; torch would add gradients up by index."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return x.index_select(1, order)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return _Permutation.apply(gradient, inverse, order), None, None


def _halves(x: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The first ``C//2`` channels of each tensor, and the others."""
    halves = [value.tensor_split([value.shape[1] // 2], dim=1) for value in x]
    return [first for first, _ in halves], [second for _, second in halves]


def _join(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    return [torch.cat(halves, dim=1) for halves in zip(first, second, strict=True)]
