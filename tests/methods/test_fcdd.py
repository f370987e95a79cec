"""FCDD: the described numbers of parameters, known losses, the up-sampling, and confetti that is learned."""

import pytest
import torch

from nfbench.blocks.confetti import add_confetti
from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, resolve_settings
from nfbench.config import BackboneConfig
from nfbench.features.building import count_on
from nfbench.methods.fcdd import anomaly_loss, gaussian_upsample, local_contrast, pseudo_huber
from tests.tiny_models import build_tiny


def build(**overrides):
    tiny = {"frozen_layers": 1, "receptive_field": 8, "sigma": 2.0}
    return build_tiny("fcdd", resolve_settings("fcdd", overrides={**tiny, **overrides}))


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels_of(count, seed=0):
    return 0.5 + 0.1 * torch.randn(count, 3, 32, 32, generator=drawn(seed)).clamp(-3, 3)


def features_of(method, pixels):
    return Features([], method.pixels.normalized(pixels))


class Once:
    def __init__(self, *parts):
        self.parts = parts

    def __call__(self):
        return self.parts


def test_the_described_numbers_of_parameters():
    backbone = BackboneConfig(name="vgg11_bn.tv_in1k", levels=(3,), input_size=224, frozen=False)
    method = count_on(backbone, "fcdd", resolve_settings("fcdd"))
    assert backbone.network_shapes == {"level3": (512, 28, 28)}
    assert sum(p.numel() for p in method.parameters()) == 4_504_833
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == 3_542_529


def test_known_losses():
    found = pseudo_huber(torch.tensor([0.0, 1.0, -3.0, 1e-4]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.41421356, 2.1622777, 5e-9]))
    assert anomaly_loss(torch.tensor(1.0)).item() == pytest.approx(0.4587, abs=1e-4)
    assert anomaly_loss(torch.tensor(0.0)).isfinite()


@pytest.mark.parametrize(("side", "size"), [(28, 224), (12, 100), (16, 32)])
def test_a_single_value_is_up_sampled_to_the_centre_of_its_field(side, size):
    heat, stride = torch.zeros(1, side, side), round(size / side)
    heat[0, 5, 7] = 1
    large = gaussian_upsample(heat, (size, size), 62, 12.0)
    assert large.shape == (1, size, size)
    places = (large[0] > large.max() - 1e-6).nonzero().double().mean(0)
    assert places.tolist() == [5 * stride + (stride - 1) / 2, 7 * stride + (stride - 1) / 2]


def test_a_constant_map_keeps_its_value():
    large = gaussian_upsample(torch.ones(1, 28, 28), (224, 224), 62, 12.0)
    torch.testing.assert_close(large[0, 40:-40, 40:-40], torch.ones(144, 144), atol=2e-2, rtol=0)


def test_contrast_is_normalized_and_ranges_are_those_of_the_training_images():
    images = pixels_of(6)
    found = local_contrast(images)
    torch.testing.assert_close(found.mean((1, 2, 3)), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.abs().mean((1, 2, 3)), torch.ones(6))
    torch.testing.assert_close(local_contrast(0.3 * images + 0.1), found, atol=1e-4, rtol=0)
    method = build()
    method.prepare(Once(features_of(method, images[:4]), features_of(method, images[4:])))
    torch.testing.assert_close(method.low.flatten(), found.amin((0, 2, 3)), atol=1e-4, rtol=0)
    torch.testing.assert_close(method.high.flatten(), found.amax((0, 2, 3)), atol=1e-4, rtol=0)


def test_confetti_changes_a_part_of_each_image():
    images = torch.rand(60, 1, 1, 1, generator=drawn()).expand(-1, 3, 64, 64)
    changed = (add_confetti(images, drawn()) - images).abs()
    share = (changed.amax(1) > 0.02).flatten(1).double().mean(1)
    assert share.min() > 0
    assert 0.005 < share.median() < 0.15
    assert changed.flatten(1).amax(1).min() > 0.05
    dark = add_confetti(torch.zeros(20, 3, 64, 64), drawn())
    assert (dark.flatten(1).amax(1) > 0).all()  # where nothing can be darker it is brighter
    assert (add_confetti(torch.ones(20, 3, 64, 64), drawn()) <= 1).all()


def test_the_first_layers_rest_but_for_their_statistics():
    method = build()
    method.prepare(Once(features_of(method, pixels_of(4))))
    before = {name: value.clone() for name, value in method.state_dict().items()}
    optimizer = method.train().own_optimizer()
    for loss in method.losses(Batch(features_of(method, pixels_of(4))), drawn()):
        loss.backward()
        optimizer.step()
    changed = {name for name, value in method.state_dict().items() if not torch.equal(value, before[name])}
    at_rest = {f"network.{name}" for name in ("conv1.weight", "bn1.weight", "bn1.bias")}
    assert {name for name, parameter in method.named_parameters() if not parameter.requires_grad} == at_rest
    assert not at_rest & changed
    assert {"network.bn1.running_mean", "network.layer1.0.conv1.weight", "head.weight"} <= changed


def test_losses_of_normal_images_and_of_masks_are_those_of_the_formulas():
    method, images = build(confetti_share=0, jitter=0, noise=0).eval(), pixels_of(2)
    method.prepare(Once(features_of(method, images)))
    masks = torch.zeros(2, 32, 32)
    masks[1, 4:12, 4:12] = 1
    heat = method.heat(images)
    (normal,), (marked,) = (
        list(method.losses(Batch(features_of(method, images), given), drawn())) for given in (None, masks)
    )
    torch.testing.assert_close(normal, heat.mean(), atol=1e-5, rtol=1e-3)
    large = method.upsample(heat)[1]
    inside, outside = (large * masks[1]).mean(), (large * (1 - masks[1])).mean()
    expected = (heat[0].mean() + outside - torch.log(1 - torch.exp(-inside))) / 2
    torch.testing.assert_close(marked, expected, atol=1e-4, rtol=1e-3)
    all_with = build(confetti_share=1)
    assert all_with.with_confetti(images, torch.tensor([False, True]), drawn())[1].tolist() == [True, False]


@pytest.mark.parametrize("given", [False, True])
def test_a_defect_is_found_and_located(given):
    """Learned from confetti alone, or also from a given anomaly with its mask."""
    method, images, masks = build(), pixels_of(8), torch.zeros(8, 32, 32)
    if given:
        masks[4:, 10:18, 10:18] = 1
        images = images - 0.4 * masks[:, None]
    method.prepare(Once(features_of(method, images)))
    optimizer = method.train().own_optimizer()
    optimizer.param_groups[0]["lr"] = 0.05
    for step in range(60):
        for loss in method.losses(Batch(features_of(method, images), masks if given else None), drawn(step)):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    tested = pixels_of(6, 1)
    tested[3:, :, 20:28, 4:12] -= 0.4
    with torch.no_grad():
        scores = method.eval().score(features_of(method, tested))
    assert scores.images[3:].min() > scores.images[:3].max()
    for row, column in (divmod(place, 32) for place in scores.maps[3:].flatten(1).argmax(1).tolist()):
        assert 17 <= row < 31
        assert 1 <= column < 15
