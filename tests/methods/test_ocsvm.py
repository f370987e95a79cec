"""OCSVM: scores equal scikit-learn's, distant images score higher, and standardized features have no scale."""

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf
from sklearn.neighbors import NearestNeighbors
from sklearn.svm import OneClassSVM

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, load_method, resolve_settings
from nfbench.core.errors import NfbenchError

SHAPES = [LevelShape(5, 8, 8), LevelShape(7, 4, 4)]
SCALES = torch.linspace(0.5, 20, 12, dtype=torch.double)
DENSITIES = ("ocsvm", "knn", "gaussian")


def build(shapes=SHAPES, **overrides):
    return build_method("ocsvm", shapes, resolve_settings("ocsvm", overrides=overrides), (32, 32), 0)


def draw(count, seed=0):
    """Features in float64, whose channels have scales of their own."""
    generator = torch.Generator().manual_seed(seed)
    levels = [torch.randn(count, *shape, generator=generator, dtype=torch.double) for shape in SHAPES]
    scales = [scale.view(-1, 1, 1) for scale in SCALES.split([5, 7])]
    return Features([level * scale + scale for level, scale in zip(levels, scales, strict=True)])


def fit(model, features):
    model.train().prepare(lambda: [features[:10], features[10:]])
    return model.eval()


def vectors(features):
    return torch.cat([level.mean((2, 3)) for level in features.levels], dim=1).numpy()


def of_scikit_learn(density, x, y, settings):
    """Scores of ``y`` by a density of ``x``."""
    if density == "ocsvm":
        return -OneClassSVM(nu=settings.nu, gamma="scale").fit(x).decision_function(y)
    if density == "knn":
        return np.square(NearestNeighbors(n_neighbors=settings.knn_neighbors).fit(x).kneighbors(y)[0]).mean(1)
    return np.sqrt(LedoitWolf().fit(x).mahalanobis(y))


@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("density", DENSITIES)
def test_scores_are_those_of_scikit_learn(density, standardize):
    train, test = draw(60), draw(20, seed=1)
    model = fit(build(density=density, standardize=standardize, nu=0.3), train)
    scores = model.score(test)
    assert scores.maps is None
    x, y = vectors(train), vectors(test)
    if standardize:
        x, y = (x - x.mean(0)) / x.std(0), (y - x.mean(0)) / x.std(0)
    expected = of_scikit_learn(density, x, y, model.settings)
    np.testing.assert_allclose(scores.images, expected, rtol=1e-10, atol=1e-12)
    again = load_method(build(density=density, standardize=standardize), model.state_dict())
    assert torch.equal(again.score(test).images, scores.images)


@pytest.mark.parametrize("density", DENSITIES)
def test_an_image_scores_higher_the_farther_it_lies(density):
    train, test = draw(60), draw(20, seed=1)
    model = fit(build(density=density), train)
    steps = [0, 0.5, 1, 2]
    means = [model.score(test.map(lambda level, by=by: level + by * level.std())).images.mean() for by in steps]
    assert means == sorted(means)
    assert means[-1] > means[0] + 0.1


@pytest.mark.parametrize("nu", [0.05, 0.2, 0.5])
def test_nu_lies_between_the_shares_of_images_outside_and_of_support_vectors(nu):
    """Outside: beyond the solver's tolerance for images on the boundary."""
    train = draw(600)
    model = fit(build(nu=nu), train)
    scores = model.score(train).images
    assert (scores > 1e-3).double().mean() <= nu <= len(model.vectors) / 600
    assert (scores > -1e-3).double().mean() > nu / 2


def test_standardized_vectors_forget_the_scale_of_a_channel():
    def rescaled(features):
        first, *others = features.levels
        return Features([first * 100 + 7, *others])

    train, test = draw(60), draw(20, seed=1)
    for density in DENSITIES:
        plain = fit(build(density=density), train).score(test).images
        other = fit(build(density=density), rescaled(train)).score(rescaled(test)).images
        torch.testing.assert_close(plain, other)
    raw = fit(build(standardize=False), train).score(test).images
    assert not torch.allclose(raw, fit(build(standardize=False), rescaled(train)).score(rescaled(test)).images)


@pytest.mark.parametrize("density", DENSITIES)
def test_pooled_levels_are_the_averages_of_unpooled_ones(density):
    train, test = draw(40), draw(10, seed=1)
    pooled = [features.map(lambda level: level.mean((2, 3), keepdim=True)) for features in (train, test)]
    shapes = [LevelShape(shape.channels, 1, 1) for shape in SHAPES]
    expected = fit(build(density=density), train).score(test).images
    torch.testing.assert_close(fit(build(shapes, density=density), pooled[0]).score(pooled[1]).images, expected)


@pytest.mark.parametrize("density", DENSITIES)
def test_a_rounding_error_is_no_variance_of_a_channel(density):
    def still(features, offset):
        return Features([0.1 + offset + 1e-16 * features.levels[0], features.levels[1]])

    train, test = draw(40), draw(10, seed=1)
    model = fit(build(density=density), still(train, 0))
    usual, near, far = (model.score(still(test, offset)).images for offset in (0, 1e-9, 10))
    torch.testing.assert_close(near, usual)
    assert (far > usual + 0.1).all()


def test_images_without_any_variance_have_no_covariance_but_neighbors():
    train = Features([torch.full((20, *shape), 2.0) for shape in SHAPES])
    for density in ("ocsvm", "knn"):
        model = fit(build(density=density), train)
        assert (model.score(train.map(lambda level: level + 1)).images > model.score(train).images).all()
    with pytest.raises(NfbenchError, match="all 20 training images have equal averages; add images, or set"):
        fit(build(density="gaussian"), train)


def test_ocsvm_without_training_images():
    with pytest.raises(NfbenchError, match="OCSVM has no training images"):
        build().score(draw(1))
