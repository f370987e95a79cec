"""The small model of a method, see ``Method.tiny``, on the network that it trains, if any, with random weights."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from nfbench.blocks.method import PACKAGE, LevelShape, Method, Tiny, build_method
from nfbench.blocks.settings import MethodSettings
from nfbench.core.input_size import InputSize
from nfbench.core.registry import plugin
from nfbench.features.building import build_on

__all__ = [
    "ALWAYS_ANOMALIES",
    "NO_ANOMALIES",
    "OWN_BACKBONES",
    "build_tiny",
    "stand_in",
    "stand_in_of",
    "tiny_of",
]

NO_ANOMALIES = {"sanflow": {"mixture": False}, "bgad": {"boundary": "pull", "focal": False}}
"""Settings with which methods that learn from anomalies learn without."""

ALWAYS_ANOMALIES = ("devnet",)
"""Methods that have no such settings."""

_SMALL = {"input_size": 64, "weights": "random"}
OWN_BACKBONES = {
    "mkd": {**_SMALL, "name": "vgg16_unit", "levels": [1, 2, 3], "image": True},
    "pefm": {**_SMALL, "name": "resnet34_50", "levels": [1, 2, 4, 5]},
}
"""Of methods made for one kind of network."""


def tiny_of(name: str) -> Tiny:
    return plugin(PACKAGE, name).METHOD.tiny


def build_tiny(
    name: str, settings: MethodSettings, seed: int = 0, n_classes: int = 1, side: int | None = None
) -> Method:
    tiny = tiny_of(name)
    size = side or tiny.side
    if tiny.backbone:
        return build_on(tiny.backbone.model_copy(update={"input_size": size}), name, settings, seed, n_classes)
    return build_method(name, tiny.shapes, settings, (size, size), seed, n_classes)


def stand_in_of(method: Method) -> Any:
    """The configuration of a backbone that has the levels, or the network, of a small model."""
    return method.tiny.backbone or stand_in(method.shapes, method.map_size[0], image=method.takes_image)


def stand_in(shapes: Sequence[LevelShape], side: int, *, image: bool = False) -> SimpleNamespace:
    """The configuration of a frozen backbone with these levels."""
    levels = {f"level{number}": shape for number, shape in enumerate(shapes)}
    described = SimpleNamespace(taps=shapes)
    keys = {"input_size": side, "size": InputSize.of(side), "stores_image": image, "frozen": True}
    return SimpleNamespace(level_shapes=levels, described=described, **keys)
