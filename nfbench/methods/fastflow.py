"""FastFlow: one convolutional flow per feature level (Yu et al., 2021, arXiv 2111.07677).

There is no official code; compared with gathierry/FastFlow at 2cf1f2f, and with anomalib's port by tests.
Score: 1 - mean over levels of exp(-mean_c(z^2) / 2), up-sampled; see ``FlowMethod.level_maps``.

Deliberate deviations: maps are ``1 - p`` instead of gathierry/FastFlow's ``-p``. The paper does not mention the trained
    LayerNorm of the features; gathierry/FastFlow found it necessary for transformers.
"""

from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from nfbench.blocks.all_in_one import AllInOneStep
from nfbench.blocks.features import Features
from nfbench.blocks.flow_method import SteppedFlowMethod, SteppedFlowSettings
from nfbench.blocks.freia import SequenceINN
from nfbench.blocks.method import HALF_LOG_TWO_PI, LevelShape
from nfbench.blocks.normalization import log_det_map

__all__ = ["METHOD", "FastFlow", "FastFlowSettings"]


class FastFlowSettings(SteppedFlowSettings):
    """Defaults of gathierry/FastFlow for CNNs (configs/*.yaml, constants.py)."""

    epochs: int = Field(500, ge=0, description="passes over the training images")
    batch_size: int = Field(32, ge=1, description="images per step")
    lr: float = Field(1e-3, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty of Adam, also on LayerNorm")
    drop_last: bool = Field(True, description="leave out the last, incomplete batch of an epoch")
    flow_steps: int = Field(8, ge=1, description="steps per level")
    score: Literal["density", "likelihood"] = Field(
        "density", description="anomaly map: 1 - exp(-mean(z^2) / 2) as published, or the negative log-likelihood"
    )


class FastFlow(SteppedFlowMethod):
    """Independent flows of ``flow_steps`` all-in-one steps, one per level."""

    title = "FastFlow"
    settings_type = FastFlowSettings
    settings: FastFlowSettings
    flow: nn.ModuleList
    backbone_settings = {"resnet18": {"kernels": "3x3"}}

    def build_flow(self, generator: torch.Generator) -> nn.ModuleList:
        """Build one sequence of steps per level."""
        return nn.ModuleList(self._level(shape, generator) for shape in self.shapes)

    def _level(self, shape: LevelShape, generator: torch.Generator) -> SequenceINN:
        level = SequenceINN(*shape)
        for index in range(self.settings.flow_steps):
            level.append(AllInOneStep, **self.step_arguments(index, generator))
        return level

    def encode(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Encode each level by its own flow, and sum the log-determinants."""
        encoded = [flow(x) for flow, x in zip(self.flow, levels, strict=True)]
        return [z for z, _ in encoded], sum(log_det for _, log_det in encoded)

    def level_maps(self, features: Features[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return published maps; with ``score: likelihood``, ``||z||^2 / 2 - log|det J|`` by position.

        A user of gathierry/FastFlow (issue 4) reports steadier curves with the log-determinant in the score.
        """
        if self.settings.score == "density":
            return super().level_maps(features)
        encoded = self._encode_positions(features)
        return [level_map for level_map, _ in encoded], [z for _, z in encoded]

    def position_log_likelihoods(self, features: Features[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Return latents and log-likelihoods, with the volume change of each position's own channels in all steps."""
        for energy, z in self._encode_positions(features):
            yield z, -energy / z.shape[1] - HALF_LOG_TWO_PI

    def _encode_positions(self, features: Features[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return ``||z||^2 / 2 - log|det J|`` of each position, ``(B, H_l, W_l)``, and latents, level by level."""
        levels = zip(self.flow, self.normalize(features), self.normalization, strict=True)
        encoded = [_encode_positions(flow, x, log_det_map(norm)) for flow, x, norm in levels]
        if self.base:
            relative = [base(z) for base, (z, _) in zip(self.base, encoded, strict=True)]
            pairs = zip(relative, encoded, strict=True)
            encoded = [(z, log_det + own) for (z, own), (_, log_det) in pairs]
        return [(0.5 * z.square().sum(1) - log_det, z) for z, log_det in encoded]


def _encode_positions(flow: SequenceINN, x: Tensor, counted: Tensor | float) -> tuple[Tensor, Tensor]:
    """Latents, and of each position what the steps around it did to its own channels."""
    log_det = torch.zeros_like(x[:, 0]) + counted
    for step in flow.module_list:
        x, step_log_det = step.transform(x)
        log_det = log_det + step_log_det
    return x, log_det


METHOD = FastFlow
