"""Scores of untrained methods for features of other scales and for channels constant in training."""

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.methods import padim

SHAPES = [LevelShape(24, 8, 8), LevelShape(16, 4, 4)]
SCALES = [1e-3, 1.0, 30.0, 1e3]


def draw(n, seed=0, factor=0.0):
    """Features; with ``factor``, of a strong common factor besides."""
    generator = torch.Generator().manual_seed(seed)
    common = factor * torch.randn(n, 1, 1, 1, generator=generator)
    return Features([common + torch.randn(n, *shape, generator=generator) for shape in SHAPES])


def fit(name, features, shapes=SHAPES, **overrides):
    settings = resolve_settings(name, overrides={"smoothing": 0, **overrides})
    model = build_method(name, shapes, settings, (32, 32), 0)
    model.prepare(lambda: [features[first : first + 7] for first in range(0, len(features), 7)])
    return model.eval()


def times(scale, features):
    return features.map(lambda x: scale * x)


def mahalanobis(train, test, regularization=0.01):
    """Distances of the first level's positions ``(N, H, W)``, by NumPy in float64."""
    found = np.empty((len(test), *test.shape[2:]))
    for row, column in np.ndindex(*test.shape[2:]):
        x = train[:, :, row, column].double().numpy()
        centred = test[:, :, row, column].double().numpy() - x.mean(0)
        covariance = np.cov(x, rowvar=False) + regularization * np.eye(x.shape[1])
        found[:, row, column] = np.sqrt((centred.T * np.linalg.solve(covariance, centred.T)).sum(0))
    return found


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("factor", [0.0, 30.0])
@torch.no_grad()
def test_padim_is_that_of_float64_at_every_scale(scale, factor):
    train, test = (times(scale, draw(20, seed, factor)).levels[0] for seed in (0, 1))
    model = fit("padim", Features([train]), SHAPES[:1])
    found = model._squared_distances(Features([test])).sqrt().numpy()
    np.testing.assert_allclose(found, mahalanobis(train, test), rtol=1e-4)


@pytest.mark.parametrize("scale", [1e4, 1e6, 1e9, 1e15])
@torch.no_grad()
def test_padim_can_be_fitted_to_variances_of_any_size(scale):
    model = fit("padim", times(scale, draw(10, factor=100.0)), reduced_dimensions=40)
    scores = model.score(times(scale, draw(3, seed=1, factor=100.0)))
    assert torch.isfinite(scores.maps).all()
    assert scores.images.min() > 0


@pytest.mark.parametrize("scale", SCALES)
@torch.no_grad()
def test_a_channel_without_variance_does_not_decide_padim(scale):
    train, test = draw(30), draw(4, seed=1)
    train.levels[0][:, 0] = test.levels[0][:, 0] = 0
    model = fit("padim", times(scale, train), reduced_dimensions=40)
    expected = model.score(times(scale, test)).images
    test.levels[0][:, 0, 3, 3] = 0.001
    torch.testing.assert_close(model.score(times(scale, test)).images, expected, rtol=0.1, atol=0)


@torch.no_grad()
def test_padim_is_the_same_whatever_it_sums_at_a_time(monkeypatch):
    train, test = draw(20), draw(3, seed=1)
    expected = fit("padim", train)
    monkeypatch.setattr(padim, "_SUMS", 5 * 8 * 40**2)
    in_parts = fit("padim", train)
    assert torch.equal(in_parts.whitening, expected.whitening)
    assert torch.equal(in_parts.score(test).maps, expected.score(test).maps)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize(("distance", "power"), [("squared", 2), ("euclidean", 1)])
@torch.no_grad()
def test_patchcore_scores_grow_with_the_features(distance, power, scale):
    settings = {"distance": distance, "pretrain_dim": 32, "target_dim": 32, "projection_dim": 16}
    train, test = draw(12), draw(6, seed=1)
    train.levels[0][:, 0] = 0
    expected = fit("patchcore", train, **settings).score(test)
    found = fit("patchcore", times(scale, train), **settings).score(times(scale, test))
    torch.testing.assert_close(found.maps / scale**power, expected.maps, rtol=1e-4, atol=1e-5)
    assert found.images.argsort().tolist() == expected.images.argsort().tolist()
