"""AE-SSIM: the network's size is the described one, SSIM is scikit-image's, patches cover the image."""

import numpy as np
import pytest
import torch
from kornia.metrics import ssim as kornia_ssim
from skimage.metrics import structural_similarity

from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, build_method, resolve_settings
from nfbench.blocks.ssim import ssim
from nfbench.core.errors import NfbenchError
from nfbench.methods.ae_ssim import Autoencoder

SMALL = {"patch_size": 64, "latent_channels": 8, "width": 4}


def build(side=64, seed=0, **overrides):
    settings = resolve_settings("ae_ssim", overrides={**SMALL, **overrides})
    return build_method("ae_ssim", [], settings, (side, side), seed)


def normalized(images):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    return Features([], (images - mean) / std)


@pytest.mark.parametrize(
    ("patch_size", "latent_channels", "parameters"), [(128, 100, 1_050_599), (256, 500, 2_722_231)]
)
def test_the_networks_have_the_described_numbers_of_parameters(patch_size, latent_channels, parameters):
    network = Autoencoder(patch_size, latent_channels, 32)
    assert sum(p.numel() for p in network.parameters()) == parameters
    patch = torch.rand(1, 3, patch_size, patch_size)
    assert network.encoder(patch).shape == (1, latent_channels, 1, 1)
    assert network(patch).shape == patch.shape


@pytest.mark.parametrize("size", [(32, 32), (40, 23)])
def test_ssim_is_that_of_other_libraries(size):
    torch.manual_seed(0)
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    y = (x + 0.2 * torch.randn_like(x)).clamp(0, 1)
    found = ssim(x, y)
    torch.testing.assert_close(found, kornia_ssim(x, y, 11).mean(1), atol=1e-7, rtol=1e-7)
    _, expected = structural_similarity(
        x[0].numpy(), y[0].numpy(), gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1,
        channel_axis=0, full=True,
    )  # fmt: skip
    inner = np.s_[5:-5, 5:-5]  # its borders are mirrored with the border pixel repeated
    np.testing.assert_allclose(found[0].numpy()[inner], expected.mean(0)[inner], atol=1e-12)
    torch.testing.assert_close(ssim(x, x), torch.ones_like(found))


def test_each_step_has_patches_of_its_own_and_draws_repeat():
    method, batch = build(96, patches=2, patch_steps=3), Batch(normalized(torch.rand(4, 3, 96, 96)))
    found = [[loss.item() for loss in method.losses(batch, torch.Generator().manual_seed(seed))] for seed in (0, 0, 1)]
    assert found[0] == found[1] != found[2]
    assert len(set(found[0])) == 3


def test_a_patch_as_large_as_the_image_is_the_image():
    images = torch.rand(2, 3, 64, 64)
    method, batch = build(patches=1, patch_steps=1), Batch(normalized(images))
    (loss,) = method.losses(batch, torch.Generator())
    expected = 1 - ssim(images, method.autoencoder(images)).mean()
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("side", "stride"), [(64, 32), (96, 32), (100, 32), (100, 7), (130, 64)])
def test_overlapping_patches_cover_the_image_and_are_averaged(side, stride):
    method = build(side, patch_stride=stride)
    method.autoencoder = torch.nn.Identity()
    images = torch.rand(2, 3, side, side)
    torch.testing.assert_close(method.reconstruct(images), images)
    scores = method.score(normalized(images))
    assert scores.maps.shape == (2, side, side)
    assert scores.maps.abs().max() < 1e-6


def test_images_smaller_than_a_patch_are_refused_by_name():
    with pytest.raises(NfbenchError, match=r"'patch_size' of method 'ae_ssim' is 64, but images have 32 pixels"):
        build(32)


def test_patches_that_leave_gaps_are_refused():
    with pytest.raises(NfbenchError, match="'patch_stride' 65 leaves gaps between patches of 64 pixels"):
        resolve_settings("ae_ssim", overrides={**SMALL, "patch_stride": 65})
