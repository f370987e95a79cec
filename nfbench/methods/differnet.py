"""DifferNet: a flow on one vector per image, averaged over rotated views (Rudolph et al., WACV 2021, arXiv 2008.12577).

Compared with the description of marco-rudolph/differnet at 9bdf026; tests compare its coupling with FrEIA's.
Score: mean of z^2 over all views and dimensions. Map: gradient of the log-likelihood with respect to the image.

Deliberate deviations: views are fixed rotations, so features can be cached and scores are reproducible; the repository
    draws 4 rotations per training image and 64 per test image from all angles, and fixes them only for maps. The nets
    have no batch normalization, which the repository declares (12,288 parameters) but never applies. Maps use 8 views
    instead of 64, because each view costs a forward and backward pass through the backbone. The run's seed draws the
    permutations; the repository uses the same in every run.
"""

from collections.abc import Iterator, Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from nfbench.blocks.features import Features
from nfbench.blocks.glow import TwoSidedFlow, mlp_subnet
from nfbench.blocks.maps import GradientSettings
from nfbench.blocks.method import HALF_LOG_TWO_PI, Batch, Method, Scores, Tiny
from nfbench.blocks.settings import TrainedSettings
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "DifferNet", "DifferNetSettings"]

MEMORY = {"parameters": 200, "network": 1.45e8}
"""See ``nfbench.plan.memory``; most parameters are between the hidden layers."""

_HIDDEN_LAYERS = 3


class DifferNetSettings(TrainedSettings):
    """Defaults of the repository's configuration."""

    epochs: int = Field(192, ge=0, description="passes over the training images")
    batch_size: int = Field(24, ge=1, description="images per step")
    lr: float = Field(2e-4, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty of Adam")
    betas: tuple[float, float] = Field((0.8, 0.8), description="decay rates of Adam's two moments")
    eps: float = Field(1e-4, gt=0, description="term added to Adam's denominator to avoid division by zero")
    flow_steps: int = Field(8, ge=1, description="coupling blocks")
    hidden_channels: int = Field(2048, ge=1, description="width of the three hidden layers of the nets")
    clamp: float = Field(3.0, gt=0, description="largest absolute log-scale of a coupling")
    train_views: int = Field(
        4, ge=1, description="number of random views per image and training step; at most all views"
    )
    localization_views: int = Field(
        8,
        ge=1,
        description="number of fixed rotations averaged for an anomaly map; the paper's 64 cost eight times as much",
    )
    localization_sigma: float = Field(
        3.0, ge=0, description="sigma of a Gaussian on each view's gradient, in pixels of the image"
    )


class DifferNet(Method):
    """A flow on the spatial averages of all levels, concatenated to a vector of ``d`` values."""

    title = "DifferNet"
    settings_type = DifferNetSettings
    settings: DifferNetSettings
    tiny = Tiny({"hidden_channels": 24, "flow_steps": 4})
    search_space = {
        "lr": Range(low=1e-5, high=1e-2, log=True),
        "batch_size": Range(low=8, high=64),
        "flow_steps": Choices(choices=(4, 6, 8)),
        "hidden_channels": Choices(choices=(512, 1024, 2048)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the flow on the concatenated averages of all levels."""
        channels = sum(shape.channels for shape in self.shapes)
        if channels < 2:
            raise NfbenchError("method 'differnet' needs at least 2 channels over all levels; give the backbone more")
        subnets = [mlp_subnet(self.settings.hidden_channels, _HIDDEN_LAYERS)] * self.settings.flow_steps
        self.flow = TwoSidedFlow([(channels,)], subnets=subnets, generator=generator, clamp=self.settings.clamp)

    @property
    def views(self) -> int:
        """Return the number of views of each training image per step."""
        return self.settings.train_views

    @property
    def gradient_maps(self) -> GradientSettings:
        """Return the settings of the gradient maps (section 3.4)."""
        return GradientSettings(self.settings.localization_views, self.settings.localization_sigma)

    def loss(self, features: Features[Tensor]) -> Tensor:
        """Return the mean over all views of ``(||z||^2 / 2 - log|det J|) / d``."""
        return self._negative_log_likelihood(_pool(features.levels)).mean()

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Yield one loss, over ``train_views`` views of each image, drawn without replacement."""
        features, n_drawn = batch.features, self.settings.train_views
        first = features.levels[0]
        if first.ndim == 5 and first.shape[1] > n_drawn:
            drawn = torch.rand(first.shape[:2], generator=generator, device=generator.device).argsort(1)[:, :n_drawn]
            images = torch.arange(len(first), device=first.device)[:, None]
            features = features[images, drawn.to(first.device)]
        yield self.loss(features)

    def log_likelihood(self, features: Features[Tensor]) -> Tensor:
        """Return the mean log-density over the views, in nats per dimension, ``(B,)``; its gradient localizes."""
        return -self._negative_log_likelihood(_pool(features.levels)).mean(1) - HALF_LOG_TWO_PI

    def score(self, features: Features[Tensor]) -> Scores:
        """Return image scores. Maps are gradients with respect to the image and are computed elsewhere."""
        vectors = _pool(features.levels)
        (z,), _ = self.flow([vectors.flatten(0, 1)])
        return Scores(None, z.square().view(vectors.shape[0], -1).mean(1))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return all parameters, under the flow."""
        return {"flow": list(self.flow.parameters())}

    def latent_shapes(self) -> list[tuple[int, ...]]:
        """Shape of the latents: one vector per view."""
        return [tuple(shape) for shape in self.flow.dims_in]

    def _negative_log_likelihood(self, vectors: Tensor) -> Tensor:
        """Return the value of each view per dimension, up to a constant: ``(B, K, d)`` to ``(B, K)``."""
        return self.flow.negative_log_likelihood([vectors.flatten(0, 1)]).view(vectors.shape[:2])


def _pool(levels: Sequence[Tensor]) -> Tensor:
    """Average levels ``(B, K, C_l, H_l, W_l)`` over the image, ``(B, K, d)``; without an axis of views, K is 1."""
    pooled = [level.mean((-2, -1)) for level in levels]
    return torch.cat([vectors if vectors.ndim == 3 else vectors[:, None] for vectors in pooled], dim=2)


METHOD = DifferNet
