"""U-Flow: a U-shaped flow through the levels, coarse to fine (Tailanian et al., JMIV 2024, arXiv 2211.12353).

Compared with the description of mtailanian/uflow at d621784, and with anomalib's port by tests.
Score: equation (2), 1 - (1/L) * sum_l Up(exp(-mean_c(z_l^2) / 2)); see ``FlowMethod.level_maps``.

Where paper and repository differ, this follows the repository: level maps are up-sampled after the exponential, while
    equation (2) up-samples the latents; channels are permuted by random indices, while the text has 1 x 1 convolutions.

Deliberate deviation: the learning rate stays constant. The repository's linear decay is defined in iterations but
    stepped once per epoch, so the rate hardly changes.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from pydantic import Field
from torch import Tensor

from nfbench.blocks.all_in_one import AllInOneStep
from nfbench.blocks.flow_method import SteppedFlowMethod, SteppedFlowSettings
from nfbench.blocks.freia import Concat, GraphINN, InputNode, Node, OutputNode, Split
from nfbench.blocks.upsampling import InvertibleUpsampling
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "UFlow", "UFlowSettings"]

# batch size, learning rate and epochs by category, from the repository's configs/*.yaml
_MVTEC_AD = {
    "bottle": (23, 1.12900e-4, 200),
    "cable": (14, 1.61604e-3, 200),
    "capsule": (14, 1.21189e-3, 200),
    "carpet": (13, 3.16342e-5, 200),
    "grid": (12, 3.62248e-5, 500),
    "hazelnut": (21, 1.32689e-3, 500),
    "leather": (15, 6.12472e-4, 500),
    "metal_nut": (11, 8.14886e-4, 200),
    "pill": (11, 1.07561e-3, 200),
    "screw": (11, 4.15599e-4, 500),
    "tile": (30, 6.04575e-3, 200),
    "toothbrush": (21, 1.28731e-4, 200),
    "transistor": (20, 1.12129e-3, 400),
    "wood": (22, 2.46655e-4, 500),
    "zipper": (24, 4.55247e-5, 200),
}


class UFlowSettings(SteppedFlowSettings):
    """Settings of the repository's default configuration."""

    epochs: int = Field(200, ge=0, description="passes over the training images")
    batch_size: int = Field(8, ge=1, description="images per step")
    lr: float = Field(1e-4, gt=0, description="learning rate of Adam")
    weight_decay: float = Field(1e-5, ge=0, description="L2 penalty of Adam")
    flow_steps: int = Field(4, ge=1, description="steps per stage")
    u_shape: bool = Field(True, description="join the stages; false makes them independent flows, as in Table 6")


class UFlow(SteppedFlowMethod):
    """One stage of steps per level, coarse to fine; part of each stage's output moves up into the next one."""

    title = "U-Flow"
    settings_type = UFlowSettings
    settings: UFlowSettings
    category_settings = {
        "mvtec_ad": {
            category: {"batch_size": batch_size, "lr": lr, "epochs": epochs}
            for category, (batch_size, lr, epochs) in _MVTEC_AD.items()
        }
    }

    def build_flow(self, generator: torch.Generator) -> GraphINN:
        """Build section 3.2: all stages but the finest split off ``4 * floor(C/8)`` channels, which move up.

        Raises:
            NfbenchError: a level is not twice as large as the next coarser one.
        """
        inputs = [InputNode(*shape, name=f"level {index}") for index, shape in enumerate(self.shapes)]
        if not self.settings.u_shape:
            return self._independent_stages(inputs, generator)
        sizes = [(shape.height, shape.width) for shape in self.shapes]
        if any(fine != (2 * coarse[0], 2 * coarse[1]) for fine, coarse in pairwise(sizes)):
            found = ", ".join(f"{height} x {width}" for height, width in sizes)
            raise NfbenchError(
                f"method 'uflow' needs levels that are each twice as large as the next coarser one, got {found}; "
                "give the backbone other levels, an input size that the strides divide, or 'pyramid: true' if all its "
                "levels have one size"
            )
        outputs: list[OutputNode] = []
        nodes = list(inputs)
        node = inputs[-1]
        for index in range(len(inputs) - 1, 0, -1):
            stage = self._stage(node, f"stage {index}", generator)
            channels = stage[-1].output_dims[0][0]
            moving = 4 * (channels // 8)
            split = Node(stage[-1], Split, {"section_sizes": [moving, channels - moving]}, name=f"split {index}")
            up = Node(split.out0, InvertibleUpsampling, {}, name=f"up-sampling {index}")
            output = OutputNode(split.out1, name=f"z {index}")
            node = Node([inputs[index - 1].out0, up.out0], Concat, {}, name=f"concat {index - 1}")
            nodes += [*stage, split, up, output, node]
            outputs.append(output)
        stage = self._stage(node, "stage 0", generator)
        outputs.append(OutputNode(stage[-1], name="z 0"))
        return GraphINN([*nodes, *stage, outputs[-1]])

    def _independent_stages(self, inputs: Sequence[InputNode], generator: torch.Generator) -> GraphINN:
        """Build 'Avg.' of Table 6: one stage per level, without connections."""
        nodes, outputs = list(inputs), []
        for index in range(len(inputs) - 1, -1, -1):
            stage = self._stage(inputs[index], f"stage {index}", generator)
            nodes += stage
            outputs.append(OutputNode(stage[-1], name=f"z {index}"))
        return GraphINN([*nodes, *outputs])

    def _stage(self, node: Node, name: str, generator: torch.Generator) -> list[Node]:
        steps: list[Node] = []
        for index in range(self.settings.flow_steps):
            node = Node(node, AllInOneStep, self.step_arguments(index, generator), name=f"{name}, step {index}")
            steps.append(node)
        return steps

    def encode(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        """Encode all levels together; return the latents of the stages, fine to coarse."""
        latents, log_det = self.flow(list(levels))
        latents = [latents] if isinstance(latents, Tensor) else list(latents)
        return latents[::-1], log_det


METHOD = UFlow
