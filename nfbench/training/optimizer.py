"""Adam (Kingma and Ba, ICLR 2015) by torch's own functional form, and any optimizer of torch behind the same interface.

``torch.optim.Adam`` imports torch's compiler with its first step, which costs more than a second in every job; the
function that it calls for the arithmetic does not. Steps are bit-equal to those of ``torch.optim.Adam(fused=True)``,
which a test holds it to.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from nfbench.blocks.method import ParameterGroup
from nfbench.core.errors import required

__all__ = ["Adam", "OwnOptimizer"]


class Adam:
    """Adam over groups of parameters; resumable.

    Args:
        groups: what to optimize, each group by its own learning rate and weight decay.
        lr: learning rate, may be changed between steps; groups take it times their factor.
        betas: decay of the two moments.
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
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.parameters = [parameter for group in self.groups for parameter in group.parameters]
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros((), device=parameter.device) for parameter in self.parameters]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step; parameters without a gradient stand still, as in torch."""
        first = 0
        for group in self.groups:
            last = first + len(group.parameters)
            self._step(group, [index for index in range(first, last) if self.parameters[index].grad is not None])
            first = last

    def _step(self, group: ParameterGroup, chosen: list[int]) -> None:
        def pick(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [tensors[index] for index in chosen]

        lr = group.lr_factor * self.lr
        if group.decoupled:
            for parameter in pick(self.parameters):
                parameter.mul_(1 - lr * group.weight_decay)
        adam(
            pick(self.parameters),
            [required(parameter.grad, "a gradient") for parameter in pick(self.parameters)],
            pick(self.first),
            pick(self.second),
            [],
            pick(self.steps),
            amsgrad=False,
            beta1=self.betas[0],
            beta2=self.betas[1],
            lr=lr,
            weight_decay=0.0 if group.decoupled else group.weight_decay,
            eps=self.eps,
            maximize=False,
            fused=True,
        )

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts, for a checkpoint."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over the moments and step counts of a checkpoint."""
        for ours, theirs in zip((self.first, self.second, self.steps), state.values(), strict=True):
            for tensor, value in zip(ours, theirs, strict=True):
                tensor.copy_(value)


class OwnOptimizer:
    """An optimizer of torch that a method brings, with the interface of ``Adam``.

    Args:
        optimizer: its groups keep the ratio of their learning rates to that of the first.
    """

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer
        self.zero_grad, self.step = optimizer.zero_grad, optimizer.step
        self.state_dict, self.load_state_dict = optimizer.state_dict, optimizer.load_state_dict
        self.parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        self._ratios = [group["lr"] / optimizer.param_groups[0]["lr"] for group in optimizer.param_groups]

    @property
    def lr(self) -> float:
        """Learning rate of the first group."""
        return self.optimizer.param_groups[0]["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group, ratio in zip(self.optimizer.param_groups, self._ratios, strict=True):
            group["lr"] = ratio * value
