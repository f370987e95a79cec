"""A method on a backbone's configuration: its shapes, its map size, and the network that it trains, if any."""

from collections.abc import Callable

import torch
from torch import nn

from nfbench.backbones._extractors import import_timm
from nfbench.blocks.method import LevelShape, Method, build_method
from nfbench.blocks.network import Network
from nfbench.blocks.settings import MethodSettings, TrainedSettings
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize
from nfbench.features.forward import random_network

__all__ = ["build_on", "count_on"]


def build_on(
    backbone: BackboneConfig,
    method: str,
    settings: MethodSettings,
    seed: int,
    n_classes: int = 1,
    network: Callable[[], nn.Module] | None = None,
) -> Method:
    """Build a method for the features of a backbone; see ``build_method``.

    Args:
        backbone: its configuration.
        method: name of the method.
        settings: of the method.
        seed: of the initial weights.
        n_classes: number of classes, for methods that take the class.
        network: makes the network that a method trains; by default with random weights, which those of a training
            replace.

    Raises:
        NfbenchError: the method does not take this configuration, or rotates images that are not square.
    """
    shapes = [LevelShape(*shape) for shape in backbone.level_shapes.values()]
    size = backbone.size.height, backbone.size.width
    built = build_method(method, shapes, settings, size, seed, n_classes, _network(backbone, network))
    _check_turns(built, backbone.size)
    return built


def _check_turns(method: Method, size: InputSize) -> None:
    """Check that a method does not rotate images that are not square out of their frame."""
    if size.is_square:
        return
    if isinstance(method.settings, TrainedSettings) and method.settings.online_rotation:
        raise NfbenchError(
            f"method '{method.title}' rotates training images, which needs a square 'input_size', not {size}; set "
            "'online_rotation: 0'"
        )
    if method.gradient_maps and not size.keeps_frame(method.gradient_maps.views):
        raise NfbenchError(
            f"method '{method.title}' makes maps from rotated images, which needs a square 'input_size', not {size}"
        )


def count_on(backbone: BackboneConfig, method: str, settings: MethodSettings, n_classes: int = 1) -> Method:
    """Build a method as ``build_on`` does, with parameters that have shapes but no values and take no memory."""
    if not backbone.frozen:
        import_timm()  # before the device is set, as importing may make tensors
    with torch.device("meta"):
        return build_on(backbone, method, settings, 0, n_classes)


def _network(backbone: BackboneConfig, build: Callable[[], nn.Module] | None) -> Network | None:
    if backbone.frozen:
        return None
    shapes = tuple(backbone.network_shapes.values())
    return Network(backbone.name, shapes, build or (lambda: random_network(backbone)))
