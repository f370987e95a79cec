"""MSFlow: parameters, log-determinant and inverse of the fusion, pooling, schedule, both maps and the image score."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from nfbench.backbones._base import find_backbone
from nfbench.blocks.features import Features
from nfbench.blocks.fusion import FusionStep
from nfbench.blocks.maps import top_share_mean
from nfbench.blocks.method import LevelShape, build_to_count, count_parameters, resolve_settings
from nfbench.core.errors import NfbenchError
from nfbench.training.loop import learning_rate
from tests.moved_models import draw_features, moved_model

SHAPES = [LevelShape(6, 9, 8), LevelShape(8, 5, 4), LevelShape(4, 3, 2)]
SIDE = 24


def build(shapes=SHAPES, moved=0.3, **overrides):
    small = {"level_steps": (1, 2, 1)[-len(shapes) :], "condition_dim": 8}
    return moved_model("msflow", shapes, SIDE, moved, {**small, **overrides})


def draw(count, shapes=SHAPES, seed=0):
    return draw_features(count, shapes, seed)


def fusion(dims, moved=0.3):
    generator = torch.Generator().manual_seed(0)
    step = FusionStep(dims, generator=generator, clamp=1.9).double()
    for parameter in step.parameters():
        parameter.data += moved * torch.randn(parameter.shape, generator=generator)
    return step


@pytest.mark.parametrize(
    ("backbone", "levels", "flow", "fused"),
    [
        ("wide_resnet50_2.tv_in1k", (1, 2, 3), 1_550_976 + 11_993_280 + 66_393_600, 19_618_368),
        ("resnet18.tv_in1k", (1, 2, 3), 277_440 + 1_478_400 + 6_203_904, 1_227_408),
        ("tf_efficientnet_lite0", (1, 2, 3), 137_400 + 470_580 + 2_010_048, 202_836),
    ],
)
def test_parameters_are_the_published_ones(backbone, levels, flow, fused):
    shapes = [LevelShape(*shape) for shape in find_backbone(backbone).shapes(512, levels)]
    counted = count_parameters(build_to_count("msflow", shapes, resolve_settings("msflow"), (512, 512)))
    assert counted == {"flow": flow, "fusion": fused, "total": flow + fused}


def test_dimensions_are_those_of_pooled_levels():
    shapes = [LevelShape(*shape) for shape in find_backbone("wide_resnet50_2.tv_in1k").shapes(512, (1, 2, 3))]
    model = build_to_count("msflow", shapes, resolve_settings("msflow"), (512, 512))
    assert model.dimensions == 1_835_008
    assert model.latent_shapes() == [(256, 64, 64), (512, 32, 32), (1024, 16, 16)]


@pytest.mark.parametrize("dims", [[(4, 4, 4), (6, 2, 2), (2, 1, 1)], [(4, 5, 3), (2, 3, 2)], [(6, 2, 3)]])
def test_log_determinant_and_inverse_of_the_fusion(dims):
    step, x = fusion(dims), [torch.randn(2, *shape, dtype=torch.double) for shape in dims]
    y, log_det = step(x)
    back, inverse_log_det = step(y, rev=True)
    for value, expected in zip(back, x, strict=True):
        torch.testing.assert_close(value, expected)
    torch.testing.assert_close(inverse_log_det, -log_det)
    sizes = [math.prod(shape) for shape in dims]

    def flat(vector):
        parts = [part.view(1, *shape) for part, shape in zip(vector.split(sizes), dims, strict=True)]
        return torch.cat([part.flatten() for part in step(parts)[0]])

    for image in range(2):
        jacobian = torch.autograd.functional.jacobian(flat, torch.cat([value[image].flatten() for value in x]))
        torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, log_det[image])
    assert log_det.abs().min() > 1e-3


def test_whole_log_determinant_is_that_of_autograd():
    shapes = [LevelShape(4, 3, 3), LevelShape(2, 2, 2)]
    model, pooled = build(shapes), [(4, 2, 2), (2, 1, 1)]
    sizes = [math.prod(shape) for shape in pooled]

    def flat(vector):
        encoded = [
            flow(part.view(1, *shape), [getattr(model, f"code_{level}")[None]])[0]
            for level, (flow, part, shape) in enumerate(zip(model.flow, vector.split(sizes), pooled, strict=True))
        ]
        return torch.cat([part.flatten() for part in model.fusion(encoded)[0]])

    features = draw(1, shapes)
    pooled_features = [functional.avg_pool2d(x, 3, 2, 1).flatten() for x in features.levels]
    jacobian = torch.autograd.functional.jacobian(flat, torch.cat(pooled_features))
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet[None], model.latents(features)[1])


def test_fusion_without_nets_is_a_permutation():
    dims = [(4, 4, 4), (6, 2, 2)]
    step, x = fusion(dims), [torch.randn(2, *shape, dtype=torch.double) for shape in dims]
    for part in (*step.net1.log_scale, *step.net1.shift, *step.net2.log_scale, *step.net2.shift):
        part.weight.data.zero_(), part.bias.data.zero_()
    y, log_det = step(x)
    assert not log_det.any()
    for level, (value, expected) in enumerate(zip(y, x, strict=True)):
        assert torch.equal(value, expected[:, getattr(step, f"permutation_{level}")])


def changed(step, x, level, channels):
    """Levels and halves of the output that a change of some permuted channels of a level reaches."""
    order = getattr(step, f"permutation_{level}")
    other = [value.clone() for value in x]
    other[level][:, order[channels]] += 1
    found = set()
    for number, (before, after) in enumerate(zip(step(x)[0], step(other)[0], strict=True)):
        for half, parts in zip("ab", zip(before.chunk(2, 1), after.chunk(2, 1), strict=True), strict=True):
            found |= set() if torch.equal(*parts) else {half + str(number)}
    return found


def test_levels_meet_in_the_fusion():
    dims = [(8, 4, 4), (8, 2, 2), (8, 1, 1)]
    step, x = fusion(dims), [torch.randn(1, *shape, dtype=torch.double) for shape in dims]
    for net in (step.net1, step.net2):
        net.mix[1].bias.data.fill_(10), net.mix[3].bias.data.fill_(10)  # no ReLU cuts a path
    assert changed(step, x, 2, slice(4, 8)) == {"a0", "a1", "a2", "b0", "b1", "b2"}
    assert changed(step, x, 2, slice(4)) == {"a2", "b0", "b1", "b2"}


def test_odd_channels_and_other_numbers_of_levels_are_refused():
    with pytest.raises(NfbenchError, match="even numbers of channels, got"):
        build([LevelShape(5, 4, 4)])
    with pytest.raises(NfbenchError, match="2 numbers of 'level_steps' for 1 levels"):
        build([LevelShape(4, 4, 4)], level_steps=(1, 1))


def test_pooling_counts_the_zeros_beyond_the_border():
    """With flows that do nothing, latents are the pooled features: 2/3 at the border, 4/9 in the corner."""
    model = build([LevelShape(2, 8, 8)])
    model.flow, model.fusion = nn.ModuleList([PassThrough()]), Fused()
    (z,), _ = model.latents(Features([torch.ones(1, 2, 8, 8, dtype=torch.double)]))
    expected = torch.ones(4, 4, dtype=torch.double)
    expected[0] = expected[:, 0] = 2 / 3
    expected[0, 0] = 4 / 9
    torch.testing.assert_close(z[0, 1], expected)


class PassThrough(nn.Module):
    def forward(self, x, c):
        return x, x.new_zeros(len(x))


class Fused(nn.Module):
    def forward(self, x):
        return list(x), x[0].new_zeros(len(x[0]))


def with_latents(model, latents):
    model.latents = lambda features: (latents, None)
    return model.score(None)


def maps_of_the_definition(latents):
    def up(x):
        return functional.interpolate(x[:, None], (SIDE, SIDE), mode="bilinear", align_corners=True)[:, 0]

    levels = [-z.square().mean(1) / 2 for z in latents]
    added = sum(up((x - x.amax((1, 2), keepdim=True)).exp()) for x in levels)
    multiplied = sum(up(x) for x in levels)
    return (
        added.amax((1, 2), keepdim=True) - added,
        1 - (multiplied - multiplied.amax((1, 2), keepdim=True)).exp(),
    )


@pytest.mark.parametrize("kind", ["addition", "multiplication"])
def test_maps_are_those_of_the_definition(kind):
    model, features = build(map=kind), draw(3)
    latents = model.latents(features)[0]
    expected = maps_of_the_definition(latents)
    scores = model.score(features)
    torch.testing.assert_close(scores.maps, expected[kind == "multiplication"])
    top = expected[1].flatten(1).sort(1).values[:, -int(0.03 * SIDE**2) :].mean(1)
    torch.testing.assert_close(scores.images, top)


@pytest.mark.parametrize("kind", ["addition", "multiplication"])
def test_an_image_that_is_equally_unlikely_everywhere_scores_0(kind):
    """A constant that is added to the likelihood of an image's level changes nothing."""
    model, latents = build(map=kind), [torch.randn(2, 4, side, side, dtype=torch.double) for side in (8, 4)]
    before = with_latents(model, latents)
    far = [torch.cat([z, torch.full_like(z[:, :1], 5.0)], dim=1) for z in latents]
    same_mean = [z * math.sqrt(5 / 4) for z in latents]
    after = with_latents(model, [torch.cat([z, f[:, 4:]], dim=1) for z, f in zip(same_mean, far, strict=True)])
    torch.testing.assert_close(after.maps, before.maps)
    torch.testing.assert_close(after.images, before.images)
    flat = with_latents(model, [torch.full((2, 4, 8, 8), 7.0, dtype=torch.double)])
    assert flat.maps.abs().max() < 1e-12
    assert flat.images.abs().max() < 1e-12


@pytest.mark.parametrize("kind", ["addition", "multiplication"])
def test_relative_to_training_images_it_does_not(kind):
    model, train = build(map=kind, reference="train"), draw(6)
    model.calibrate(lambda: [train[:3], train[3:]])
    assert model.score(train).maps.amin().item() == pytest.approx(0, abs=1e-9)
    far = [torch.full((2, *shape), 7.0, dtype=torch.double) for shape in model.latent_shapes()]
    assert with_latents(build(map=kind), far).images.abs().max() < 1e-12
    assert (with_latents(model, far).images > 0.9).all()


@pytest.mark.parametrize(("pixels", "expected"), [(300, 1.0), (150, 0.5)])
def test_image_score_is_the_mean_of_the_top_3_percent(pixels, expected):
    maps = torch.zeros(1, 10_000)
    maps[0, :pixels] = 1
    assert top_share_mean(maps.view(1, 100, 100), 0.03).item() == pytest.approx(expected)


def test_schedule_is_that_of_the_published_log():
    settings = resolve_settings("msflow")
    rates = [learning_rate(settings, (epoch + 0.5) / 100) for epoch in range(100)]
    assert rates[:3] == pytest.approx([1e-5, 1.75e-5, 2.5e-5])
    assert rates[12:70] == pytest.approx([1e-4] * 58)
    assert rates[70:90] == pytest.approx([3.3e-5] * 20)
    assert rates[90:] == pytest.approx([1.089e-5] * 10)
    assert learning_rate(settings, 0) == learning_rate(settings, 0.0099)
