"""Search spaces: the method's space without settings that a variant fixes; errors before any trial."""

import pytest

from nfbench.blocks.method import Method, resolve_settings
from nfbench.config import Choices, Range, VariantConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin, plugin_names
from nfbench.search.space import default_point, distributions, search_space, split_point

METHODS = plugin_names("nfbench.methods")
ONE, TWO = ["resnet18.a1_in1k"], ["resnet18.a1_in1k", "wide_resnet50_2.tv_in1k"]


def variant(method="fastflow", settings=None, backbones=ONE, **search):
    search = {"backbones": backbones, **search}
    return VariantConfig.model_validate({"method": method, "settings": settings or {}, "search": search})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_space_that_holds_its_own_settings(method):
    space = search_space(variant(method, objective="test"))
    assert space
    point = default_point(space, resolve_settings(method), "resnet18.a1_in1k@256")
    assert point.keys() == space.keys()


def test_what_the_variant_fixes_is_not_searched():
    found = search_space(variant(settings={"lr": 1e-3, "normalization": "whiten"}, space={"kernels": None}))
    assert set(found) == {"batch_size", "flow_steps", "hidden_ratio"}


def test_dimensions_are_added_and_replaced():
    space = {"flow_steps": {"low": 1, "high": 3}, "clamp": {"choices": [1.5, 2.0]}}
    found = search_space(variant(settings={"normalization": "whiten"}, space=space))
    assert found["flow_steps"] == Range(low=1, high=3)
    assert found["clamp"] == Choices(choices=(1.5, 2.0))
    assert distributions(found)["flow_steps"].high == 3


def test_the_backbone_is_a_dimension_where_there_are_several():
    tags = ("resnet18.a1_in1k@256", "wide_resnet50_2.tv_in1k@256")
    space = search_space(variant(backbones=TWO, objective="test"))
    assert space["backbone"] == Choices(choices=tags)
    point = default_point(space, resolve_settings("fastflow"), tags[1])
    assert split_point(point, tags) == (tags[1], {k: v for k, v in point.items() if k != "backbone"})
    assert split_point({"lr": 1.0}, tags[:1]) == (tags[0], {"lr": 1.0})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"space": {"flow_stepz": {"choices": [1, 2]}}, "objective": "test"}, "flow_stepz.*did you mean 'flow_steps'"),
        ({"space": {"flow_steps": {"choices": [0, 2]}}, "objective": "test"}, "'flow_steps'.*greater than or equal"),
        ({"method": "simplenet"}, "SimpleNet computes none during training"),
        ({"method": "padim"}, "PaDiM computes none during training"),
        ({"settings": {"val_fraction": 0, "normalization": "whiten"}}, "'val_fraction' is 0"),
        ({}, "trained scale"),
        (
            {"settings": {"normalization": "whiten"}, "space": {"val_fraction": {"low": 0.1, "high": 0.2}}},
            "'val_fraction' changes what it is a density of",
        ),
        ({"method": "padim", "objective": "test", "space": {"reduced_dimensions": None, "regularization": None}},
         "nothing to search"),
    ],
)  # fmt: skip
def test_what_cannot_be_searched_is_said_before(values, message):
    with pytest.raises(NfbenchError, match=message):
        search_space(variant(**values))


def test_likelihoods_of_several_backbones_are_refused():
    with pytest.raises(ValueError, match="cannot be compared"):
        variant(backbones=TWO)


@pytest.mark.parametrize("bounds", [(2, 2), (3, 1), (0, 1)])
def test_empty_ranges_are_refused(bounds):
    with pytest.raises(ValueError, match="'low' must be below 'high'"):
        Range(low=bounds[0], high=bounds[1], log=True)


def test_every_space_is_of_settings_that_exist():
    for name in METHODS:
        method_type: type[Method] = plugin("nfbench.methods", name).METHOD
        assert set(method_type.search_space) <= set(method_type.settings_type.model_fields)
