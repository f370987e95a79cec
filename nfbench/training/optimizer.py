"""Adam (Kingma and Ba, ICLR 2015) by torch's functional form, and any torch optimizer behind the same interface.

``torch.optim.Adam`` imports torch's compiler, which costs more than a second and 60 MB in every job; the function that
it calls for the arithmetic does not. Steps are bit-equal to those of ``torch.optim.Adam(fused=True)``, as a test
checks. No step waits for the device: learning rates are numbers, and step counts are tensors on the parameters' device.

Parameters at rest, which have no gradient in a step, do not move, as in torch since 2.0. With
``ParameterGroup.used_by`` they keep moving as in torch 1, whose ``zero_grad`` set gradients to zero: after their first
gradient, each step decays their moments and moves them by the decayed first moment. They are not read until their
module is called again, so all ``k`` steps at rest are taken just before that, in one pass. After ``t`` other steps,
step ``j`` at rest is

    p -= lr * a_j * m / (s_j * sqrt(v) + eps),  a_j = b1^j / (1 - b1^(t+j)),  s_j = sqrt(b2^j / (1 - b2^(t+j)))

and their sum is ``lr * S * m / (sqrt(v) + eps * B / S)`` with ``S = sum(a_j / s_j)`` and ``B = sum(a_j / s_j^2)``, up
to terms of second order in ``eps / sqrt(v)``. With weight decay, or without ``b1 < b2``, the steps are taken one by
one.
"""

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from nfbench.blocks.method import ParameterGroup

__all__ = ["Adam", "OwnOptimizer"]

_NEGLIGIBLE = 1e-17


class Adam:
    """Adam over groups of parameters; resumable.

    Args:
        groups: groups of parameters, each with its own learning rate factor and weight decay.
        lr: learning rate; each group multiplies it by its factor. It may be changed between steps.
        betas: decay rates of the two moments.
        eps: added to the root of the second moment.
    """

    def __init__(
        self,
        groups: Sequence[ParameterGroup],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self.groups = list(groups)
        self._lr = lr
        self.betas = betas
        self.eps = eps
        self.parameters = [parameter for group in self.groups for parameter in group.parameters]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]
        self._taken = [0] * len(self.parameters)  # the same numbers; reading them from a GPU is slow
        self._resting = [0] * len(self.parameters)  # pending steps at rest
        ends = list(itertools.accumulate(len(group.parameters) for group in self.groups))
        self._members = list(zip(self.groups, map(range, [0, *ends], ends), strict=False))
        self._hooks = [
            group.used_by.register_forward_pre_hook(lambda *_, of=(group, members): self._catch_up(*of))
            for group, members in self._members
            if group.used_by is not None
        ]

    @property
    def lr(self) -> float:
        """Learning rate of the next step."""
        return self._lr

    @lr.setter
    def lr(self, value: float) -> None:
        if value != self._lr:
            self.catch_up()
        self._lr = value

    def zero_grad(self) -> None:
        """Set all gradients to None."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters that have a gradient; those at rest move later or not at all."""
        for group, members in self._members:
            gradients = {index: grad for index in members if (grad := self.parameters[index].grad) is not None}
            self._step(group, list(gradients), list(gradients.values()))
            for index in members if group.used_by is not None else ():
                self._resting[index] += index not in gradients and self._taken[index] > 0

    def catch_up(self) -> None:
        """Take all pending steps at rest; call it before reading parameters without calling their module."""
        for group, members in self._members:
            self._catch_up(group, members)

    def close(self) -> None:
        """Take all pending steps at rest and remove the hooks from the modules."""
        self.catch_up()
        for hook in self._hooks:
            hook.remove()

    @torch.no_grad()
    def _catch_up(self, group: ParameterGroup, members: Iterable[int]) -> None:
        resting = [index for index in members if self._resting[index]]
        if group.weight_decay or self.betas[0] >= self.betas[1]:
            while resting:
                self._step(group, resting, [torch.zeros_like(self.parameters[index]) for index in resting])
                for index in resting:
                    self._resting[index] -= 1
                resting = [index for index in resting if self._resting[index]]
        alike: dict[tuple[int, int, int], list[int]] = {}
        for index in resting:
            alone = index if self.parameters[index].is_cpu else -1  # a CPU's cache holds one parameter at a time
            alike.setdefault((self._taken[index], self._resting[index], alone), []).append(index)
        for (taken, count, _), indices in alike.items():
            self._coast(indices, taken, count, group.lr_factor * self.lr)

    def _coast(self, chosen: list[int], taken: int, count: int, lr: float) -> None:
        """Take ``count`` steps at rest after ``taken`` other steps in one pass; see the module's docstring."""
        beta1, beta2 = self.betas
        factor, eps_factor = _factors_at_rest(self.betas, taken, count)
        parameters, first, second, steps = self._pick(chosen)
        roots = torch._foreach_sqrt(second)
        torch._foreach_add_(roots, self.eps * eps_factor)
        torch._foreach_addcdiv_(parameters, first, roots, value=-lr * factor)
        torch._foreach_mul_(first, beta1**count)
        torch._foreach_mul_(second, beta2**count)
        torch._foreach_add_(steps, count)
        for index in chosen:
            self._taken[index] += count
            self._resting[index] = 0

    def _pick(self, chosen: Sequence[int]) -> list[list[Tensor]]:
        """Return the chosen parameters, their first and second moments, and their step counts."""
        everything = (self.parameters, self.first, self.second, self.steps)
        return [[tensors[index] for index in chosen] for tensors in everything]

    def _step(self, group: ParameterGroup, chosen: list[int], gradients: list[Tensor]) -> None:
        lr = group.lr_factor * self.lr
        parameters, first, second, steps = self._pick(chosen)
        if group.decoupled:
            torch._foreach_mul_(parameters, 1 - lr * group.weight_decay)
        adam(
            parameters,
            gradients,
            first,
            second,
            [],
            steps,
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=lr,
            weight_decay=0.0 if group.decoupled else group.weight_decay,
            eps=self.eps,
            maximize=False,
            fused=True,
        )
        for index in chosen:
            self._taken[index] += 1

    def state_dict(self) -> dict[str, Any]:
        """Take all pending steps at rest; return moments and step counts for a checkpoint."""
        self.catch_up()
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the moments and step counts of a checkpoint."""
        for ours, theirs in zip((self.first, self.second, self.steps), state.values(), strict=True):
            for tensor, value in zip(ours, theirs, strict=True):
                tensor.copy_(value)
        self._taken = [int(steps) for steps in self.steps]


@functools.lru_cache(maxsize=64)
def _factors_at_rest(betas: tuple[float, float], taken: int, count: int) -> tuple[float, float]:
    """``S`` and ``B / S`` of the module's docstring, for ``count`` steps at rest after ``taken`` steps."""
    total = squared = 0.0
    for number in range(1, count + 1):
        scale = (betas[1] ** number / (1 - betas[1] ** (taken + number))) ** 0.5
        step = betas[0] ** number / (1 - betas[0] ** (taken + number)) / scale
        total += step
        squared += step / scale
        if step <= _NEGLIGIBLE * total:
            break
    return total, squared / total if total else 1.0


class OwnOptimizer:
    """A method's own torch optimizer, with the interface of ``Adam``.

    Args:
        optimizer: the optimizer; its groups keep the ratios of their learning rates to the first group's.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.zero_grad, self.step = optimizer.zero_grad, optimizer.step
        self.state_dict, self.load_state_dict = optimizer.state_dict, optimizer.load_state_dict
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._ratios = [group["lr"] / optimizer.param_groups[0]["lr"] for group in optimizer.param_groups]

    def catch_up(self) -> None:
        """Do nothing: torch's optimizer treats parameters at rest in its own way."""

    close = catch_up

    @property
    def lr(self) -> float:
        """Learning rate of the first group."""
        return self.optimizer.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group, ratio in zip(self.optimizer.param_groups, self._ratios, strict=True):
            group["lr"] = ratio * value
