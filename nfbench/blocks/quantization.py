"""Vector quantization with codes that follow the mean of what they stand for (van den Oord et al., 2017, appendix A.1).

A vector is replaced by its nearest code. In training, with ``n_k`` vectors nearest to code ``k`` and ``decay`` 0.99:

    N_k <- decay N_k + (1 - decay) n_k,    m_k <- decay m_k + (1 - decay) sum of these vectors,
    code_k = m_k / N_k',    N_k' = (N_k + eps) / (sum_j N_j + K eps) * sum_j N_j

so codes take no gradient. Gradients pass to the vector as if it had not been replaced.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.exporting import full_precision

__all__ = ["Quantizer"]

_DECAY, _EPS = 0.99, 1e-5


class Quantizer(nn.Module):
    """Codes of one kind of vectors.

    Args:
        count: number ``K`` of codes.
        dim: their length ``D``.
        generator: draws the first codes from a standard normal.

    Attributes:
        codes: ``(K, D)``.
        counts: ``N_k``, ``(K,)``, 1 at first.
        sums: ``m_k``, ``(K, D)``, the codes at first.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor

    def __init__(self, count: int, dim: int, generator: torch.Generator) -> None:
        super().__init__()
        codes = torch.randn(count, dim, generator=generator, device=generator.device).to(torch.get_default_device())
        self.register_buffer("codes", codes)
        self.register_buffer("counts", torch.ones(count))
        self.register_buffer("sums", codes.clone())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Replace vectors ``(N, D)`` by their codes, and return the mean squared distance that pulls them there.

        In training, gradients pass and codes move after the batch was replaced. In evaluation, the result is constant
        around almost every ``x``, and its gradient is 0.
        """
        with full_precision(x):
            vectors = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
            numbers = self.nearest(vectors.detach())
            found = self.codes[numbers]
            commitment = (found - vectors).square().mean()
            if self.training:
                self._follow(vectors.detach(), numbers)
                found = vectors + (found - vectors).detach()
        return found, commitment

    @torch.no_grad()
    def nearest(self, x: Tensor) -> Tensor:
        """Number of the nearest code, ``(N,)``."""
        return (self.codes.square().sum(1) - 2 * x @ self.codes.T).argmin(1)

    @torch.no_grad()
    def _follow(self, x: Tensor, numbers: Tensor) -> None:
        belongs = functional.one_hot(numbers, len(self.codes)).to(x.dtype)
        self.counts.mul_(_DECAY).add_(belongs.sum(0).to(self.counts.dtype), alpha=1 - _DECAY)
        self.sums.mul_(_DECAY).add_((belongs.T @ x).to(self.sums.dtype), alpha=1 - _DECAY)
        total = self.counts.sum()
        smoothed = (self.counts + _EPS) / (total + len(self.counts) * _EPS) * total
        self.codes.copy_(self.sums / smoothed[:, None])
