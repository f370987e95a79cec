"""HGAD: one model of many classes with a hierarchical Gaussian mixture (Yao et al., ECCV 2024, arXiv 2403.13349).

Compared with the description of xcyao00/HGAD at fb935ef. The flows are those of CFLOW-AD. Let ``z`` be the latent of a
fibre, with ``D`` dimensions, in an image of class ``y``; ``mu`` the class centres with log-weights ``c = log
softmax(psi)``; ``delta`` the offsets and ``log softmax(phi)`` the log-weights of the Gaussians within a class; and
``sg`` the stop-gradient operator:

- inter-class mixture: ``L_g = (-logsumexp_y(-||z - mu_y||^2 / 2 + c_y) - log|det J|) / D``;
- mutual information, maximized: ``MI = sum_y t_y (log softmax_y(-||z - mu_y||^2 / 2 + sg(c)) - sg(c_y))``, with the
  one-hot label ``t`` smoothed by 0.02;
- entropy: ``L_e``, the entropy of ``softmax_y(-||z - mu_y||^2 / 2)``;
- intra-class mixture: ``L_in = (-logsumexp_i(-||z - sg(mu_y) - delta_i||^2 / 2 + log softmax(phi_y)_i)
  - log|det J|) / D``;
- only in the repository: ``L_z = -log sigmoid(logp_y(z) / D)``, with ``logp_y`` the log-density behind ``L_in``.

The loss is ``lambda1 L_g - lambda2 MI + L_e``, and ``+ L_in + L_z`` from the third of 25 meta-epochs on.

Score: the product of two maps, one of ``v = logp_y / D`` and one of ``v`` = minus the entropy. Each is ``max S - S``
    with ``S = sum_l Up(exp(v_l - max v_l))`` at 256 x 256 pixels, smoothed by a Gaussian; both maxima are over images
    of the class. High entropy is anomalous. The image score is the maximum of the map.

Deliberate deviations:

- The maxima are over the training images of the class; calibrating on the test images gives the published ones, over
  the class's test images. A sum above the training maximum is set to that maximum.
- Covariances are the identity, as in the repository; the paper's are learned.
- The repository sets a threefold learning rate for the centres, but its schedule overwrites it; here they have the
  common one.
- A meta-epoch is a share of the training instead of 8 passes, so its proportion is the same for any number of epochs.
- With one class, the entropy has no information; the score is that of the likelihood only.
"""

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.likelihood import FibreFlowMethod, FibreFlowSettings, normality_map, to_fibres
from nfbench.blocks.maps import resize_maps, smooth
from nfbench.blocks.method import HALF_LOG_TWO_PI, Batch, Batches, ParameterGroup, Scores, Tiny
from nfbench.blocks.modules import Modules
from nfbench.blocks.priors import ClassPrior, MixturePrior, Prior, StandardPrior
from nfbench.core.errors import NfbenchError

__all__ = ["HGAD", "METHOD", "HGADSettings"]

MEMORY = {"parameters": 130, "network": 4e6}
"""See ``nfbench.plan.memory``."""

_LABEL_SMOOTHING = 0.02


class HGADSettings(FibreFlowSettings):
    """Defaults of the repository; ``information_weight`` is 100 in its main results, 10 in ablations of the prior."""

    epochs: int = Field(200, ge=0, description="passes over the training images")
    batch_size: int = Field(8, ge=1, description="images per step, of all classes")
    betas: tuple[float, float] = Field((0.95, 0.99), description="decay rates of Adam's two moments")
    weight_decay: float = Field(1e-4, ge=0, description="L2 penalty of Adam, for the flows; the prior has none")
    coupling_blocks: int = Field(12, ge=1, description="steps per level")
    condition_dim: int = Field(256, ge=4, multiple_of=4, description="channels of the position code")
    prior: Literal["standard", "fixed", "mixture"] = Field(
        "mixture",
        description="prior of the latents: standard normal; fixed centres of classes; or a mixture of learned centres",
    )
    likelihood_weight: float = Field(1.0, ge=0, description="lambda1, weight of the likelihood under the prior")
    information_weight: float = Field(
        100.0, ge=0, description="lambda2, weight of the mutual information of latent and class"
    )
    entropy_weight: float = Field(1.0, ge=0, description="weight of the entropy of a latent's class")
    intra_centres: int = Field(10, ge=0, description="Gaussians within each class; 0 turns their losses off")
    extra_loss: bool = Field(True, description="add L_z, a loss of the repository that is not in the paper")
    intra_from: int = Field(2, ge=0, description="number of meta-epochs before the losses within classes start")
    criterion: Literal["likelihood", "entropy", "both"] = Field("both", description="quantity behind the maps")
    map_side: int = Field(256, ge=1, description="shorter side in pixels at which maps are smoothed and multiplied")
    smoothing: float = Field(
        4 / 256, ge=0, description="sigma of a Gaussian on each map, as a share of its shorter side"
    )

    @model_validator(mode="after")
    def _standard_normal_has_no_classes(self) -> "HGADSettings":
        of_classes = ("information_weight", "entropy_weight", "intra_centres")
        if self.prior == "standard" and (self.criterion != "likelihood" or any(getattr(self, k) for k in of_classes)):
            keys = ", ".join(f"'{key}: 0'" for key in of_classes)
            raise PydanticCustomError("no_classes", f"prior 'standard' needs {keys} and 'criterion: likelihood'")
        return self


class Criteria(NamedTuple):
    """Criteria of each position, ``(B, H_l, W_l)`` by level; higher is more normal."""

    likelihood: list[Tensor]
    """Log-likelihood given the class, in nats per dimension."""
    entropy: list[Tensor]
    """Minus the entropy of the class, in nats."""


class HGAD(FibreFlowMethod):
    """Conditional flows of fibres to a prior with centres for every class."""

    title = "HGAD"
    settings_type = HGADSettings
    takes_class = True
    settings: HGADSettings
    largest: Tensor
    tiny = Tiny({"coupling_blocks": 4, "condition_dim": 16, "criterion": "likelihood", "intra_from": 0})

    def build(self, generator: torch.Generator) -> None:
        """Build the flows, and the prior of each level."""
        super().build(generator)
        narrowest = min(shape.channels for shape in self.shapes)
        if self.n_classes > narrowest:
            raise NfbenchError(
                f"HGAD needs one latent direction per class: {self.n_classes} classes are too many for a "
                f"level of {narrowest} channels; give its backbone other 'levels'"
            )
        self.prior: Modules[Prior] = Modules(self._prior(shape.channels, generator) for shape in self.shapes)
        n_levels = len(self.shapes)
        self.register_buffer("reference", torch.zeros(2, n_levels, self.n_classes, dtype=torch.float64))
        self.register_buffer("largest", torch.full((2, self.n_classes), float(n_levels), dtype=torch.float64))

    def _prior(self, channels: int, generator: torch.Generator) -> Prior:
        if self.settings.prior == "standard":
            return StandardPrior()
        kind = MixturePrior if self.settings.prior == "mixture" else ClassPrior
        return kind(self.n_classes, channels, self.settings.intra_centres, generator)

    @property
    def loss_scale(self) -> float:
        """The sum of the loss weights (lambda2 is 100), so that the printed loss is a mean of its terms."""
        settings = self.settings
        return 1 + settings.likelihood_weight + settings.information_weight + settings.entropy_weight

    @property
    def criterion(self) -> str:
        """Return the criterion of the maps; with one class, ``likelihood``."""
        return self.settings.criterion if self.n_classes > 1 else "likelihood"

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one loss per level, over all positions of the batch."""
        settings, classes = self.settings, batch.features.required_classes
        of_classes = settings.information_weight > 0 or settings.entropy_weight > 0
        within_classes = settings.intra_centres > 0 and settings.meta_epoch(batch.progress) >= settings.intra_from
        for level, (x, prior) in enumerate(zip(batch.features.levels, self.prior, strict=True)):
            rows = torch.arange(len(x) * x.shape[2] * x.shape[3], device=x.device)
            z, log_det = self.encode(level, to_fibres(x), rows)
            z, log_det = z.view(len(x), -1, z.shape[1]), log_det.view(len(x), -1)
            likelihood = (prior.marginal(z, classes) + log_det).mean() / z.shape[2]
            loss = -settings.likelihood_weight * likelihood
            if of_classes:
                loss = loss + self._class_loss(prior, z, classes)
            yield loss + self._intra_loss(prior, z, log_det, classes) if within_classes else loss

    def _class_loss(self, prior: Prior, z: Tensor, classes: Tensor) -> Tensor:
        """``-lambda2 MI + L_e``."""
        energies = prior.class_energies(z)
        labels = functional.one_hot(classes, self.n_classes).to(z.dtype)
        labels = (1 - _LABEL_SMOOTHING) * labels + _LABEL_SMOOTHING / self.n_classes
        log_weights = prior.class_log_weights().detach()
        information = functional.log_softmax(energies + log_weights, 2) - log_weights
        mutual_information = (labels[:, None] * information).sum(2).mean()
        entropy = _entropy(energies).mean()
        return self.settings.entropy_weight * entropy - self.settings.information_weight * mutual_information

    def _intra_loss(self, prior: Prior, z: Tensor, log_det: Tensor, classes: Tensor) -> Tensor:
        """``L_in + L_z``."""
        per_dimension = (prior.conditional(z, classes) + log_det) / z.shape[2]
        loss = -per_dimension.mean()
        if self.settings.extra_loss:
            loss = loss - functional.logsigmoid(per_dimension - HALF_LOG_TWO_PI).mean()
        return loss

    def position_log_likelihoods(self, features: Features[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Latents, and log-likelihoods of positions given the class of the image, level by level."""
        for prior, (z, log_det) in zip(self.prior, self.encode_levels(features.levels), strict=True):
            energy = prior.conditional(z.flatten(2).transpose(1, 2), features.required_classes)
            yield z, (energy.view_as(log_det) + log_det) / z.shape[1] - HALF_LOG_TWO_PI

    def criteria(self, features: Features[Tensor]) -> Criteria:
        """Return the criteria that maps are built from; with one class, the entropies are 0."""
        found = Criteria([], [])
        for prior, (z, log_likelihood) in zip(self.prior, self.position_log_likelihoods(features), strict=True):
            found.likelihood.append(log_likelihood)
            certainty = torch.zeros_like(log_likelihood)
            if self.criterion != "likelihood":
                energies = prior.class_energies(z.flatten(2).transpose(1, 2))
                certainty = -_entropy(energies).view_as(log_likelihood)
            found.entropy.append(certainty)
        return found

    @torch.no_grad()
    def calibrate(self, passes: Batches) -> None:
        """Store the maxima over a set of images by class; classes without images keep theirs."""
        reference = self.reference.new_full(self.reference.shape, -torch.inf)
        for features in passes():
            maxima = [torch.stack([x.flatten(1).amax(1) for x in levels]) for levels in self.criteria(features)]
            _raise_to(reference, torch.stack(maxima), features.required_classes)
        seen = reference[0, 0].isfinite()
        self.reference[..., seen] = reference[..., seen]
        largest = self.largest.new_full(self.largest.shape, -torch.inf)
        for features in passes():
            _raise_to(largest, self._normality(features).flatten(2).amax(2), features.required_classes)
        self.largest[:, seen] = largest[:, seen]

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the product of the maps of likelihood and entropy, or one of them by ``criterion``, and its maximum.

        Maps of ``map_side`` are resized bilinearly to the input's size.
        """
        missing = (self.largest[:, features.required_classes, None, None] - self._normality(features)).clamp_min(0)
        sigma = self.settings.smoothing * min(self._side)
        by_likelihood, by_entropy = (smooth(x, sigma) for x in missing)
        maps = {"likelihood": by_likelihood, "entropy": by_entropy, "both": by_likelihood * by_entropy}[self.criterion]
        return Scores(resize_maps([maps], self.map_size)[0], maps.flatten(1).amax(1))

    @property
    def _side(self) -> tuple[int, int]:
        whole = min(self.map_size)
        height, width = (round(side * min(self.settings.map_side, whole) / whole) for side in self.map_size)
        return height, width

    def _normality(self, features: Features[Tensor]) -> Tensor:
        """``S`` of the likelihood and of the entropy, at ``map_side``, ``(2, B, H, W)``."""
        references = self.reference[..., features.required_classes, None, None]
        pairs = zip(self.criteria(features), references, strict=True)
        return torch.stack([normality_map(levels, reference, self._side) for levels, reference in pairs])

    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Return no shapes: the latents are not standard normal."""
        return []

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return the parameters of all levels' flows, and of their priors."""
        prior = [parameter for parameter in self.prior.parameters() if parameter.requires_grad]
        return {**super().parameter_groups(), **({"prior": prior} if prior else {})}

    def optimizer_groups(self) -> list[ParameterGroup]:
        """Return groups level by level: flows with weight decay, priors without."""
        return [*self.level_groups(self.flow, self.settings.weight_decay), *self.level_groups(self.prior)]


def _entropy(logits: Tensor) -> Tensor:
    """Return the entropy of ``softmax`` over the last axis, in nats."""
    log_p = functional.log_softmax(logits, -1)
    return -(log_p.exp() * log_p).sum(-1)


def _raise_to(maxima: Tensor, values: Tensor, classes: Tensor) -> None:
    """Raise ``maxima`` ``(..., K)`` to the largest of ``values`` ``(..., B)`` of images of the classes ``(B,)``."""
    index = classes.expand(values.shape)
    maxima.scatter_reduce_(-1, index, values.to(maxima.dtype), "amax")


METHOD = HGAD
