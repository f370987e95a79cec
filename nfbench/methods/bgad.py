"""BGAD: an explicit boundary of normality, learned with a few real anomalies (Yao et al., CVPR 2023, arXiv 2207.01463).

Compared with the description of xcyao00/BGAD at 2806d37. The flow is that of NFAD. Let ``l = logp / C`` be a fibre's
log-likelihood per dimension, and ``q = l / 10``:

- maximum likelihood: ``L_ml = mean_normal(w_n * -log sigmoid(l))``;
- boundary of each chunk: ``b_n``, the ``beta`` quantile of ``q`` of its normal fibres, and ``b_a = b_n - tau``;
- boundary-guided semi-push-pull: ``L_pull = mean(w_n * (b_n - q))`` over normal fibres with ``q <= b_n``, and
  ``L_push = mean(w_a * (q - b_a))`` over abnormal fibres with ``q >= b_a``; fibres beyond the margin have no loss;
- loss: ``L_ml + lambda * (L_pull + L_push)``, and ``L_ml`` for a chunk without abnormal fibres.

In the first of 25 meta-epochs, the loss is ``L_ml`` on normal images with all weights 1.
Score: that of NFAD.

Deliberate deviations:

- The warm-up of the learning rate is the intended one: the repository takes the length of a list of two loaders as the
  number of batches, so its rate follows a saw-tooth and exceeds the maximum by up to 1.4.
- Without abnormal fibres above their boundary, the push is 0; the repository's loss is NaN with the same gradients. A
  chunk without normal fibres has no boundary and is skipped; the repository stops.
- ``boundary: pull``, the variant without anomalies, also uses ``boundary_weight``; the repository's does not. Use it
  without focal weights (``focal: false``).
- Losses are means over the fibres beyond a boundary, with focal weights, as in the repository; the slides print sums.
- The focal weight of abnormal fibres has a pole at ``q = 0``; it is clipped at 100.
- In the first meta-epoch, batches come from the same list as later, without their anomalous images; the repository has
  a separate list.
- A meta-epoch is a share of the training instead of 8 passes, so its proportion is the same for any number of epochs.
- The mask's nearest pixel decides whether a fibre is abnormal, as in the repository: at a coarse level, an anomaly
  smaller than the stride may be missed.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from nfbench.blocks.likelihood import fibre_chunks, log_density, position_mask, to_fibres
from nfbench.blocks.method import Batch
from nfbench.methods.nfad import NFAD, NFADSettings

__all__ = ["BGAD", "METHOD", "BGADSettings", "abnormal_weight", "normal_weight", "semi_push_pull"]

_NORMAL_JOIN, _ABNORMAL_JOIN = -0.2, -1.0
_NORMAL_SCALE, _ABNORMAL_SCALE = 11.7, 0.53
_LARGEST_WEIGHT = 100.0


class BGADSettings(NFADSettings):
    """Defaults of the repository's commands; ``beta`` differs from the default of its configuration."""

    boundary: Literal["push-pull", "pull"] = Field(
        "push-pull",
        description="push abnormal fibres from the boundary too, or only pull normal fibres (no anomalies)",
    )
    beta: float = Field(0.01, gt=0, lt=1, description="share of normal fibres outside the boundary")
    margin: float = Field(0.1, ge=0, description="distance tau of the two boundaries, in normalized log-likelihood")
    normalizer: float = Field(
        10.0, gt=0, description="divisor of log-likelihoods per dimension; maps them to about [-1, 0]"
    )
    boundary_weight: float = Field(1.0, ge=0, description="lambda, weight of the semi-push-pull loss")
    focal: bool = Field(True, description="use weights that grow towards the boundary, for normal and abnormal fibres")


class BGAD(NFAD):
    """NFAD with a boundary that separates normal and abnormal fibres."""

    title = "BGAD"
    settings_type = BGADSettings
    settings: BGADSettings

    @property
    def takes_anomalies(self) -> bool:
        """Return whether abnormal fibres are pushed."""
        return self.settings.boundary == "push-pull"

    @property
    def needs_anomalies(self) -> bool:
        """Return ``takes_anomalies``."""
        return self.takes_anomalies

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one loss per chunk, level by level; skip chunks without normal fibres."""
        levels, masks = batch.features.levels, batch.masks
        guided = self.settings.meta_epoch(batch.progress) >= 1
        if masks is not None and not guided:
            anomalous = masks.flatten(1).any(1)
            normal_images = _false_rows(anomalous, anomalous.tolist().count(False))
            levels, masks = [x[normal_images] for x in levels], None
        for level, (x, chunks) in enumerate(zip(levels, self._chunks(levels, masks, generator), strict=True)):
            fibres = to_fibres(x)
            for rows, abnormal, n_normal in chunks:
                if n_normal:
                    z, log_det = self.encode(level, fibres, rows)
                    yield self._chunk_loss(log_density(z, log_det) / z.shape[1], abnormal, n_normal, guided)

    def _chunks(
        self, levels: Sequence[Tensor], masks: Tensor | None, generator: torch.Generator
    ) -> list[list[tuple[Tensor, Tensor, int]]]:
        """Return the chunks of each level: rows ``(N,)``, mask of abnormal fibres ``(N,)``, number of normal ones.

        All levels are counted at once, because each count makes the CPU wait for the GPU.
        """
        size = self.settings.fibre_batch
        rows = [torch.stack(list(fibre_chunks(x[:, 0].numel(), size, generator))) for x in levels]
        if masks is None:
            abnormal = [torch.zeros_like(of_level, dtype=torch.bool) for of_level in rows]
            n_normal = [of_level.shape[1] for of_level in rows for _ in of_level]
        else:
            at = [position_mask(masks, x.shape[2:]).flatten() for x in levels]
            abnormal = [of_level[chosen] for of_level, chosen in zip(at, rows, strict=True)]
            n_normal = torch.cat([(~of_level).sum(1) for of_level in abnormal]).tolist()
        counts = iter(n_normal)
        return [
            list(zip(chosen, of_level, islice(counts, len(chosen)), strict=True))
            for chosen, of_level in zip(rows, abnormal, strict=True)
        ]

    def _chunk_loss(self, log_likelihood: Tensor, abnormal: Tensor, n_normal: int, guided: bool) -> Tensor:
        """Return the loss of fibres, from their log-likelihoods per dimension and the abnormal ones, ``(N,)`` each."""
        settings = self.settings
        q = log_likelihood / settings.normalizer
        normal = _false_rows(abnormal, n_normal)
        weights = torch.ones_like(q)
        if guided and settings.focal:
            weights = torch.where(abnormal, abnormal_weight(q), normal_weight(q)).detach()
        likelihood_loss = -(weights * functional.logsigmoid(log_likelihood))[normal].mean()
        if not guided or (self.takes_anomalies and n_normal == len(abnormal)):
            return likelihood_loss
        boundary = q[normal].detach().sort().values[int(settings.beta * n_normal)]
        pull, push = semi_push_pull(q, abnormal, weights, boundary, settings.margin)
        return likelihood_loss + settings.boundary_weight * (pull + push)


def semi_push_pull(
    q: Tensor, abnormal: Tensor, weights: Tensor, boundary: Tensor, margin: float
) -> tuple[Tensor, Tensor]:
    """Return the boundary-guided semi-push-pull loss of a chunk.

    Args:
        q: normalized log-likelihoods ``(N,)``.
        abnormal: which fibres are abnormal, ``(N,)`` bool.
        weights: weights of the fibres, ``(N,)``.
        boundary: boundary of normal fibres, the ``beta`` quantile of their ``q``; a scalar without gradient.
        margin: distance from it down to the boundary of abnormal fibres.

    Returns:
        The pull on normal and the push on abnormal fibres, each a mean over the fibres on the wrong side of their
        boundary; 0 without such fibres.
    """
    pulled = ~abnormal & (q <= boundary)
    pushed = abnormal & (q >= boundary - margin)
    pull = weights * (boundary - q)
    push = weights * (q - (boundary - margin))
    return _mean_over(pull, pulled), _mean_over(push, pushed)


def normal_weight(q: Tensor) -> Tensor:
    """Focal weight of normal fibres: 1 above -0.2, below it ``11.7 * sqrt(1 - e^q) * |q|``, which grows."""
    below = q.clamp_max(_NORMAL_JOIN)
    return torch.where(q > _NORMAL_JOIN, 1.0, _NORMAL_SCALE * (1 - below.exp()).sqrt() * below.abs())


def abnormal_weight(q: Tensor) -> Tensor:
    """Focal weight of abnormal fibres: 1 up to -1, above it ``0.53 * (1 + e^q)^2 / |q|``, at most 100."""
    above = q.clamp_min(_ABNORMAL_JOIN)
    weight = (_ABNORMAL_SCALE * (1 + above.exp()).square() / above.abs()).clamp_max(_LARGEST_WEIGHT)
    return torch.where(q <= _ABNORMAL_JOIN, 1.0, weight)


def _false_rows(values: Tensor, count: int) -> Tensor:
    """Return the ascending rows of the ``count`` False values in ``(N,)``; knowing ``count`` avoids a wait."""
    return values.argsort(stable=True)[:count]


def _mean_over(values: Tensor, chosen: Tensor) -> Tensor:
    """Return the mean of the chosen values; without any, 0 with a gradient of 0."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


METHOD = BGAD
