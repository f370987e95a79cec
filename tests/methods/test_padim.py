"""PaDiM: exact Gaussians, scores and channels."""

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.methods.padim import pack_rows, unpack_rows
from tests.methods.patch_models import build, draw, fit


def test_padim_may_draw_no_channel_of_a_level():
    features = draw(4)
    model = fit(build("padim", reduced_dimensions=1), features, batch=4)
    assert torch.isfinite(model.score(features).maps).all()


@torch.no_grad()
def test_padim_fits_mean_and_covariance():
    """Against numpy in float64, for features whose mean is large beside their deviation."""
    pairs = zip(draw(1, seed=5).levels, draw(30).levels, strict=True)
    features = Features([100 + 10 * mean + 0.1 * x for mean, x in pairs])
    model = fit(build("padim", reduced_dimensions=12), features, batch=7)
    assert torch.equal(model.channels, model.channels.unique())
    fine, coarse = features.levels
    everywhere = torch.cat([fine, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)], dim=1)
    vectors = everywhere[:, model.channels].flatten(2).double().numpy()  # (N, D, P)
    for position in (0, 17, 255):
        x = vectors[:, :, position]
        covariance = np.cov(x, rowvar=False) + 0.01 * np.eye(12)
        whitening = unpack_rows(model.whitening, 12)[position].double().numpy()
        assert np.array_equal(whitening, np.tril(whitening))
        np.testing.assert_allclose(whitening.T @ whitening @ covariance, np.eye(12), atol=1e-3)
        np.testing.assert_allclose(model.mean[position].numpy(), x.mean(0), rtol=1e-6)


@torch.no_grad()
def test_padim_scores_and_likelihood_are_those_of_gaussians():
    features = draw(30)
    model = fit(build("padim", size=16, smoothing=0), features)
    test = draw(3, seed=9)
    fine, coarse = test.levels
    everywhere = torch.cat([fine, coarse.repeat_interleave(2, 2).repeat_interleave(2, 3)], dim=1)
    x = everywhere[:, model.channels].flatten(2).permute(0, 2, 1).double()
    whitening = unpack_rows(model.whitening, 10).double()
    precision = (whitening.mT @ whitening).contiguous()
    gaussian = torch.distributions.MultivariateNormal(model.mean.double(), precision_matrix=precision)
    centred = x - model.mean.double()
    distance = torch.einsum("bpd,pde,bpe->bp", centred, precision, centred).sqrt()
    scores = model.score(test)
    torch.testing.assert_close(scores.maps.flatten(1), distance.float(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(scores.images, distance.amax(1).float(), atol=1e-4, rtol=1e-4)
    log_density = gaussian.log_prob(x).sum(1) / (256 * 10)
    torch.testing.assert_close(model.log_likelihood(test), log_density.float(), atol=1e-4, rtol=1e-4)
    assert model.log_likelihood(test.map(lambda y: 10 * y)).max() < model.log_likelihood(test).min()


@pytest.mark.parametrize("dim", [1, 32, 33, 550])
def test_triangular_factors_are_stored_without_most_zeros(dim):
    factors = torch.randn(3, dim, dim, generator=torch.Generator().manual_seed(0)).tril()
    packed = pack_rows(factors)
    assert torch.equal(unpack_rows(packed, dim), factors)
    assert dim < 550 or packed.numel() < 0.53 * factors.numel()


@torch.no_grad()
def test_padim_image_score_is_the_maximum_of_the_smoothed_map():
    features = draw(8)
    model = fit(build("padim"), features)
    scores = model.score(features)
    assert torch.equal(scores.images, scores.maps.flatten(1).amax(1))


def test_padim_channels():
    assert build("padim", reduced_dimensions=550).channels.tolist() == list(range(20))
    one, same, other = build("padim").channels, build("padim").channels, build("padim", seed=1).channels
    assert len(one) == 10
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    of = {
        name: resolve_settings("padim", backbone=name).reduced_dimensions
        for name in ("wide_resnet50_2.tv_in1k", "resnet18.tv_in1k", "tf_efficientnet_b5.ns_jft_in1k")
    }
    assert list(of.values()) == [550, 100, 200]


def test_padim_needs_two_images():
    with pytest.raises(NfbenchError, match=r"PaDiM needs 2 or more training images .*, got 1"):
        fit(build("padim"), draw(1))
