"""A backbone that a method trains itself, and which backbones a method can have."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

from nfbench.config import BackboneConfig
from nfbench.config.backbone import Shape
from nfbench.core.errors import NfbenchError

if TYPE_CHECKING:
    from nfbench.blocks.method import Method

__all__ = ["Network", "check_backbone"]


class Network(NamedTuple):
    """A backbone with ``frozen: false``.

    Attributes:
        name: of the backbone, with its weight tag.
        shapes: ``(C, H, W)`` of each level that it makes.
        build: makes it, with all parameters trainable: ``(B, 3, S, S)`` to a list of ``(B, C, H, W)``. Its weights are
            those that training starts from, or random ones where weights of a training follow.
    """

    name: str
    shapes: tuple[Shape, ...]
    build: Callable[[], nn.Module]


def check_backbone(method: "Method | type[Method]", backbone: BackboneConfig) -> None:
    """Refuses a backbone that has not what a method reads or trains.

    Raises:
        NfbenchError: says what the backbone has to be.
    """
    levels, image = bool(backbone.level_shapes), backbone.stores_image
    if method.takes_network == "no" and not backbone.frozen:
        raise NfbenchError(f"method '{method.title}' does not train the backbone; remove 'frozen: false'")
    if method.takes_network == "yes" and (backbone.frozen or not backbone.described.taps):
        raise NfbenchError(f"method '{method.title}' trains the backbone itself; give it one with 'frozen: false'")
    if method.takes_levels and not levels:
        raise NfbenchError(f"method '{method.title}' reads levels, and its backbone has none; choose another one")
    if levels and not method.takes_levels:
        other = "" if method.takes_network == "no" else ", or set 'frozen: false'"
        raise NfbenchError(f"method '{method.title}' reads the image alone; give it the backbone 'image'{other}")
    if method.takes_image != image:
        key = "needs 'image: true'" if method.takes_image else "takes no 'image: true'"
        raise NfbenchError(f"method '{method.title}' {key} in its backbone")
