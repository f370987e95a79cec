"""Extractors of a backbone's levels: how a network is cut, its input sizes and its padding.

No module here keeps state between calls, so that threads can share one, and gradients reach the image.
"""

from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nfbench.backbones._base import Backbone
from nfbench.core.deferred import deferred
from nfbench.core.torchvision_guard import import_torchvision

__all__ = [
    "EXTRACTORS",
    "AtScales",
    "Pyramid",
    "SideBySide",
    "create_network",
    "import_timm",
    "pad_by_reflection",
    "resize",
    "tensor_shapes",
]


def create_network(backbone: Backbone, **arguments: Any) -> Any:
    """The whole network, a module with parts of its own; ``arguments`` are those of ``timm.create_model``."""
    if backbone.extractor == "alexnet":
        import_torchvision()
        from torchvision.models import alexnet

        return alexnet()
    return import_timm().create_model(backbone.timm_name, **arguments)


def import_timm() -> ModuleType:
    """Import timm without two of its models, unused here, whose definition imports torch's compiler (1 s)."""
    import_torchvision()  # timm imports torchvision
    with deferred("timm.models.naflexvit", "timm.models.gemma4_vit"):
        import timm
    return timm


def tensor_shapes(backbone: Backbone) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of the whole network by name, without values."""
    import_timm()  # before the device is set, as importing may make tensors

    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in create_network(backbone).state_dict().items()}


def resize(x: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """``(B, 3, H, W)`` to ``(B, 3, *size)`` by one of ``INTERPOLATIONS``."""
    if size == x.shape[2:]:
        return x
    mode, _, aligned = interpolation.partition("_")
    return F.interpolate(x, size=size, mode=mode, align_corners=True if aligned else None)


def _features_only(backbone: Backbone, levels: Sequence[int], pretrained: bool) -> nn.Module:
    return create_network(backbone, pretrained=pretrained, features_only=True, out_indices=tuple(levels))


def _truncated_features(backbone: Backbone, levels: Sequence[int], pretrained: bool) -> nn.Module:
    """An EfficientNet's ``features_only``, without the unused stages after the last level, which timm would run."""
    model: Any = _features_only(backbone, levels, pretrained)
    last = model.feature_info.module_name()[-1]  # such as 'blocks.4'
    model.blocks = model.blocks[: int(last.rpartition(".")[2]) + 1]
    return model


class _Stages(nn.Module):
    """Outputs of an EfficientNet's or MobileNet's stages, by their index in timm's ``blocks``."""

    def __init__(self, backbone: Backbone, levels: Sequence[int], pretrained: bool) -> None:
        super().__init__()
        model = create_network(backbone, pretrained=pretrained)
        self.levels = tuple(levels)
        self.conv_stem, self.bn1 = model.conv_stem, model.bn1
        self.blocks = model.blocks[: max(levels) + 1]

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, C, H_l, W_l)`` per level."""
        x = self.bn1(self.conv_stem(x))
        found = {}
        for index, stage in enumerate(self.blocks):
            if index in self.levels:
                found[index], x = self.tap(stage, x)
            else:
                x = stage(x)
        return [found[level] for level in self.levels]

    def tap(self, stage: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
        """The level's features, and the stage's output."""
        x = stage(x)
        return x, x


class _Projections(_Stages):
    """Output of the projecting convolution of a stage's last block, before batch normalization and the residual."""

    def tap(self, stage: nn.Sequential, x: Tensor) -> tuple[Tensor, Tensor]:
        """Run the last block, an inverted residual, by its parts."""
        block: Any = stage[-1]
        x = stage[:-1](x)
        y = block.bn2(block.conv_dw(block.bn1(block.conv_pw(x))))
        projected = block.conv_pwl(block.se(block.aa(y)))
        y = block.bn3(projected)
        return projected, x + y if block.has_skip else y


class _Tokens(nn.Module):
    """Patch tokens after some blocks of a vision transformer, through its final normalization, as maps."""

    def __init__(self, backbone: Backbone, levels: Sequence[int], pretrained: bool, **arguments: Any) -> None:
        super().__init__()
        self.model = create_network(backbone, pretrained=pretrained, **arguments)
        self.model.prune_intermediate_layers(list(levels), prune_norm=False, prune_head=True)
        self.levels = list(levels)

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, C, H_l, W_l)`` per level; tokens other than patches are dropped."""
        return self.model.forward_intermediates(x, indices=self.levels, norm=True, intermediates_only=True)


class _AlexNet(nn.Module):
    """All of the convolutional part of torchvision's AlexNet."""

    def __init__(self, backbone: Backbone, _levels: Sequence[int], _pretrained: bool) -> None:
        super().__init__()
        self.features = create_network(backbone).features

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, 256, H_l, W_l)``."""
        return [self.features(x)]


class _Nothing(nn.Module):
    """No levels and no parameters."""

    def __init__(self, _backbone: Backbone, _levels: Sequence[int], _pretrained: bool) -> None:
        super().__init__()

    def forward(self, _x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to no level."""
        return []


EXTRACTORS: dict[str, Callable[[Backbone, Sequence[int], bool], nn.Module]] = {
    "features_only": _features_only,
    "truncated_features": _truncated_features,
    "stages": _Stages,
    "projections": _Projections,
    "tokens": _Tokens,
    "resized_tokens": partial(_Tokens, dynamic_img_size=True),
    "alexnet": _AlexNet,
    "nothing": _Nothing,
}
"""Builders of extractors by name; the flag requests weights from timm's hub."""


class SideBySide(nn.Module):
    """Networks with their own input sizes, given as shares of the image's sides."""

    def __init__(self, parts: Sequence[nn.Module], shares: Sequence[Fraction], interpolation: str) -> None:
        super().__init__()
        self.parts, self.shares, self.interpolation = nn.ModuleList(parts), tuple(shares), interpolation

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, C, H_l, W_l)`` per level: for each part, its levels."""
        height, width = x.shape[2:]
        sizes = ((int(share * height), int(share * width)) for share in self.shares)
        images = (resize(x, size, self.interpolation) for size in sizes)
        return [level for part, image in zip(self.parts, images, strict=True) for level in part(image)]


class AtScales(nn.Module):
    """One network on the image at several sizes, given by the divisors of its sides."""

    def __init__(self, model: nn.Module, scales: Sequence[int], interpolation: str) -> None:
        super().__init__()
        self.model, self.scales, self.interpolation = model, tuple(scales), interpolation

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, C, H_l, W_l)`` per scale and level: for each scale, all levels."""
        height, width = x.shape[2:]
        images = (resize(x, (height // scale, width // scale), self.interpolation) for scale in self.scales)
        return [level for image in images for level in self.model(image)]


class Pyramid(nn.Module):
    """Levels of one size, pooled so that each has half the size of the one before."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` to one ``(B, C_k, H_0 / 2^k, W_0 / 2^k)`` per level: means over ``2^k x 2^k`` positions."""
        return [F.avg_pool2d(level, 2**k) for k, level in enumerate(self.model(x))]


def pad_by_reflection(model: nn.Module) -> None:
    """Make all convolutions pad by reflection; pooling does not change."""
    from timm.layers import Conv2dSame

    for module in model.modules():
        if isinstance(module, Conv2dSame):  # TensorFlow's padding, which depends on the input's size
            module.forward = partial(_same_by_reflection, module)  # type: ignore[method-assign]  # of this one alone
        elif isinstance(module, nn.Conv2d) and any(module.padding):
            module.padding_mode = "reflect"


def _same_by_reflection(conv: nn.Conv2d, x: Tensor) -> Tensor:
    padding: list[int] = []
    for side, kernel, stride, dilation in zip(x.shape[-2:], conv.kernel_size, conv.stride, conv.dilation, strict=True):
        total = max((-(-side // stride) - 1) * stride + (kernel - 1) * dilation + 1 - side, 0)
        padding = [total // 2, total - total // 2, *padding]  # torch names the last dimension first
    x = F.pad(x, padding, mode="reflect")
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, 0, conv.dilation, conv.groups)
