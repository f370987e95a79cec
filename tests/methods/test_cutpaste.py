"""CutPaste: known sizes, patches and scars of the described sizes, a pretext that can be learned, and the Gaussian."""

import math

import pytest
import torch
from sklearn.covariance import ledoit_wolf as expected_covariance

from nfbench.blocks.cutpaste import cut_paste, draw_patches, draw_scars
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, count_parameters, resolve_settings
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.features.building import count_on
from nfbench.methods.cutpaste import ledoit_wolf
from tests.tiny_models import build_tiny


def build(**overrides):
    return build_tiny("cutpaste", resolve_settings("cutpaste", overrides={"hidden_dim": 16, **overrides}))


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(count, side=64):
    return torch.rand(count, 3, side, side, generator=drawn(9))


@pytest.mark.parametrize(("hidden_layers", "parameters"), [(1, 11_506_499), (8, 13_352_259)])
def test_the_described_numbers_of_parameters(hidden_layers, parameters):
    settings = resolve_settings("cutpaste", overrides={"hidden_layers": hidden_layers})
    backbone = BackboneConfig(name="resnet18.tv_in1k", levels=(4,), frozen=False)
    assert count_parameters(count_on(backbone, "cutpaste", settings))["total"] == parameters


def test_a_patch_is_a_piece_of_its_own_image():
    images = noise(40)
    pasted = cut_paste(images, draw_patches(images, drawn()), 0.0, drawn(1))
    changed = (pasted != images).any(1)
    for image, other, mask in zip(images, pasted, changed, strict=True):
        rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
        height, width = len(rows), len(columns)
        assert mask.sum() == height * width == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        assert 0.015 < height * width / 64**2 < 0.165
        assert 0.25 < width / height < 4
        patch = other[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        windows = image.unfold(1, height, 1).unfold(2, width, 1)
        assert (windows - patch[:, None, None]).abs().amax((0, 3, 4)).min() < 1e-5
    areas = changed.flatten(1).double().mean(1)
    assert areas.min() < 0.04
    assert areas.max() > 0.12


def test_a_scar_has_its_size_and_lies_within_the_image():
    images = noise(1, 256).expand(60, -1, -1, -1)
    width, length, angle = draw_scars(images, drawn())
    found = [*torch.cat([width, length, angle.rad2deg()], 2).flatten(0, 1).aminmax(dim=0)]
    for values, bounds in zip(found, ([2, 10, -45], [16, 25, 45]), strict=True):
        torch.testing.assert_close(values, torch.tensor(bounds).float(), atol=5, rtol=0)
    assert (found[0] >= torch.tensor([2, 10, -45])).all()
    assert (found[1] <= torch.tensor([16, 25, 45])).all()
    changed = (cut_paste(images, (width, length, angle), 0.0, drawn(1)) != images).any(1)
    torch.testing.assert_close(changed.flatten(1).sum(1).float(), (width * length).flatten(), atol=14, rtol=0.1)


def test_the_pretext_can_be_learned_and_a_pasted_image_is_far_from_normal_ones():
    waves = torch.sin(torch.arange(32.0) + 6.3 * torch.rand(16, 1, 1, 1, generator=drawn()))
    method = build(lr=0.03)
    features = Features([], method.pixels.normalized(0.5 + 0.4 * waves.expand(-1, 3, 32, -1)))
    optimizer = method.train().own_optimizer()
    for step in range(20):
        for loss in method.losses(Batch(features), drawn(step)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert loss < 0.9 < math.log(3)  # at 32 pixels, most scars are invisible
    with torch.no_grad():
        method.eval().calibrate(lambda: [features])
        normal, patch, scar = method.score(Features([], method.variants(features.image, drawn()))).images.chunk(3)
    assert (patch > normal).double().mean() > 0.8  # of the same image
    assert scar.mean() > normal.mean()


def test_the_covariance_is_scikit_learns_and_whitening_measures_by_it():
    x = torch.randn(20, 6, dtype=torch.float64, generator=drawn()) * torch.arange(1, 7)
    covariance, _ = expected_covariance(x.numpy())
    torch.testing.assert_close(ledoit_wolf(x), torch.from_numpy(covariance))
    method, features = build().eval(), Features([], torch.randn(30, 3, 32, 32, generator=drawn()))
    with torch.no_grad():
        assert torch.equal(method.whitening, torch.eye(64, dtype=torch.float64))
        embeddings = method.embed(features.image).double()
        torch.testing.assert_close(method.score(features).images, embeddings.norm(dim=1))  # of the identity
        method.calibrate(lambda: [features])
        centred = embeddings - embeddings.mean(0)
        squared = (centred @ torch.linalg.inv(ledoit_wolf(embeddings)) * centred).sum(1)
        torch.testing.assert_close(method.score(features).images, squared.sqrt())


def test_the_mean_of_equal_images_is_at_distance_zero():
    method, features = build().eval(), Features([], torch.zeros(3, 3, 32, 32))
    with torch.no_grad():
        method.calibrate(lambda: [features])
        assert method.score(features).images.abs().max() < 1e-6


@pytest.mark.parametrize(("key", "value"), [("betas", (0.5, 0.9)), ("eps", 1e-2)])
def test_settings_of_adam_are_refused(key, value):
    with pytest.raises(NfbenchError, match=f"'{key}' is a setting of Adam and has no effect"):
        resolve_settings("cutpaste", overrides={key: value})
