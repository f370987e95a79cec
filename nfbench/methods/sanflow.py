"""SANFlow: a semantic-aware base distribution with predicted variances (Kim et al., NeurIPS 2023).

Compared with the authors' slides (``form: paper``) and with the description of kdhRick2222/SANFlow at 0146283
(``form: repository``). A conditional flow per level, as in CFLOW-AD, maps the fibre of position ``i`` to ``z_i`` in
``R^C``. A statistics network on the image predicts ``alpha_i`` and ``beta_i`` of the position's variance, ``sigma_i^2 ~
IG(alpha_i, beta_i)``. With ``E[log sigma^2] = log beta - psi(alpha)`` and ``E[1/sigma^2] = alpha/beta``:

- normal positions: ``log p^n(z) = -C/2 log 2pi - C/2 (log beta - psi(alpha)) - alpha/(2 beta) |z|^2``;
- abnormal positions: ``log p^a(z)``, the same with ``|z - 1|^2``, since their mean is the vector of ones;
- ``L_NLL = -(1-m) log p^n - m log p^a - log|det J|``, with ``m`` = 1 at (pseudo-)abnormal positions;
- ``L_KL = KL(IG(alpha_i, beta_i) | IG(59.5, 6.05))``, a prior with mode 0.1;
- ``L_BCE``: cross-entropy of ``s = p^n / (p^n + p^a)`` with ``1 - m``;
- ``L = L_NLL + bce_weight L_BCE + kl_weight L_KL``.

The slides write ``log p^n`` for one channel. The ``C`` channels of a position share its variance, so ``log 2pi`` and
``log sigma^2`` count ``C`` times, here and in the repository.

Scores are divided by ``C`` and mapped by CFLOW-AD's ``likelihood_map``, without smoothing:

- ``score: mode``, the repository's: ``log N(z; 0, v) + log|det J|`` with the mode ``v = min(beta/(alpha+1), 5)``;
- ``score: expected``, the slides': ``log p^n(z)``, with ``E[log sigma^2]`` and ``E[1/sigma^2]`` in place of ``log v``
  and ``1/v``, and without ``log|det J|``.

``repository_loss`` is the repository's form, which differs in more than constants.

Deliberate deviations:

- The slides define the mask as the complement of the one in their formula and omit a minus before ``log p``; here, both
  are as above.
- The maximum in the score is over the training images; the published score, with the maximum over the test set, is
  reported next to it, as for CFLOW-AD.
- The paper's form is divided by ``C``. With Adam, this does not affect the flows; in the statistics network, all levels
  get equal weight, as in the repository's form.
- ``mean: estimated`` has no formula in the sources: here, a third output of the network is the mean ``mu_i`` of all
  channels at normal positions; at abnormal ones, the mean is ``mu_i + 1``.
- ``variance: fixed`` sets variance 1 and omits ``L_KL``; together with ``mixture: false``, it gives the plain
  likelihood of ``N(0, 1)``, Eq. 2.
- ``statistics_size`` resizes the image before the statistics network, which is slower than the flows on a CPU.

The paper's features are those of WRN-50-2 or WRN-101-2 with torchvision's weights and reflecting borders, levels 2 to
4, at 256 and 320 pixels, with the image itself (``workflow/experiments/sanflow_mvtec.yaml``).
"""

import math
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.all_in_one import Permutation
from nfbench.blocks.features import Features
from nfbench.blocks.likelihood import FibreFlowMethod, FibreFlowSettings, position_mask, to_fibres
from nfbench.blocks.maps import ImageRule
from nfbench.blocks.method import HALF_LOG_TWO_PI, Batch, Tiny

__all__ = [
    "METHOD",
    "PRIOR_ALPHA",
    "PRIOR_BETA",
    "Fibres",
    "SANFlow",
    "SANFlowSettings",
    "Statistics",
    "StatisticsNetwork",
    "Variance",
    "kl_to_prior",
    "paper_loss",
    "repository_loss",
]

MEMORY = {"network": 1.6e7}
"""See ``nfbench.plan.memory``; the nets also read the position code and the statistics."""

PRIOR_ALPHA, PRIOR_BETA = 59.5, 6.05  # p^2/2 - 1 and 0.1 p^2/2 with p = 11
_LOG_ALPHA_RANGE = (math.log(1e-8), math.log(1e4))
_LARGEST_VARIANCE = 5.0


class SANFlowSettings(FibreFlowSettings):
    """Defaults of the repository's read-me: 20 meta-epochs of 4 passes."""

    epochs: int = Field(80, ge=0, description="passes over the training images")
    meta_epochs: int = Field(20, ge=1, description="meta-epochs of the schedule 'warmup_cosine'")
    batch_size: int = Field(4, ge=1, description="images per step of each level")
    lr: float = Field(5e-4, gt=0, description="learning rate of Adam")
    condition_dim: int = Field(512, ge=4, multiple_of=4, description="channels of the position code")
    permutation: Permutation = Field("hard", description="fixed rotation of channels (soft), or permutation (hard)")
    form: Literal["paper", "repository"] = Field("repository", description="loss of the slides or of the repository")
    mean: Literal["fixed", "estimated"] = Field("fixed", description="mean of the latents: 0 and 1, or predicted")
    variance: Literal["fixed", "estimated"] = Field("estimated", description="variance of the latents: 1, or predicted")
    mixture: bool = Field(True, description="give abnormal positions their own likelihood (Eq. 3 and 5)")
    bce_weight: float = Field(
        0.2, ge=0, description="lambda_1, weight of the classification of positions, with 'mixture'"
    )
    kl_weight: float = Field(
        1.0, ge=0, description="lambda_2, weight of the divergence from the prior of estimated variances"
    )
    score: Literal["mode", "expected"] = Field(
        "mode", description="likelihood with the mode of the variance, or the slides' expected density of the latents"
    )
    statistics_size: int | None = Field(
        None, ge=8, description="shorter side in pixels of the resized image for the statistics network"
    )


class StatisticsNetwork(nn.Module):
    """A small residual network, ``(B, 3, H, W)`` to ``(B, outputs, H, W)``, with the design of VDNet."""

    def __init__(self, outputs: int = 2, width: int = 64) -> None:
        super().__init__()

        def convolution(channels_in: int, channels_out: int) -> nn.Conv2d:
            return nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False)

        self.first = nn.Sequential(convolution(3, width), nn.ReLU(inplace=True))
        body = [(convolution(width, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)) for _ in range(3)]
        self.body = nn.Sequential(*(layer for block in body for layer in block))
        self.last = convolution(width, outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Return raw statistics of each pixel."""
        first = self.first(image)
        return self.last(self.body(first) + first)


class Fibres(NamedTuple):
    """Encoded fibres of a batch.

    Attributes:
        z: latents ``(N, C)``.
        log_det: ``log|det J|`` ``(N,)``.
        abnormal: mask of (pseudo-)abnormal fibres, ``(N,)`` bool.
    """

    z: Tensor
    log_det: Tensor
    abnormal: Tensor


class Variance(NamedTuple):
    """Predicted variances of positions, ``IG(alpha, beta)``; tensors of one shape."""

    log_alpha: Tensor
    log_beta: Tensor

    @property
    def mode(self) -> Tensor:
        """``beta / (alpha + 1)``, at most 5."""
        return (self.log_beta.exp() / (self.log_alpha.exp() + 1)).clamp_max(_LARGEST_VARIANCE)


class Statistics(NamedTuple):
    """Predictions for positions, tensors of one shape; None for a fixed statistic."""

    variance: Variance | None
    mean: Tensor | None

    def flatten(self) -> "Statistics":
        """Flatten images, ``(B, H, W)`` each, to fibres, ``(B*H*W,)``."""
        variance = None if self.variance is None else Variance(*(x.flatten() for x in self.variance))
        return Statistics(variance, None if self.mean is None else self.mean.flatten())


class SANFlow(FibreFlowMethod):
    """Conditional flows to normal distributions whose variances a network predicts from the image."""

    title = "SANFlow"
    image_rule: ClassVar[ImageRule] = "max"
    settings_type = SANFlowSettings
    takes_image = True
    settings: SANFlowSettings
    tiny = Tiny({"coupling_blocks": 4, "condition_dim": 16, "form": "paper", "statistics_size": 8})

    def build(self, generator: torch.Generator) -> None:
        """Build the flows, and the network that predicts statistics."""
        settings = self.settings
        super().build(generator)
        predicts = "estimated" in (settings.mean, settings.variance)
        self.statistics = StatisticsNetwork(3 if settings.mean == "estimated" else 2) if predicts else None

    @property
    def takes_anomalies(self) -> bool:
        """Return whether abnormal positions have their own likelihood."""
        return self.settings.mixture

    @property
    def needs_anomalies(self) -> bool:
        """Return whether positions are classified, which needs anomalies."""
        return self.settings.mixture and self.settings.bce_weight > 0

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one loss per level, over all positions of the batch; each predicts the statistics again."""
        settings = self.settings
        loss = paper_loss if settings.form == "paper" else repository_loss
        bce_weight = settings.bce_weight if self.needs_anomalies else 0
        for level, x in enumerate(batch.features.levels):
            fibres = to_fibres(x)
            z, log_det = self.encode(level, fibres, torch.arange(len(fibres), device=x.device))
            abnormal = torch.zeros(len(fibres), dtype=torch.bool, device=x.device)
            if batch.masks is not None and settings.mixture:
                abnormal = position_mask(batch.masks, x.shape[2:]).flatten()
            statistics = self._predict(batch.features, x.shape[2:]).flatten()
            yield loss(Fibres(z, log_det, abnormal), statistics, bce_weight, settings.kl_weight)

    def position_log_likelihoods(self, features: Features[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Return latents divided by their predicted deviation, and log-likelihoods with the variance's mode."""
        for z, log_det in self.encode_levels(features.levels):
            predicted = self._predict(features, z.shape[2:])
            variance = torch.ones_like(log_det) if predicted.variance is None else predicted.variance.mode
            centred = z if predicted.mean is None else z - predicted.mean[:, None]
            standard = centred / variance.sqrt()[:, None]
            channels = z.shape[1]
            log_density = -channels * (HALF_LOG_TWO_PI + 0.5 * variance.log()) - 0.5 * standard.square().sum(1)
            yield standard, (log_density + log_det) / channels

    def scored_positions(self, features: Features[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Return log-likelihoods or expected log-densities of the latents, by ``score``, in nats per dimension."""
        for standard, log_likelihood in self.position_log_likelihoods(features):
            if self.settings.score == "mode":
                yield standard, log_likelihood
                continue
            variance, channels = self._predict(features, standard.shape[2:]).variance, standard.shape[1]
            distance = standard.square().sum(1) * (1 if variance is None else variance.mode)
            log_variance, precision = _expectations(variance, distance)
            yield standard, -HALF_LOG_TWO_PI - 0.5 * log_variance - 0.5 * precision * distance / channels

    def predicted_variances(self, features: Features[Tensor]) -> Tensor | None:
        """Return the modes of the variances at the network's resolution, ``(B, H, W)``; None where they are fixed."""
        variance = self._predict(features, self._statistics_size(features.required_image.shape[2:])).variance
        return None if variance is None else variance.mode

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters of all levels' flows, and of the statistics network."""
        groups = super().parameter_groups()
        return groups if self.statistics is None else {**groups, "statistics": list(self.statistics.parameters())}

    def _statistics_size(self, size: Sequence[int]) -> tuple[int, int]:
        """Return height and width of the image in the statistics network; ``statistics_size`` is the shorter side."""
        shorter = self.settings.statistics_size or min(size)
        height, width = (round(side * shorter / min(size)) for side in size)
        return height, width

    def _predict(self, features: Features[Tensor], size: Sequence[int]) -> Statistics:
        """Return the statistics of a level's positions by the nearest pixel, ``(B, H, W)`` each."""
        if self.statistics is None:
            return Statistics(None, None)
        image = features.required_image
        if self.settings.statistics_size is not None:
            image = functional.interpolate(image, self._statistics_size(image.shape[2:]), mode="area")
        raw = self.statistics(image).to(image.dtype)  # digamma and lgamma need more precision than autocast's bf16
        log_alpha, log_beta, *mean = functional.interpolate(raw, size, mode="nearest").unbind(1)
        if self.settings.variance == "fixed":
            return Statistics(None, *mean)
        return Statistics(Variance(log_alpha.clamp(*_LOG_ALPHA_RANGE), log_beta), mean[0] if mean else None)


def paper_loss(fibres: Fibres, statistics: Statistics, bce_weight: float, kl_weight: float) -> Tensor:
    """Return the slides' loss, divided by ``C``."""
    z, log_det, abnormal = fibres
    channels = z.shape[1]
    expected_log_variance, precision = _expectations(statistics.variance, log_det)
    constant = -channels * (HALF_LOG_TWO_PI + 0.5 * expected_log_variance)
    normal, anomalous = (constant - 0.5 * precision * distance for distance in _squared_distances(z, statistics.mean))
    loss = -torch.where(abnormal, anomalous, normal) - log_det
    if bce_weight:
        is_normal = (~abnormal).to(z.dtype)
        loss = loss + bce_weight * functional.binary_cross_entropy_with_logits(normal - anomalous, is_normal)
    if statistics.variance is not None:
        loss = loss + kl_weight * kl_to_prior(*statistics.variance)
    return loss.mean() / channels


def repository_loss(fibres: Fibres, statistics: Statistics, bce_weight: float, kl_weight: float) -> Tensor:
    """Return the repository's loss, ``mean(-log sigmoid(T / C))``, ``T = log p + log|det J| - L_KL - 0.2 CE``.

    Differences from the slides' loss: no 1/2 before ``log beta - psi(alpha)`` of normal positions; abnormal
    positions have the mode of the variance, without gradient; there, ``alpha / beta`` and ``log beta`` take no
    gradient in ``log p^n`` and ``L_KL`` either; the cross-entropy passes softmax twice.
    """
    z, log_det, abnormal = fibres
    channels = z.shape[1]
    distance_normal, distance_anomalous = _squared_distances(z, statistics.mean)
    constant = -channels * HALF_LOG_TWO_PI
    kl = torch.zeros_like(log_det)
    if statistics.variance is None:
        normal, anomalous = constant - 0.5 * distance_normal, constant - 0.5 * distance_anomalous
    else:
        log_alpha, log_beta = statistics.variance
        log_ratio, log_beta = (
            torch.where(abnormal, values.detach(), values) for values in (log_alpha - log_beta, log_beta)
        )
        normal = (
            constant - channels * (log_beta - torch.digamma(log_alpha.exp())) - 0.5 * log_ratio.exp() * distance_normal
        )
        variance = statistics.variance.mode.detach()
        anomalous = constant - 0.5 * distance_anomalous / variance - 0.5 * channels * variance.log()
        kl = _kl(log_alpha.exp(), log_beta, log_ratio.exp())
    total = torch.where(abnormal, anomalous, normal) + log_det - kl_weight * kl
    if bce_weight:
        probabilities = torch.stack([normal, anomalous], dim=1).softmax(1)
        total = total - bce_weight * functional.cross_entropy(probabilities, abnormal.long())
    return -functional.logsigmoid(total / channels).mean()


def kl_to_prior(log_alpha: Tensor, log_beta: Tensor) -> Tensor:
    """``KL(IG(alpha, beta) | IG(59.5, 6.05))`` in nats, element by element; 0 at the prior."""
    return _kl(log_alpha.exp(), log_beta, (log_alpha - log_beta).exp())


def _kl(alpha: Tensor, log_beta: Tensor, ratio: Tensor) -> Tensor:
    """Return the divergence, with ``ratio = alpha / beta`` given separately to stop its gradient."""
    return (
        (alpha - PRIOR_ALPHA) * torch.digamma(alpha)
        + math.lgamma(PRIOR_ALPHA)
        - torch.lgamma(alpha)
        + PRIOR_ALPHA * (log_beta - math.log(PRIOR_BETA))
        + PRIOR_BETA * ratio
        - alpha
    )


def _expectations(variance: Variance | None, like: Tensor) -> tuple[Tensor, Tensor]:
    """``E[log sigma^2]`` and ``E[1/sigma^2]``; 0 and 1, with the shape of ``like``, for a fixed variance."""
    if variance is None:
        return torch.zeros_like(like), torch.ones_like(like)
    log_alpha, log_beta = variance
    return log_beta - torch.digamma(log_alpha.exp()), (log_alpha - log_beta).exp()


def _squared_distances(z: Tensor, mean: Tensor | None) -> tuple[Tensor, Tensor]:
    """``|z - mu|^2`` and ``|z - mu - 1|^2`` of fibres ``(N, C)``, ``mu`` ``(N,)`` or 0."""
    centred = z if mean is None else z - mean[:, None]
    return centred.square().sum(1), (centred - 1).square().sum(1)


METHOD = SANFlow
