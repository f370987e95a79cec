"""Adam (Kingma and Ba, ICLR 2015) by torch's own functional form.

``torch.optim.Adam`` imports torch's compiler with its first step, which costs more than a second in every job; the
function that it calls for the arithmetic does not. Steps are bit-equal to those of ``torch.optim.Adam`` with its
defaults, which a test holds it to.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

__all__ = ["Adam"]


class Adam:
    """Adam with L2 penalty.

    Args:
        parameters: what to optimize.
        lr: learning rate, may be changed between steps.
        weight_decay: L2 penalty.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], lr: float, weight_decay: float) -> None:
        self.parameters = list(parameters)
        self.lr = lr
        self.weight_decay = weight_decay
        self.first = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.second = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.steps = [torch.zeros(()) for _ in self.parameters]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """One step; parameters without a gradient stand still, as in torch."""
        chosen = [index for index, parameter in enumerate(self.parameters) if parameter.grad is not None]

        def pick(tensors: Sequence[Tensor]) -> list[Tensor]:
            return [tensors[index] for index in chosen]

        adam(
            pick(self.parameters),
            [parameter.grad for parameter in pick(self.parameters)],
            pick(self.first),
            pick(self.second),
            [],
            pick(self.steps),
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )

    def state_dict(self) -> dict[str, Any]:
        """Moments and step counts, for a checkpoint."""
        return {"first": self.first, "second": self.second, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over the moments and step counts of a checkpoint."""
        for ours, theirs in zip((self.first, self.second, self.steps), state.values(), strict=True):
            for tensor, value in zip(ours, theirs, strict=True):
                tensor.copy_(value)
