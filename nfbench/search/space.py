"""What a study varies: the space of a variant as Optuna's distributions, and points of it as settings."""

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
"""Name of the dimension that is no setting."""

Value = bool | int | float | str

_CHANGE_DATA = ("normalization", "reduced_dimensions", "online_rotation", "val_fraction")
"""Settings on which it depends what a held-out likelihood is one of."""


def search_space(variant: VariantConfig) -> dict[str, Dimension]:
    """Dimensions of a variant's search: the method's own and those of the search, less what the variant fixes.

    Raises:
        NfbenchError: nothing is left, a dimension is no setting or has values out of range, or the trials could not be
            judged by the objective.
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
        raise NfbenchError(f"method '{variant.method}': nothing to search; give 'search' a 'space'")
    if variant.anomalies and variant.anomalies.real:
        raise NfbenchError("a 'search' cannot learn from real anomalies")
    if search.objective == "log_likelihood":
        _check_likelihood(variant, method_type, space)
    return space


def _check_likelihood(variant: VariantConfig, method_type: type[Method], space: Mapping[str, Dimension]) -> None:
    """Whether likelihoods of held-out images can be had, and compared.

    Raises:
        NfbenchError: they cannot; says why.
    """
    settings = resolve_settings(variant.method, overrides=variant.settings)
    if method_type.log_likelihood is Method.log_likelihood or not epochs_of(settings):
        reason = f"{method_type.title} has none during training"
    elif not settings.val_fraction:
        reason = "'val_fraction' is 0, so that no images are held out"
    elif getattr(settings, "normalization", "") == "layer_norm":
        reason = "the trained scale of 'normalization: layer_norm' raises it without a better model; take another one"
    elif changing := [name for name in _CHANGE_DATA if name in space]:
        reason = f"'{changing[0]}' changes what it is a likelihood of"
    else:
        return
    raise NfbenchError(
        f"objective 'log_likelihood', of held-out normal images: {reason}; or choose the objective 'validation' or "
        "'test'"
    )


def distributions(space: Mapping[str, Dimension]) -> "dict[str, BaseDistribution]":
    """Dimensions as Optuna knows them."""
    return {name: _distribution(dimension) for name, dimension in space.items()}


def default_point(space: Mapping[str, Dimension], settings: MethodSettings, backbone: str) -> dict[str, Any]:
    """The point of a method's own settings on a backbone; without those that the space does not hold."""
    own = {BACKBONE: backbone, **settings.model_dump()}
    return {name: own[name] for name, dimension in space.items() if own[name] in dimension}


def split_point(point: Mapping[str, Value], backbones: tuple[str, ...]) -> tuple[str, dict[str, Value]]:
    """The backbone of a point and its settings."""
    settings = {name: value for name, value in point.items() if name != BACKBONE}
    return str(point.get(BACKBONE, backbones[0])), settings


def _distribution(dimension: Dimension) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choices):
        return CategoricalDistribution(dimension.choices)
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
