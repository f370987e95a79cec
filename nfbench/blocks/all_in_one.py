"""The all-in-one flow step: one-sided coupling, global affine, fixed permutation.

The step is FrEIA's ``AllInOneBlock`` in the form used by U-Flow, FastFlow and CFLOW-AD (Ardizzone et al., FrEIA,
https://github.com/vislearn/FrEIA). With ``x1`` the first ``C - C//2`` channels (passive) and ``x2`` the others
(active):

1. ``a = 0.1 * subnet(x1, condition)``; its first half is the raw log-scale ``r``, its second half the shift ``t``;
2. ``s = clamp * tanh(r)`` (``outer``, FrEIA until 2023-08) or ``s = clamp * tanh(r / clamp)`` (``inner``, since then);
3. ``x2' = x2 * exp(s) + t``;
4. ``y = (concat(x1, x2') * g + o)``, per channel, with ``g = 0.1 * softplus_{beta=0.5}(G)``, initialized to ``g = 1``;
5. a fixed random permutation of the channels: a hard one is an index, a soft one a rotation from SO(C).

``log|det J| = sum(s) + H * W * sum(log g)``, one value per sample.

With two other couplings, ``log|det J|`` is the same for every input, so the step scales all volumes alike (arXiv
2510.09452):

- ``additive`` (NICE, arXiv 1410.8516): ``x2' = x2 + a``; the subnet predicts only ``a = t``;
- ``gin`` (Sorrenson et al., ICLR 2020): formula 3, with the mean over the channels of a position subtracted from ``s``.

For both, ``log|det J| = H * W * sum(log g)`` exactly.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from nfbench.blocks.exporting import full_precision
from nfbench.blocks.freia import InvertibleModule
from nfbench.blocks.subnets import Subnet

__all__ = ["AllInOneStep", "ClampRule", "Coupling", "Permutation"]

ClampRule = Literal["outer", "inner"]
Coupling = Literal["affine", "additive", "gin"]
Permutation = Literal["hard", "soft"]

_SUBNET_SCALE = 0.1
_SOFTPLUS_BETA = 0.5
_GLOBAL_SCALE_ONE = 2.0 * math.log(math.expm1(5.0))  # G for which g = 1


class AllInOneStep(InvertibleModule):
    """One-sided coupling with global affine and permutation, on ``(B, C, H, W)`` or ``(B, C)``.

    Args:
        dims_in: one shape without the batch axis, ``[(C, H, W)]`` or ``[(C,)]``.
        dims_c: shapes of the conditions, which are concatenated with the subnet's input along the channels.
        subnet: builds the subnet from ``C - C//2`` (+ condition) to ``2 * (C//2)`` channels, or to ``C//2`` if
            additive.
        generator: draws the permutation; equal generator states give equal steps.
        clamp: largest absolute log-scale.
        clamp_rule: where the clamp divides; see the module's docstring.
        permutation: ``hard`` (index) or ``soft`` (rotation).
        coupling: ``affine``, or ``additive`` or ``gin``, whose ``log|det J|`` does not depend on the input.

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
        coupling: Coupling = "affine",
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
        self.coupling = coupling
        self.splits = (channels - channels // 2, channels // 2)
        condition_channels = sum(condition[0] for condition in dims_c)
        predicted = 1 if coupling == "additive" else 2
        self.subnet = subnet(self.splits[0] + condition_channels, predicted * self.splits[1])
        per_channel = (1, channels, *(1 for _ in spatial))
        self.global_scale = nn.Parameter(torch.full(per_channel, _GLOBAL_SCALE_ONE))
        self.global_offset = nn.Parameter(torch.zeros(per_channel))
        if permutation == "hard":
            order, device = torch.randperm(channels, generator=generator, device="cpu"), torch.get_default_device()
            self.register_buffer("permutation", order.to(device))
            self.register_buffer("inverse_permutation", torch.argsort(order).to(device))
        rotation = _random_rotation(channels, generator) if permutation == "soft" else None
        self.register_buffer("rotation", rotation)

    def forward(
        self, x: Sequence[Tensor], c: Sequence[Tensor] = (), rev: bool = False, jac: bool = True
    ) -> tuple[tuple[Tensor], Tensor]:
        """Apply the step, or its inverse with ``rev``; see FrEIA's ``InvertibleModule.forward``."""
        if rev:
            y, log_det_map = self._inverse(x[0], c)
        else:
            y, log_det_map = self.transform(x[0], c)
        return (y,), log_det_map.reshape(y.shape[0], -1).sum(1)

    def output_dims(self, input_dims: list[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """The step keeps its input's shape."""
        return input_dims

    def transform(self, x: Tensor, c: Sequence[Tensor] = ()) -> tuple[Tensor, Tensor]:
        """Apply the step; return also the ``log|det J|`` of each position, ``(B, H, W)``, or ``(B,)`` for vectors."""
        x1, x2 = x.split(self.splits, dim=1)
        scale = self._scale()
        # under autocast, the subnet uses low precision; everything else uses that of the parameters
        x1, x2, a = (value.to(scale.dtype) for value in (x1, x2, self._subnet_output(x1, c)))
        orders = (self.permutation, self.inverse_permutation) if self.rotation is None else (None, None)
        if self.coupling == "affine":
            y, log_scale = _Affine.apply(x1, x2, a, scale, self.global_offset, *orders, self.clamp, self.clamp_rule)
        else:
            s, t = self._log_scale_and_shift(a)
            y = torch.cat([x1, x2 * s.exp() + t], dim=1) * scale + self.global_offset
            y = y if orders[0] is None else y.index_select(1, orders[0])
            log_scale = torch.zeros_like(y[:, 0])
        if self.rotation is not None:
            with full_precision(y):
                y = _rotate(y, self.rotation)
        return y, log_scale + scale.log().sum()

    def _inverse(self, y: Tensor, c: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        scale = self._scale()
        y = y.index_select(1, self.inverse_permutation) if self.rotation is None else _rotate(y, self.rotation.T)
        x1, coupled = ((y - self.global_offset) / scale).split(self.splits, dim=1)
        s, t = self._log_scale_and_shift(self._subnet_output(x1, c))
        x2 = (coupled - t) * torch.exp(-s)
        volume = s.sum(1) if self.coupling == "affine" else torch.zeros_like(y[:, 0])
        return torch.cat([x1, x2], dim=1), -(volume + scale.log().sum())

    def _log_scale_and_shift(self, subnet_output: Tensor) -> tuple[Tensor, Tensor]:
        """``s`` and ``t``; ``s`` is a broadcastable zero for an additive coupling."""
        if self.coupling == "additive":
            return subnet_output.new_zeros(()), _SUBNET_SCALE * subnet_output
        r, t = (_SUBNET_SCALE * subnet_output).chunk(2, dim=1)
        s = self.clamp * torch.tanh(r if self.clamp_rule == "outer" else r / self.clamp)
        return s if self.coupling == "affine" else s - s.mean(1, keepdim=True), t

    def _subnet_output(self, x1: Tensor, c: Sequence[Tensor]) -> Tensor:
        return self.subnet(torch.cat([x1, *c], dim=1) if len(c) else x1)

    def _scale(self) -> Tensor:
        return 0.1 * functional.softplus(self.global_scale, beta=_SOFTPLUS_BETA)


class _Affine(torch.autograd.Function):
    """Formulas 1 to 4 and the hard permutation of the module's docstring, given the subnet's output.

    Autograd would save and read twice as many tensors: it keeps concatenated, scaled and permuted copies, and pads the
        gradients of slices with zeros. Apart from the convolutions, memory traffic dominates the run time, not
        arithmetic.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x1: Tensor,
        x2: Tensor,
        subnet_output: Tensor,
        g: Tensor,
        o: Tensor,
        order: Tensor | None,
        inverse_order: Tensor | None,
        clamp: float,
        clamp_rule: ClampRule,
    ) -> tuple[Tensor, Tensor]:
        """Return ``y`` and the sum of ``s`` over channels, ``(B, H, W)``; all tensors have the same dtype."""
        splits = (x1.shape[1], x2.shape[1])
        r, t = subnet_output.chunk(2, dim=1)
        gain = _SUBNET_SCALE if clamp_rule == "outer" else _SUBNET_SCALE / clamp
        # tanh(v) = 2 * sigmoid(2 * v) - 1; PyTorch's sigmoid is six times as fast as its tanh on CPU
        tanh = (2 * gain * r).sigmoid_().mul_(2).sub_(1)
        exp_s = (clamp * tanh).exp_()
        (g1, g2), (o1, o2) = (value.split(splits, dim=1) for value in (g, o))
        if torch.compiler.is_exporting():  # writing into views is slow in graphs
            y2 = torch.addcmul(o2, (x2 * exp_s).add(t, alpha=_SUBNET_SCALE), g2)
            y = torch.cat([torch.addcmul(o1, x1, g1), y2], dim=1)
        else:
            y = x1.new_empty(x1.shape[0], sum(splits), *x1.shape[2:])
            y1, y2 = y.split(splits, dim=1)
            torch.addcmul(o1, x1, g1, out=y1)
            torch.mul(x2, exp_s, out=y2).add_(t, alpha=_SUBNET_SCALE)
            torch.addcmul(o2, y2, g2, out=y2)
        if order is not None:
            y = y.index_select(1, order)
        ctx.save_for_backward(x2, tanh, exp_s, g, o, y, inverse_order)
        ctx.slope = gain * clamp  # ds/da at 0
        return y, clamp * tanh.sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_y: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of ``x1``, ``x2``, ``a``, ``g`` and ``o``."""
        x2, tanh, exp_s, g, o, y, inverse_order = ctx.saved_tensors
        active = x2.shape[1]
        axes = [axis for axis in range(y.ndim) if axis != 1]
        grad_o = grad_y.sum(axes, keepdim=True)
        grad_y_times_y = (grad_y * y).sum(axes, keepdim=True)
        if inverse_order is not None:
            grad_y, grad_o, grad_y_times_y = (
                value.index_select(1, inverse_order) for value in (grad_y, grad_o, grad_y_times_y)
            )
        grad_g = (grad_y_times_y - o * grad_o) / g  # y = u * g + o: the sum of grad_y * u without saving u
        grad_x1, grad_x2 = (grad_y * g).split((y.shape[1] - active, active), dim=1)
        grad_a = x2.new_empty(x2.shape[0], 2 * active, *x2.shape[2:])
        grad_r, grad_t = grad_a.chunk(2, dim=1)
        torch.mul(grad_x2, _SUBNET_SCALE, out=grad_t)
        grad_x2.mul_(exp_s)
        # ds/da = slope * (1 - tanh^2); dx2'/ds = x2 * exp(s), and dlog|det J|/ds = 1
        torch.addcmul((ctx.slope * grad_log_det)[:, None], grad_x2, x2, value=ctx.slope, out=grad_r)
        torch.ops.aten.tanh_backward.grad_input(grad_r, tanh, grad_input=grad_r)
        return grad_x1, grad_x2, grad_a, grad_g, grad_o, None, None, None, None


def _rotate(y: Tensor, rotation: Tensor) -> Tensor:
    """Rotate the channels of ``(B, C)`` or ``(B, C, H, W)``."""
    return functional.linear(y, rotation) if y.ndim == 2 else torch.einsum("ij,bj...->bi...", rotation, y)


def _random_rotation(size: int, generator: torch.Generator | None) -> Tensor:
    """A matrix drawn from SO(size) by the Haar measure: QR with the signs of R's diagonal, determinant +1."""
    if torch.get_default_device().type == "meta":  # the step is only built to count its parameters
        return torch.empty(size, size)
    q, r = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    q = q * torch.sign(torch.diagonal(r))
    if torch.linalg.det(q) < 0:
        q[:, 0] = -q[:, 0]
    return q.float()
