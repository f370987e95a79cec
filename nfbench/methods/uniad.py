"""UniAD: a transformer that reconstructs each position from distant ones (You et al., NeurIPS 2022).

arXiv 2206.03687. Compared with the description of zhiyuanyou/UniAD.
Score: norm of the difference between a position and its reconstruction; the image score is the largest mean over 16 x
    16 pixels of the map. One model learns all categories and does not take the category as input.

Three measures keep the network from copying its input: attention excludes a position's neighbourhood, each decoder
    layer has learned queries instead of the previous layer's output, and the input is noisy while the target is clean.

Deliberate deviations: the paper trains on 8 GPUs with 8 images each; here, a step has 8 images, for which the
    repository reports higher values. The repository reports the best of all evaluations on the test set, the selection
    'oracle' here; the selection 'last' does not use the test set.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from torch import Tensor, nn
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.maps import resize_maps
from nfbench.blocks.method import Batch, LevelShape, Method, ParameterGroup, Scores, Tiny
from nfbench.blocks.modules import Modules
from nfbench.blocks.settings import Milestones, Schedule, TrainedSettings
from nfbench.config import Choices, Range
from nfbench.core.errors import NfbenchError

__all__ = ["METHOD", "Reconstruction", "Uniad", "UniadSettings", "neighbor_mask"]

MEMORY = {"parameters": 1, "network": 1e7}
"""See ``nfbench.plan.memory``."""

Dropout = Callable[[Tensor], Tensor]
"""Dropout in training, the identity otherwise."""


class UniadSettings(TrainedSettings):
    """Defaults of the repository for MVTec AD, on levels 0 to 3 of EfficientNet-B4 at 224 pixels."""

    epochs: int = Field(1000, ge=0, description="passes over the training images")
    batch_size: int = Field(8, ge=1, description="images per step; the repository's 8 GPUs have 8 each")
    lr: float = Field(1e-4, gt=0, description="learning rate of AdamW")
    weight_decay: float = Field(1e-4, ge=0, description="weight decay of AdamW")
    schedule: Schedule = "step"
    milestones: Milestones = (0.8,)
    gradient_clip: float | None = Field(0.1, gt=0, description="maximum gradient norm; null turns clipping off")
    val_fraction: float = Field(0.0, ge=0, lt=1, description="share of the normal training images held out")
    hidden_dim: int = Field(256, ge=2, multiple_of=2, description="number of values per position in the transformer")
    heads: int = Field(8, ge=1, description="number of attention heads; must divide 'hidden_dim'")
    layers: int = Field(4, ge=1, description="number of layers of the encoder and of the decoder")
    feedforward_dim: int = Field(1024, ge=1, description="hidden width of the feed-forward networks")
    dropout: float = Field(0.1, ge=0, lt=1, description="share of values dropped in training")
    neighborhood: int = Field(
        7, ge=0, description="odd side of the square around a position that attention excludes; 0 for none"
    )
    jitter: float = Field(20.0, ge=0, description="scale of the noise on the input, relative to the norm of a feature")
    pooling: int = Field(
        16, ge=1, description="side of the pooling window; the image score is the maximum of the pooled map"
    )

    @model_validator(mode="after")
    def _fits(self) -> "UniadSettings":
        if self.hidden_dim % self.heads:
            text = "'heads' {heads} does not divide 'hidden_dim' {dim}"
            raise PydanticCustomError("heads", text, {"heads": self.heads, "dim": self.hidden_dim})
        if self.neighborhood and self.neighborhood % 2 == 0:
            text = "'neighborhood' must be odd, or 0 for none; got {side}"
            raise PydanticCustomError("even", text, {"side": self.neighborhood})
        return self


class _Attention(nn.Module):
    """Multi-head attention of queries and keys ``(B, P, D)``; ``mask`` ``(P, P)`` is true where it is excluded."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        for part in (self.query, self.key, self.value):  # as torch initializes the three as one matrix
            nn.init.xavier_uniform_(part.weight, gain=math.sqrt(0.5))
        nn.init.xavier_uniform_(self.output.weight)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, drop: Dropout) -> Tensor:
        q, k, v = (
            part(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for part, x in ((self.query, query), (self.key, key), (self.value, value))
        )
        weights = (q @ k.mT / math.sqrt(q.shape[3])).masked_fill(mask, -math.inf).softmax(3)
        return self.output((drop(weights) @ v).transpose(1, 2).flatten(2))


class _FeedForward(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dim, hidden), nn.Linear(hidden, dim)
        for part in (self.first, self.second):
            nn.init.xavier_uniform_(part.weight)

    def forward(self, x: Tensor, drop: Dropout) -> Tensor:
        return self.second(drop(functional.relu(self.first(x))))


class _EncoderLayer(nn.Module):
    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention, self.feed_forward = _Attention(dim, heads), _FeedForward(dim, hidden)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)

    def forward(self, x: Tensor, code: Tensor, mask: Tensor, drop: Dropout) -> Tensor:
        x = self.norm1(x + drop(self.attention(x + code, x + code, x, mask, drop)))
        return self.norm2(x + drop(self.feed_forward(x, drop)))


class _DecoderLayer(nn.Module):
    """Learned queries attend to the encoder's output, then to the previous layer's output."""

    def __init__(self, dim: int, heads: int, hidden: int, positions: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(positions, dim))
        self.to_memory, self.to_output = _Attention(dim, heads), _Attention(dim, heads)
        self.feed_forward = _FeedForward(dim, hidden)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, code: Tensor, mask: Tensor, drop: Dropout) -> Tensor:
        query = self.queries.expand_as(x)
        y = self.norm1(query + drop(self.to_memory(query + code, memory + code, memory, mask, drop)))
        y = self.norm2(y + drop(self.to_output(y + code, x + code, x, mask, drop)))
        return self.norm3(y + drop(self.feed_forward(y, drop)))


class Reconstruction(nn.Module):
    """Reconstruct features ``(B, P, C)`` of the positions of a grid, row by row.

    Args:
        shape: ``C`` and the grid.
        settings: settings with the sizes.
    """

    mask: Tensor

    def __init__(self, shape: LevelShape, settings: UniadSettings) -> None:
        super().__init__()
        channels, height, width = shape
        dim, sizes = settings.hidden_dim, (settings.hidden_dim, settings.heads, settings.feedforward_dim)
        self.input, self.output = nn.Linear(channels, dim), nn.Linear(dim, channels)
        self.rows, self.columns = (nn.Parameter(torch.rand(n, dim // 2)) for n in (height, width))
        self.encoder: Modules[_EncoderLayer] = Modules(_EncoderLayer(*sizes) for _ in range(settings.layers))
        decoder = (_DecoderLayer(*sizes, height * width) for _ in range(settings.layers))
        self.decoder: Modules[_DecoderLayer] = Modules(decoder)
        self.norm = nn.LayerNorm(dim)
        self.register_buffer("mask", neighbor_mask(height, width, settings.neighborhood), persistent=False)
        for part in (self.input, self.output):
            nn.init.xavier_uniform_(part.weight)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    @property
    def code(self) -> Tensor:
        """Return the learned code of each position: half by column, half by row, ``(P, D)``."""
        height, width = len(self.rows), len(self.columns)
        columns = self.columns.expand(height, -1, -1)
        return torch.cat([columns, self.rows[:, None].expand(-1, width, -1)], dim=2).flatten(0, 1)

    def forward(self, features: Tensor, drop: Dropout) -> Tensor:
        """The reconstruction."""
        x, code = self.input(features), self.code
        for encode in self.encoder:
            x = encode(x, code, self.mask, drop)
        memory = x
        for decode in self.decoder:
            x = decode(x, memory, code, self.mask, drop)
        return self.output(self.norm(x))


class Uniad(Method):
    """Reconstruct the levels, resized to the coarsest one."""

    title = "UniAD"
    settings_type = UniadSettings
    settings: UniadSettings
    tiny = Tiny(
        {
            "hidden_dim": 32,
            "heads": 2,
            "layers": 1,
            "feedforward_dim": 32,
            "neighborhood": 3,
            "gradient_clip": 1.0,
            "milestones": (0.5,),
        },
        shapes=(LevelShape(8, 16, 16), LevelShape(12, 8, 8)),
    )
    search_space = {
        "lr": Range(low=1e-5, high=1e-3, log=True),
        "jitter": Range(low=5.0, high=40.0),
        "layers": Range(low=2, high=6),
        "neighborhood": Choices(choices=(3, 5, 7, 9)),
    }

    def build(self, generator: torch.Generator) -> None:
        """Build the transformer.

        Raises:
            NfbenchError: a position would have no other position to attend to.
        """
        self.grid, side = tuple(self.shapes[-1][1:]), self.settings.neighborhood
        if max(self.grid) // 2 <= side // 2 and side:
            raise NfbenchError(
                f"'neighborhood' {side} of method 'uniad' excludes all positions of the {self.grid[0]} x "
                f"{self.grid[1]} grid of its coarsest level; lower it, raise 'input_size' of the "
                "backbone, or leave out coarse 'levels'"
            )
        channels = sum(shape.channels for shape in self.shapes)
        self.network = Reconstruction(LevelShape(channels, *self.grid), self.settings)

    def losses(self, batch: Batch, generator: torch.Generator) -> Iterator[Tensor]:
        """Return the mean squared difference between clean features and the reconstruction of noisy ones."""
        x = self._positions(batch.features)
        noise = torch.randn(x.shape, generator=generator, device=generator.device)
        noisy = x + self.settings.jitter * x.norm(dim=2, keepdim=True) / x.shape[2] * noise
        yield functional.mse_loss(self.network(noisy, partial(_drop, self.settings.dropout, generator)), x)

    def score(self, features: Features[Tensor]) -> Scores:
        """Return the norm of the difference, up-sampled, and its largest mean over a square."""
        x = self._positions(features)
        differences = (x - self.network(x, _keep)).square().sum(2).sqrt().unflatten(1, self.grid)
        maps = resize_maps([differences], self.map_size, align_corners=True)[0]
        squares = functional.avg_pool2d(maps[:, None], min(self.settings.pooling, *self.map_size), stride=1)
        return Scores(maps, squares.flatten(1).amax(1))

    def parameter_groups(self) -> dict[str, Sequence[nn.Parameter]]:
        """Return all parameters, under the transformer."""
        return {"transformer": list(self.network.parameters())}

    def optimizer_groups(self) -> list[ParameterGroup]:
        """Return AdamW, with weight decay of all parameters."""
        return [ParameterGroup(list(self.parameters()), weight_decay=self.settings.weight_decay, decoupled=True)]

    @torch.no_grad()
    def _positions(self, features: Features[Tensor]) -> Tensor:
        """Return all levels, resized to the coarsest one, ``(B, P, C)``."""
        resized = [_resize(level, self.grid) for level in features.levels]
        return torch.cat(resized, dim=1).flatten(2).mT


def neighbor_mask(height: int, width: int, side: int) -> Tensor:
    """Return the attention mask ``(P, P)``: True within a square of this side around each position."""
    rows = torch.arange(height).repeat_interleave(width)
    columns = torch.arange(width).repeat(height)
    distances = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    return distances < (side + 1) // 2


def _resize(level: Tensor, grid: tuple[int, ...]) -> Tensor:
    """Resize bilinearly without averaging finer levels, as published."""
    if level.shape[2:] == grid:
        return level
    return functional.interpolate(level, grid, mode="bilinear", align_corners=True)


def _drop(rate: float, generator: torch.Generator, x: Tensor) -> Tensor:
    """Apply dropout with draws from ``generator``."""
    kept = torch.rand(x.shape, generator=generator, device=generator.device) >= rate
    return x * kept / (1 - rate)


def _keep(x: Tensor) -> Tensor:
    return x


METHOD = Uniad
