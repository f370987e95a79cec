"""CS-Flow: parameter count, scales it takes, likelihood, scores, a planted anomaly, settings, seeds, state."""

import math

import pytest
import torch
from torch.nn import functional

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.core.errors import NfbenchError

SMALL = [LevelShape(8, 8, 8), LevelShape(8, 4, 4), LevelShape(8, 2, 2)]


def build(shapes=SMALL, seed=0, moved=True, **overrides):
    settings = resolve_settings("csflow", overrides={"hidden_channels": 16, **overrides})
    method = build_method("csflow", shapes, settings, (32, 32), seed)
    if moved:
        with torch.no_grad():
            for step in method.flow.steps:
                step.net1.gamma.fill_(0.5)
                step.net2.gamma.fill_(-0.5)
    return method


def draw(shapes=SMALL, batch=3):
    return Features([torch.randn(batch, *shape) for shape in shapes])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_parameter_count_is_the_published_one():
    shapes = [LevelShape(304, 24, 24), LevelShape(304, 12, 12), LevelShape(304, 6, 6)]
    with torch.device("meta"):
        method = build_method("csflow", shapes, resolve_settings("csflow"), (768, 768), 0)
    blocks = [sum(parameter.numel() for parameter in step.parameters()) for step in method.flow.steps]
    assert blocks == [47_638_694] * 3 + [132_311_206]
    flow = sum(parameter.numel() for parameter in method.parameter_groups()["flow"])
    assert flow == sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad) == 275_227_288
    assert method.dimensions == 229_824


@torch.no_grad()
@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("channels", [2, 7])
def test_any_number_of_scales_and_channels(scales, channels):
    shapes = [LevelShape(channels, 8 // 2**scale, 4 // 2**scale) for scale in range(scales)]
    method, features = build(shapes), draw(shapes)
    scores = method.score(features)
    assert scores.maps.shape == (3, 32, 32)
    assert [tuple(z.shape[1:]) for z in scores.latents] == method.latent_shapes() == [tuple(s) for s in shapes]
    back, _ = method.flow(scores.latents, rev=True)
    torch.testing.assert_close(back, features.levels, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "shapes",
    [
        [LevelShape(8, 8, 8), LevelShape(16, 4, 4)],  # levels of a network, not scales
        [LevelShape(8, 7, 7), LevelShape(8, 4, 4)],  # an input that cannot be halved
        [LevelShape(8, 8, 8), LevelShape(8, 8, 8)],
        [LevelShape(8, 8, 8), LevelShape(8, 4, 8)],
        [LevelShape(8, 4, 4), LevelShape(8, 8, 8)],  # coarse to fine
        [LevelShape(1, 4, 4)],
    ],
    ids=str,
)
def test_what_are_not_scales_is_refused(shapes):
    with pytest.raises(NfbenchError, match=r"each half the size .* got \d+x\d+x\d+.* scales: \[1, 2, 4\], one level"):
        build(shapes)


@torch.no_grad()
def test_likelihood_and_loss_are_one_formula():
    method, features = build(), draw()
    latents, log_det = method.flow(features.levels)
    z = torch.cat([latent.flatten(1) for latent in latents], dim=1)
    torch.testing.assert_close(method.loss(features), ((0.5 * z.square().sum(1) - log_det) / z.shape[1]).mean())
    density = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + log_det
    torch.testing.assert_close(method.log_likelihood(features), density / z.shape[1])
    assert log_det.abs().min() > 1
    assert z.shape[1] == method.dimensions == 8 * (64 + 16 + 4)
    assert method.loss_scale == 1


@torch.no_grad()
@pytest.mark.parametrize("localization", ["finest", "product"])
def test_scores_are_their_formulas(localization):
    method, features = build(localization=localization), draw()
    scores = method.score(features)
    latents, _ = method.flow(features.levels)
    z = torch.cat([latent.flatten(1) for latent in latents], dim=1)
    torch.testing.assert_close(scores.images, (z**2 / 2).mean(1))
    torch.testing.assert_close(list(scores.latents), latents)
    expected = torch.ones(3, 1, 32, 32)
    for latent in latents if localization == "product" else latents[:1]:
        energy = (latent**2).mean(1, keepdim=True)
        expected *= functional.interpolate(energy, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(scores.maps, expected[:, 0])


@torch.no_grad()
def test_before_training_latents_are_the_features_in_another_order():
    method, features = build(moved=False), draw()
    for latent, x in zip(method.score(features).latents, features.levels, strict=True):
        torch.testing.assert_close(latent.sort(1).values, x.sort(1).values)
    energy = sum(x.square().flatten(1).sum(1) for x in features.levels) / (2 * method.dimensions)
    torch.testing.assert_close(method.log_likelihood(features), -energy - 0.5 * math.log(2 * math.pi))


def test_every_parameter_gets_a_gradient():
    method = build()
    method.loss(draw()).backward()
    without = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == []


def test_a_planted_anomaly_is_found_where_it_is():
    """Normal features lie in a subspace of 3 out of 8 channels; the anomaly is as long, but leaves it."""
    mixing, _ = torch.linalg.qr(torch.randn(8, 8))
    factor = math.sqrt(8 / 3)

    def normal(batch):
        x = [torch.einsum("cd,bdhw->bchw", factor * mixing[:, :3], torch.randn(batch, 3, s.height, s.width))
             for s in SMALL]  # fmt: skip
        return Features([level + 0.1 * torch.randn_like(level) for level in x])

    method, test = build(moved=False, kernel_sizes=(3, 3)), normal(16)
    anomalous = test.map(torch.clone)
    anomalous.levels[0][:, :, 5:7, 2:4] = math.sqrt(8) * mixing[:, 5].view(-1, 1, 1)  # a 2 x 2 block and its parent
    anomalous.levels[1][:, :, 2:4, 1:2] = math.sqrt(8) * mixing[:, 5].view(-1, 1, 1)
    optimizer = torch.optim.Adam(method.parameters(), 5e-3)
    for _ in range(200):
        optimizer.zero_grad()
        method.loss(normal(16)).backward()
        torch.nn.utils.clip_grad_norm_(method.parameters(), method.settings.gradient_clip)
        optimizer.step()
    with torch.inference_mode():
        scored, untouched = method.score(anomalous), method.score(test)
        assert (scored.images > untouched.images).all()
        assert scored.images.min() > untouched.images.max()
        peaks = scored.maps.flatten(1).argmax(1)
        inside = torch.zeros(32, 32, dtype=torch.bool)
        inside[20:28, 8:16] = True
        assert inside.flatten()[peaks].float().mean() >= 0.9
        assert method.log_likelihood(test).min() > method.log_likelihood(anomalous).max()


def test_settings_are_the_published_ones():
    settings = resolve_settings("csflow")
    assert (settings.epochs, settings.batch_size, settings.lr, settings.weight_decay) == (240, 16, 2e-4, 1e-5)
    assert (settings.betas, settings.eps, settings.gradient_clip) == ((0.9, 0.999), 1e-4, 1.0)
    assert (settings.schedule, settings.drop_last) == ("constant", False)
    assert (settings.kernel_sizes, settings.hidden_channels, settings.clamp) == ((3, 3, 3, 5), 1024, 3.0)
    assert settings.localization == "finest"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"kernel_sizes": [3, 4]}, r"setting 'kernel_sizes.1' of method 'csflow'"),
        ({"kernel_sizes": []}, "setting 'kernel_sizes' of method 'csflow'"),
        ({"hidden_channel": 64}, "did you mean 'hidden_channels'"),
        ({"localization": "coarsest"}, "'finest' or 'product'"),
    ],
)
def test_wrong_settings_are_named(overrides, message):
    with pytest.raises(NfbenchError, match=message):
        resolve_settings("csflow", overrides=overrides)


def test_same_seed_same_model():
    ours, same, other = (build(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, same[name]) for name, value in ours.items())
    for part in ("permutations", "weight"):
        assert all(not torch.equal(value, other[name]) for name, value in ours.items() if part in name)
