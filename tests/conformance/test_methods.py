"""Every method keeps its contract. A new method is held to this without an edit here."""

import pytest
import torch

from nfbench.methods.base import PACKAGE, LevelShape, MethodSettings, build_method, load_method, resolve_settings
from nfbench.registry import plugin, plugin_names

SHAPES = [LevelShape(8, 8, 8), LevelShape(12, 4, 4), LevelShape(16, 2, 2)]
METHODS = plugin_names(PACKAGE)


@pytest.fixture(params=METHODS)
def method(request):
    return build_method(request.param, SHAPES, resolve_settings(request.param), (32, 32), seed=0)


@pytest.fixture
def features():
    torch.manual_seed(0)
    return [torch.randn(3, *shape) for shape in SHAPES]


@pytest.mark.parametrize("name", METHODS)
def test_description(name):
    found = plugin(PACKAGE, name).METHOD
    assert found.title
    assert issubclass(found.settings_type, MethodSettings)
    assert all(field.description for field in found.settings_type.model_fields.values())
    for overrides in [
        *found.backbone_settings.values(),
        *(v for d in found.category_settings.values() for v in d.values()),
    ]:
        found.settings_type(**overrides)


def test_loss_is_a_finite_scalar_that_descends(method, features):
    method.prepare(lambda: [features])
    optimizer = torch.optim.Adam(method.parameters(), 1e-3)
    losses = []
    for _ in range(5):
        loss = method.loss(features)
        assert loss.shape == ()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@torch.inference_mode()
def test_scores_have_their_shapes_and_rise_with_distance(method, features):
    method.prepare(lambda: [features])
    method.eval()
    scores = method.score(features)
    assert scores.maps.shape == (3, 32, 32)
    assert scores.images.shape == (3,)
    assert method.log_likelihood(features).shape == (3,)
    spot = [x.clone() for x in features]
    for x in spot:
        x[..., 0, 0] *= 30
    far = method.score(spot)
    assert (far.images > scores.images).all()
    assert (far.maps[:, 0, 0] > scores.maps[:, 0, 0]).all()


@torch.inference_mode()
def test_score_of_an_image_does_not_depend_on_its_batch(method, features):
    method.prepare(lambda: [features])
    method.eval()
    together = method.score(features)
    alone = method.score([x[1:2] for x in features])
    torch.testing.assert_close(alone.maps[0], together.maps[1])
    torch.testing.assert_close(alone.images[0], together.images[1])


@torch.inference_mode()
def test_state_brings_a_method_back(method, features):
    method.prepare(lambda: [features])
    again = build_method(
        next(name for name in METHODS if plugin(PACKAGE, name).METHOD is type(method)),
        SHAPES, method.settings, (32, 32), seed=1,
    )  # fmt: skip
    assert not torch.equal(again.eval().score(features).maps, method.eval().score(features).maps)
    load_method(again, method.state_dict())
    assert torch.equal(again.score(features).maps, method.score(features).maps)


def test_parameter_groups_cover_all_trainable_parameters(method):
    grouped = {id(parameter) for group in method.parameter_groups().values() for parameter in group}
    assert grouped == {id(parameter) for parameter in method.parameters() if parameter.requires_grad}
