"""Peers of the benchmarks: anomalib's flows on the same shapes, and interleaved timing."""

import statistics
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from nfbench.core.torchvision_guard import import_torchvision

import_torchvision()

from anomalib.models.image.fastflow.torch_model import create_fast_flow_block
from anomalib.models.image.uflow.torch_model import UflowModel

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape

__all__ = ["Given", "PeerFastFlow", "PeerUFlow", "interleaved"]


class Given(nn.Module):
    """Replaces the backbone of an anomalib model with given features by layer."""

    features = {}

    def forward(self, _):
        return self.features


class _Peer(nn.Module):
    def __init__(self, shapes: Sequence[LevelShape]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(tuple(shape)) for shape in shapes)

    def latents(self, features: Features[Tensor]) -> tuple[list[Tensor], Tensor]:
        return self.encode([norm(x) for norm, x in zip(self.norms, features.levels, strict=True)])

    def loss(self, features: Features[Tensor]) -> Tensor:
        latents, log_det = self.latents(features)
        return (0.5 * sum(z.square().flatten(1).sum(1) for z in latents) - log_det).mean()


class PeerFastFlow(_Peer):
    """anomalib's FastFlow on cached features."""

    def __init__(self, shapes: Sequence[LevelShape], conv3x3_only: bool = False) -> None:
        super().__init__(shapes)
        self.flows = nn.ModuleList(
            create_fast_flow_block(list(shape), conv3x3_only=conv3x3_only, hidden_ratio=1.0, flow_steps=8)
            for shape in shapes
        )

    def encode(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        encoded = [flow(x) for flow, x in zip(self.flows, levels, strict=True)]
        return [z for z, _ in encoded], sum(log_det for _, log_det in encoded)


class PeerUFlow(_Peer):
    """anomalib's U-Flow on cached features; its model is built without its backbone."""

    def __init__(self, shapes: Sequence[LevelShape], input_size: int = 256) -> None:
        super().__init__(shapes)
        model = UflowModel.__new__(UflowModel)
        nn.Module.__init__(model)
        model.input_size = (input_size, input_size)
        model.affine_clamp, model.affine_subnet_channels_ratio, model.permute_soft = 2.0, 1.0, False
        model.feature_extractor = nn.Module()
        model.feature_extractor.channels = [shape.channels for shape in shapes]
        model.feature_extractor.scale_factors = [input_size // shape.height for shape in shapes]
        self.flow = model.build_flow(flow_steps=4)

    def encode(self, levels: Sequence[Tensor]) -> tuple[list[Tensor], Tensor]:
        latents, log_det = self.flow(levels)
        return list(latents), log_det


def interleaved(runs: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Measures runs alternately after a warm-up round, under the same load; returns median seconds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}
