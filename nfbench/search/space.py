"""Search space of a variant as Optuna distributions, and conversion of its points to settings."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nfbench.blocks.method import PACKAGE, Method, resolve_settings
from nfbench.blocks.settings import MethodSettings, epochs_of
from nfbench.config import Choices, Dimension, VariantConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import exported

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

__all__ = ["BACKBONE", "default_point", "distributions", "search_space", "split_point"]

BACKBONE = "backbone"
"""Name of the dimension that is not a setting."""

Value = bool | int | float | str

_CHANGE_DATA = ("normalization", "reduced_dimensions", "online_rotation", "val_fraction")
"""Settings that change what the held-out likelihood is a density of."""


def search_space(variant: VariantConfig) -> dict[str, Dimension]:
    """Return the dimensions of a search: the method's own and those of the search, without fixed settings.

    Raises:
        NfbenchError: no dimension is left, a dimension is not a setting or has values out of range, or the objective
            cannot judge the trials.
    """
    search, method_type = variant.searched, exported(PACKAGE, variant.method, "METHOD", subclass_of=Method)
    asked = {**method_type.search_space, **search.space}
    space = {name: found for name, found in asked.items() if found is not None and name not in variant.settings}
    for name, dimension in space.items():
        for value in dimension.choices if isinstance(dimension, Choices) else (dimension.low, dimension.high):
            resolve_settings(variant.method, overrides={**variant.settings, name: value})
    if len(search.backbones) > 1:
        space[BACKBONE] = Choices(choices=tuple(backbone.tag for backbone in search.backbones))
    if not space:
        raise NfbenchError(f"method '{variant.method}': nothing to search; set 'space' of 'search'")
    if variant.anomalies and variant.anomalies.real:
        raise NfbenchError("a variant with a 'search' cannot learn from real anomalies; remove one of the two")
    if search.objective == "log_likelihood":
        _check_likelihood(variant, method_type, space)
    return space


def _check_likelihood(variant: VariantConfig, method_type: type[Method], space: Mapping[str, Dimension]) -> None:
    """Check that likelihoods of held-out images exist and can be compared.

    Raises:
        NfbenchError: they do not, or cannot; the message gives the reason.
    """
    settings = resolve_settings(variant.method, overrides=variant.settings)
    if method_type.log_likelihood is Method.log_likelihood or not epochs_of(settings):
        reason = f"{method_type.title} computes none during training"
    elif not settings.val_fraction:
        reason = "'val_fraction' is 0, so no images are held out"
    elif getattr(settings, "normalization", "") == "layer_norm":
        reason = "the trained scale of 'normalization: layer_norm' raises it without a better model; use another one"
    elif changing := [name for name in _CHANGE_DATA if name in space]:
        reason = f"'{changing[0]}' changes what it is a density of, so trials cannot be compared"
    else:
        return
    raise NfbenchError(
        f"objective 'log_likelihood', of held-out normal images: {reason}; or choose the objective 'validation' or "
        "'test'"
    )


def distributions(space: Mapping[str, Dimension]) -> "dict[str, BaseDistribution]":
    """Convert dimensions to Optuna distributions."""
    return {name: _distribution(dimension) for name, dimension in space.items()}


def default_point(space: Mapping[str, Dimension], settings: MethodSettings, backbone: str) -> dict[str, Any]:
    """Return the point of a method's default settings on a backbone, without values outside the space."""
    own = {BACKBONE: backbone, **settings.model_dump()}
    return {name: own[name] for name, dimension in space.items() if own[name] in dimension}


def split_point(point: Mapping[str, Value], backbones: tuple[str, ...]) -> tuple[str, dict[str, Value]]:
    """Split a point into backbone and settings."""
    settings = {name: value for name, value in point.items() if name != BACKBONE}
    return str(point.get(BACKBONE, backbones[0])), settings


def _distribution(dimension: Dimension) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
