"""The all-in-one flow step: one-sided affine coupling, global affine, fixed permutation.

The step is FrEIA's ``AllInOneBlock`` in the form that U-Flow, FastFlow and CFLOW-AD use it (Ardizzone et al., FrEIA,
https://github.com/vislearn/FrEIA). With ``x1`` the first ``C - C//2`` channels (passive) and ``x2`` the others
(active):

1. ``a = 0.1 * subnet(x1, condition)``; its first half is the raw log-scale ``r``, its second half the shift ``t``;
2. ``s = clamp * tanh(r)`` (``outer``, FrEIA until 2023-08) or ``s = clamp * tanh(r / clamp)`` (``inner``, since then);
3. ``x2' = x2 * exp(s) + t``;
4. ``y = (concat(x1, x2') * g + o)``, per channel, with ``g = 0.1 * softplus_{beta=0.5}(G)``, started at ``g = 1``;
5. a permutation of the channels, drawn once: a hard one is an index, a soft one a rotation from SO(C).

``log|det J| = sum(s) + H * W * sum(log g)``, one value per sample.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from FrEIA.modules import InvertibleModule
from torch import Tensor, nn
from torch.nn import functional

from nfbench.flows.subnets import Subnet

__all__ = ["AllInOneStep", "ClampRule", "Permutation"]

ClampRule = Literal["outer", "inner"]
Permutation = Literal["hard", "soft"]

_SUBNET_SCALE = 0.1
_SOFTPLUS_BETA = 0.5
_GLOBAL_SCALE_ONE = 2.0 * math.log(math.expm1(5.0))  # G for which g = 1


class AllInOneStep(InvertibleModule):
    """One-sided affine coupling with global affine and permutation, on ``(B, C, H, W)`` or ``(B, C)``.

    Args:
        dims_in: one shape without the batch axis, ``[(C, H, W)]`` or ``[(C,)]``.
        dims_c: shapes of the conditions, which are concatenated to the subnet's input along the channels.
        subnet: builds the subnet from ``C - C//2`` (+ condition) to ``2 * (C//2)`` channels.
        generator: draws the permutation; the same generator state gives the same step.
        clamp: largest absolute log-scale.
        clamp_rule: where the clamp divides, see the module's description.
        permutation: ``hard`` (index) or ``soft`` (rotation).

    Raises:
        ValueError: fewer than two channels, or a condition whose spatial size differs from the input's.
    """

    def __init__(
        self,
        dims_in: Sequence[tuple[int, ...]],
        dims_c: Sequence[tuple[int, ...]] | None = None,
        *,
        subnet: Subnet,
        generator: torch.Generator | None = None,
        clamp: float = 2.0,
        clamp_rule: ClampRule = "outer",
        permutation: Permutation = "hard",
    ) -> None:
        dims_c = list(dims_c or [])
        super().__init__(dims_in, dims_c)
        channels, *spatial = dims_in[0]
        if channels < 2:
            raise ValueError(f"'dims_in' needs at least 2 channels to split, got {channels}")
        for condition in dims_c:
            if list(condition[1:]) != spatial:
                raise ValueError(f"'dims_c' {tuple(condition)} and 'dims_in' {tuple(dims_in[0])} differ in size")
        self.clamp = clamp
        self.clamp_rule = clamp_rule
        self.splits = (channels - channels // 2, channels // 2)
        condition_channels = sum(condition[0] for condition in dims_c)
        self.subnet = subnet(self.splits[0] + condition_channels, 2 * self.splits[1])
        per_channel = (1, channels, *(1 for _ in spatial))
        self.global_scale = nn.Parameter(torch.full(per_channel, _GLOBAL_SCALE_ONE))
        self.global_offset = nn.Parameter(torch.zeros(per_channel))
        if permutation == "hard":
            order = torch.randperm(channels, generator=generator)
            self.register_buffer("permutation", order)
            self.register_buffer("inverse_permutation", torch.argsort(order))
        else:
            self.register_buffer("rotation", _random_rotation(channels, generator))

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Applies the step, or its inverse with ``rev``; see FrEIA's ``InvertibleModule.forward``."""
        if rev:
            y, log_det_map = self._inverse(x[0], c)
        else:
            y, log_det_map = self.transform(x[0], c)
        return (y,), log_det_map.reshape(len(y), -1).sum(1)

    def output_dims(self, input_dims: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The step keeps its input's shape."""
        return input_dims

    def transform(self, x: Tensor, c: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """The forward direction with each position's share of ``log|det J|``, ``(B, H, W)``, or ``(B,)`` for vectors."""
        x1, x2 = x.split(self.splits, dim=1)
        log_scale, shift = self._coupling(x1, c)
        scale = self._scale()
        coupled = torch.addcmul(shift, x2, log_scale.exp())
        y = torch.addcmul(self.global_offset, torch.cat([x1, coupled], dim=1), scale)
        return self._permute(y), log_scale.sum(1) + scale.log().sum()

    def _inverse(self, y: Tensor, c: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        scale = self._scale()
        x = (self._unpermute(y) - self.global_offset) / scale
        x1, coupled = x.split(self.splits, dim=1)
        log_scale, shift = self._coupling(x1, c)
        x2 = (coupled - shift) * torch.exp(-log_scale)
        return torch.cat([x1, x2], dim=1), -(log_scale.sum(1) + scale.log().sum())

    def _coupling(self, x1: Tensor, c: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        a = self.subnet(torch.cat([x1, *c], dim=1) if len(c) else x1)
        raw, shift = (_SUBNET_SCALE * a).chunk(2, dim=1)
        if self.clamp_rule == "inner":
            raw = raw / self.clamp
        return self.clamp * torch.tanh(raw), shift

    def _scale(self) -> Tensor:
        return 0.1 * functional.softplus(self.global_scale, beta=_SOFTPLUS_BETA)

    def _permute(self, y: Tensor) -> Tensor:
        if hasattr(self, "permutation"):
            return y.index_select(1, self.permutation)
        return torch.einsum("ij,bj...->bi...", self.rotation, y)

    def _unpermute(self, y: Tensor) -> Tensor:
        if hasattr(self, "permutation"):
            return y.index_select(1, self.inverse_permutation)
        return torch.einsum("ji,bj...->bi...", self.rotation, y)


def _random_rotation(size: int, generator: torch.Generator | None) -> Tensor:
    """A matrix drawn from SO(size) by the Haar measure: QR with the signs of R's diagonal, determinant +1."""
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    q = q * torch.sign(torch.diagonal(r))
    if torch.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    return q.float()
