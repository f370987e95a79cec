"""DifferNet: parameter count, views, likelihood and its gradient, scores, a planted anomaly, settings, seeds, state."""

import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.maps import GradientSettings
from nfbench.blocks.method import Batch, LevelShape, build_method, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.methods.differnet import DifferNet

SMALL = [LevelShape(6, 4, 4), LevelShape(5, 2, 2), LevelShape(4, 1, 1)]
CHANNELS = 15


def build(shapes=SMALL, seed=0, **overrides):
    settings = resolve_settings("differnet", overrides={"hidden_channels": 16, "flow_steps": 3, **overrides})
    return build_method("differnet", shapes, settings, (32, 32), seed)


def draw(views, batch=3):
    return Features([torch.randn(batch, views, *shape) for shape in SMALL])


def vectors_of(features):
    return torch.cat([level.flatten(3).mean(3) for level in features.levels], dim=2)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def test_parameter_count_is_the_published_one():
    shapes = [LevelShape(256, 13, 13), LevelShape(256, 6, 6), LevelShape(256, 2, 2)]
    with torch.device("meta"):
        method = build_method("differnet", shapes, resolve_settings("differnet"), (448, 448), 0)
    flow = sum(parameter.numel() for parameter in method.parameter_groups()["flow"])
    assert flow == sum(parameter.numel() for parameter in method.parameters() if parameter.requires_grad) == 172_077_056
    assert method.latent_shapes() == [(768,)]


@torch.no_grad()
@pytest.mark.parametrize("views", [1, 5])
def test_likelihood_and_loss_are_one_formula_over_views(views):
    method, features = build(), draw(views)
    (z,), log_det = method.flow([vectors_of(features).flatten(0, 1)])
    loss = (0.5 * z.square().sum(1) - log_det) / CHANNELS
    torch.testing.assert_close(method.loss(features), loss.mean())
    density = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + log_det
    torch.testing.assert_close(method.log_likelihood(features), density.view(3, views).mean(1) / CHANNELS)
    assert log_det.abs().min() > 1e-4
    assert method.loss_scale == 1


@torch.no_grad()
def test_image_score_is_the_mean_square_over_views_and_dimensions():
    method, features = build(), draw(5)
    (z,), _ = method.flow([vectors_of(features).flatten(0, 1)])
    scores = method.score(features)
    torch.testing.assert_close(scores.images, z.view(3, 5, CHANNELS).square().mean((1, 2)))
    assert scores.maps is None
    assert scores.latents is None


@torch.no_grad()
def test_pooled_features_and_features_of_one_view_are_taken_too():
    method, features = build(), draw(5)
    pooled = features.map(lambda level: level.mean((3, 4), keepdim=True))
    torch.testing.assert_close(method.score(pooled).images, method.score(features).images)
    torch.testing.assert_close(method.log_likelihood(pooled), method.log_likelihood(features))
    single, generator = draw(1), torch.Generator()
    without_axis = single[:, 0]
    assert torch.equal(method.score(without_axis).images, method.score(single).images)
    assert torch.equal(method.log_likelihood(without_axis), method.log_likelihood(single))
    assert torch.equal(next(method.losses(Batch(without_axis), generator)), method.loss(single))


@torch.no_grad()
def test_order_of_views_does_not_matter():
    method, features = build(), draw(5)
    turned = features.map(lambda level: level.flip(1))
    torch.testing.assert_close(method.score(turned).images, method.score(features).images)


@torch.no_grad()
def test_training_draws_views_without_replacement_for_each_image(monkeypatch):
    method = build()
    views = torch.arange(10.0).view(1, 10, 1, 1, 1) + 100 * torch.arange(50.0).view(50, 1, 1, 1, 1)
    features = Features([views.expand(50, 10, *shape) for shape in SMALL])
    seen = []
    monkeypatch.setattr(DifferNet, "loss", lambda self, given: seen.append(given) or torch.zeros(()))
    for seed in (0, 0, 1):
        assert len(list(method.losses(Batch(features), torch.Generator().manual_seed(seed)))) == 1
    first, again, other = (given[:, :, 0, 0, 0].levels for given in seen)
    assert all(torch.equal(level, first[0]) for level in first)  # the same views of all levels
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])
    image, view = first[0] // 100, first[0] % 100
    assert first[0].shape == (50, 4)
    assert torch.equal(image, torch.arange(50.0)[:, None].expand(50, 4))
    assert all(len(row.unique()) == 4 for row in view)
    assert len({tuple(row.sort().values.tolist()) for row in view}) > 20  # drawn again for each image
    assert len(view.unique()) == 10


@torch.no_grad()
@pytest.mark.parametrize("views", [1, 3, 4])
def test_all_views_are_used_where_there_are_no_more(views):
    method, features, generator = build(), draw(views), torch.Generator().manual_seed(0)
    before = generator.get_state()
    assert [loss.item() for loss in method.losses(Batch(features), generator)] == [method.loss(features).item()]
    assert torch.equal(generator.get_state(), before)


def test_likelihood_is_differentiable_with_respect_to_the_features():
    method = build().double().requires_grad_(False)
    features = draw(2, batch=2).map(lambda level: level.double().requires_grad_())
    assert torch.autograd.gradcheck(lambda *levels: method.log_likelihood(Features(levels)), features.levels)
    gradients = torch.autograd.grad(method.log_likelihood(features).sum(), features.levels)
    assert all(gradient.abs().amax((2, 3, 4)).min() > 0 for gradient in gradients)


def test_every_parameter_gets_a_gradient():
    method = build()
    next(method.losses(Batch(draw(6, batch=8)), torch.Generator().manual_seed(0))).backward()
    without = [name for name, p in method.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == []


def test_a_planted_anomaly_raises_the_score():
    """Normal vectors lie near a subspace of 5 out of 15 dimensions; the anomaly is as long, but leaves it."""
    mixing, _ = torch.linalg.qr(torch.randn(CHANNELS, CHANNELS))
    sections = [shape.channels for shape in SMALL]

    def features(vectors):
        return Features([part[..., None, None] for part in vectors.split(sections, dim=2)])

    def normal(batch, views):
        vectors = 3**0.5 * torch.randn(batch, views, 5) @ mixing[:5]
        return vectors + 0.1 * torch.randn_like(vectors)

    method, generator, test = build(hidden_channels=64), torch.Generator().manual_seed(0), normal(20, 8)
    optimizer = torch.optim.Adam(method.parameters(), 1e-3, betas=method.settings.betas, eps=method.settings.eps)
    for _ in range(200):
        optimizer.zero_grad()
        next(method.losses(Batch(features(normal(32, 8))), generator)).backward()
        optimizer.step()
    anomalous = test + 2 * mixing[7]
    anomalous = anomalous * (test.norm(dim=2) / anomalous.norm(dim=2))[..., None]
    with torch.inference_mode():
        assert method.score(features(anomalous)).images.min() > method.score(features(test)).images.max()
        assert method.log_likelihood(features(anomalous)).max() < method.log_likelihood(features(test)).min()


@torch.no_grad()
@pytest.mark.parametrize("channels", [2, 3, 8])
def test_odd_and_even_dimensions(channels):
    method = build([LevelShape(channels, 2, 2)])
    level = torch.randn(4, 3, channels, 2, 2)
    (z,), _ = method.flow([level.mean((3, 4)).flatten(0, 1)])
    (back,), _ = method.flow([z], rev=True)
    torch.testing.assert_close(back, level.mean((3, 4)).flatten(0, 1), atol=1e-4, rtol=1e-4)
    assert method.score(Features([level])).images.shape == (4,)


def test_a_single_channel_is_refused():
    with pytest.raises(NfbenchError, match="'differnet' needs at least 2 channels"):
        build([LevelShape(1, 4, 4)])


def test_settings_are_the_published_ones():
    settings = resolve_settings("differnet")
    assert (settings.epochs, settings.batch_size, settings.lr, settings.weight_decay) == (192, 24, 2e-4, 1e-5)
    assert (settings.betas, settings.eps, settings.gradient_clip) == ((0.8, 0.8), 1e-4, None)
    assert (settings.schedule, settings.drop_last) == ("constant", False)
    assert (settings.flow_steps, settings.hidden_channels, settings.clamp) == (8, 2048, 3.0)
    assert (settings.train_views, settings.localization_views, settings.localization_sigma) == (4, 8, 3.0)
    assert build().views == 4
    assert build().gradient_maps == GradientSettings(views=8, sigma=3.0)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train_views": 0}, "setting 'train_views' of method 'differnet'"),
        ({"localisation_views": 64}, "did you mean 'localization_views'"),
    ],
)
def test_wrong_settings_are_named(overrides, message):
    with pytest.raises(NfbenchError, match=message):
        resolve_settings("differnet", overrides=overrides)


def test_same_seed_same_model():
    ours, same, other = (build(seed=seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(value, same[name]) for name, value in ours.items())
    for part in ("permutations", "weight"):
        assert all(not torch.equal(value, other[name]) for name, value in ours.items() if part in name)
