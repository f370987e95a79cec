"""SimpleNet: parameters, losses, noise, training."""

import torch

from nfbench.blocks.method import Batch, LevelShape, build_method, resolve_settings
from tests.methods.patch_models import build, draw, fit


def test_simplenet_has_the_published_parameters():
    shapes = [LevelShape(512, 36, 36), LevelShape(1024, 18, 18)]
    model = build_method("simplenet", shapes, resolve_settings("simplenet"), (288, 288), 0)
    found = {part: sum(p.numel() for p in group) for part, group in model.parameter_groups().items()}
    assert found == {"adaptor": 2_360_832, "discriminator": 1_576_960}
    assert sum(p.numel() for p in model.parameters()) == 3_937_792
    std = (2 / (1536 + 1536)) ** 0.5
    assert abs(float(model.adaptor.weight.detach().std()) / std - 1) < 0.01  # xavier, normal
    assert float(model.adaptor.weight.detach().abs().max()) > 4 * std


def test_simplenet_loss_is_one_where_the_discriminator_says_nothing():
    model = build("simplenet")
    torch.nn.init.zeros_(model.discriminator[-1].weight)
    (loss,) = model.losses(Batch(draw(2)), torch.Generator().manual_seed(0))
    assert loss == 1.0


def test_simplenet_loss_by_hand():
    model, features = build("simplenet", noise_std=0.3, margin=0.2), draw(2)
    (loss,) = model.losses(Batch(features), torch.Generator().manual_seed(4))
    with torch.no_grad():
        adapted = model.adaptor(model.embedding(features.levels).reshape(512, 24))
        noise = torch.randn(512, 24, generator=torch.Generator().manual_seed(4))
        outputs = model.discriminator(torch.cat([adapted, adapted + 0.3 * noise]))[:, 0]
    expected = (0.2 - outputs[:512]).clamp_min(0).mean() + (0.2 + outputs[512:]).clamp_min(0).mean()
    torch.testing.assert_close(loss, expected)
    loss.backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model.discriminator.parameters())
    assert model.adaptor.weight.grad.abs().max() > 0


def test_simplenet_noise_comes_from_the_generator():
    model, features = build("simplenet", noise_std=0.3), draw(2)
    first, same, other = (
        next(model.losses(Batch(features), torch.Generator().manual_seed(seed))).item() for seed in (0, 0, 1)
    )
    assert first == same != other


def test_simplenet_optimizers():
    model = build("simplenet")
    discriminator, adaptor = model.optimizer_groups()
    lr = model.settings.lr
    assert (lr * discriminator.lr_factor, discriminator.weight_decay, discriminator.decoupled) == (2e-4, 1e-5, False)
    assert (lr * adaptor.lr_factor, adaptor.weight_decay, adaptor.decoupled) == (1e-4, 1e-2, True)
    trained = {id(parameter) for group in (discriminator, adaptor) for parameter in group.parameters}
    assert trained == {id(parameter) for parameter in model.parameters()}
    settings = resolve_settings("simplenet")
    assert (settings.epochs, settings.batch_size, settings.smoothing, settings.noise_std) == (160, 8, 4.0, 0.015)


@torch.no_grad()
def test_simplenet_scores_patches_before_the_map():
    model = build("simplenet").eval()
    features = draw(3)
    patches = -model.discriminator(model.adaptor(model.embedding(features.levels)).flatten(0, 1)).view(3, 256)
    scores = model.score(features)
    torch.testing.assert_close(scores.images, patches.amax(1))
    assert (scores.images > scores.maps.flatten(1).amax(1)).all()


def test_simplenet_trains_on_a_single_patch():
    shapes = [LevelShape(8, 1, 1)]
    (loss,) = build("simplenet", shapes).losses(Batch(draw(1, shapes)), torch.Generator())
    assert torch.isfinite(loss)


def test_simplenet_training_lowers_the_loss():
    features = draw(8)
    generator = torch.Generator().manual_seed(1)
    model = build("simplenet", noise_std=1.0)
    before = float(next(model.losses(Batch(features), generator)).detach())
    after = float(next(fit(model, features).losses(Batch(features), generator)).detach())
    assert after < 0.8 * before
