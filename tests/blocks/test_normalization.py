"""Fitted normalizations do not depend on the scale of features and do not amplify almost constant channels."""

import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.blocks.normalization import build_normalization, fit_normalizations

SHAPE = LevelShape(12, 6, 6)
KINDS = ["standardize", "whiten"]
SCALES = [1e-3, 1e3]
STILL = {
    "zeros": torch.zeros_like,
    "a constant": lambda x: torch.full_like(x, 5.1),
    "rounding of float16": lambda x: (5 + 1e-3 * x).half().float(),
    "one small value": lambda x: torch.where(x == x.max(), 1e-3, 0.0),
    "small noise": lambda x: 1e-3 * x,
}


def draw(n, seed=0):
    return 3 + torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def fitted(kind, train, shape=SHAPE):
    norm = build_normalization(kind, shape)
    fit_normalizations([norm], lambda: [Features([part]) for part in train.split(16)])
    return norm


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("kind", KINDS)
def test_the_scale_of_features_does_not_matter(kind, scale):
    train, test = draw(50), draw(4, seed=1)
    expected = fitted(kind, train)(test)
    torch.testing.assert_close(fitted(kind, scale * train)(scale * test), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scale", [1.0, *SCALES])
@pytest.mark.parametrize("still", STILL)
@pytest.mark.parametrize("kind", KINDS)
def test_a_channel_that_hardly_changes_counts_as_much_as_the_others(kind, still, scale):
    train, test = draw(50), draw(4, seed=1)
    for x in (train, test):
        x[:, 0] = STILL[still](x[:, 0])
    norm = fitted(kind, scale * train)
    touched = test.clone()
    touched[:, 0, 3, 3] += 0.1
    moved = norm(scale * touched) - norm(scale * test)
    assert 0.01 < moved.abs().max() < 0.3
    elsewhere = test.clone()
    elsewhere[:, 5, 3, 3] += 0.1
    assert moved.abs().max() < 3 * (norm(scale * elsewhere) - norm(scale * test)).abs().max()


@pytest.mark.parametrize("kind", KINDS)
def test_channels_that_change_are_not_touched_by_one_that_does_not(kind):
    train, test = draw(50), draw(4, seed=1)
    alone = fitted(kind, train[:, 1:], LevelShape(11, 6, 6))(test[:, 1:])
    train[:, 0] = test[:, 0] = 0
    together = fitted(kind, train)(test)
    if kind == "standardize":
        torch.testing.assert_close(together[:, 1:], alone)
    torch.testing.assert_close(together.square().sum(1), alone.square().sum(1), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("spread", [0.1, 0.02])
def test_quiet_channels_have_a_scale_of_their_own(spread):
    train = draw(50)
    train[:, 0] *= spread
    y = fitted("standardize", train)(train)
    assert y[:, 0].std() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("value", [0.0, 7.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_level_that_never_changes_stays_finite(kind, value):
    y = fitted(kind, torch.full((20, *SHAPE), value))(torch.full((1, *SHAPE), value) + 0.5)
    assert y.abs().max() < 1


@pytest.mark.parametrize("variance", [1e-3, 0.1, 1.0, 70.0, 1e6])
def test_layer_norm_is_that_of_pytorch_on_ordinary_features(variance):
    x = draw(4)
    x = (x - x.mean()) / x.std() * (1.1 * variance) ** 0.5 + 3
    assert torch.equal(build_normalization("layer_norm", SHAPE)(x), torch.nn.LayerNorm(tuple(SHAPE))(x))


@pytest.mark.parametrize("scale", [1e-4, *SCALES])
def test_layer_norm_does_not_follow_the_scale(scale):
    x, norm = draw(4), build_normalization("layer_norm", SHAPE)
    torch.testing.assert_close(norm(scale * x), norm(x), rtol=0.01, atol=0.01)


@pytest.mark.parametrize("value", [0.0, 5.0, 1e-4])
def test_layer_norm_of_a_constant_is_0(value):
    assert build_normalization("layer_norm", SHAPE)(torch.full((2, *SHAPE), value)).abs().max() < 0.05


@pytest.mark.parametrize("scale", [1.0, *SCALES])
@pytest.mark.parametrize("method", ["fastflow", "uflow"])
@torch.no_grad()
def test_rankings_of_published_flows_do_not_follow_the_scale(method, scale):
    shapes = [LevelShape(12, 8, 8), LevelShape(16, 4, 4)]
    generator = torch.Generator().manual_seed(0)
    spread = torch.linspace(0.8, 1.5, 12)[:, None, None, None]
    test = Features([spread * torch.randn(12, *shape, generator=generator) for shape in shapes])
    settings = resolve_settings(method, overrides={"flow_steps": 2})
    model = build_method(method, shapes, settings, (32, 32), 0).eval()
    expected, found = model.score(test).images, model.score(test.map(lambda x: scale * x)).images
    assert found.argsort().tolist() == expected.argsort().tolist()


@pytest.mark.parametrize("scale", [1.0, *SCALES])
@pytest.mark.parametrize("score", ["likelihood", "density"])
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_scores_of_flows_do_not_follow_the_scale_or_a_dead_channel(kind, score, scale):
    train, test = draw(50), draw(6, seed=1)
    train[:, 0] = test[:, 0] = 0
    settings = resolve_settings("fastflow", overrides={"flow_steps": 2, "normalization": kind, "score": score})

    def scores(factor, test):
        model = build_method("fastflow", [SHAPE], settings, (24, 24), 0)
        model.prepare(lambda: [Features([factor * train])])
        return model.eval().score(Features([factor * test])).images

    expected, touched = scores(1.0, test), test.clone()
    torch.testing.assert_close(scores(scale, test), expected, atol=1e-3, rtol=1e-3)
    assert scores(scale, test).argsort().tolist() == expected.argsort().tolist()
    for value in (0.001, 0.1):
        touched[:, 0, 3, 3] = value
        torch.testing.assert_close(scores(scale, touched), expected, atol=0.2, rtol=0.2)
