"""VQ-Flow: parameters, log-determinants with conditions and mixture, moving codes, gradients past the quantization."""

import math

import pytest
import torch
from torch.nn import functional

from nfbench.backbones._base import find_backbone
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_to_count, count_parameters, resolve_settings
from nfbench.blocks.quantization import Quantizer
from nfbench.core.errors import NfbenchError
from tests.moved_models import draw_features, moved_model

SHAPES = [LevelShape(6, 8, 8), LevelShape(4, 4, 4), LevelShape(5, 2, 2)]
SIDE = 16


def build(shapes=SHAPES, moved=0.2, **overrides):
    small = {"level_steps": (1, 1), "condition_dim": 4, "prototypes": 3, "patterns": 5, "prototype_dim": 6}
    return moved_model("vqflow", shapes, SIDE, moved, {**small, **overrides})


def draw(count, shapes=SHAPES, seed=0):
    return draw_features(count, shapes, seed)


@pytest.mark.parametrize("name", ["convnextv2_base.fcmae_ft_in22k_in1k", "convnext_base.fb_in22k_ft_in1k"])
def test_parameters_are_those_of_the_public_modules(name):
    shapes = [LevelShape(*shape) for shape in find_backbone(name).shapes(384, (0, 1, 2, 3))]
    model = build_to_count("vqflow", shapes, resolve_settings("vqflow"), (384, 384))
    flows = [sum(p.numel() for p in flow.parameters()) for flow in model.flow]
    assert flows == [26_549_760, 80_569_920, 179_645_952]
    predicted = 789_504 + 2_446_848 + 591_552 + 997_056 + 919_296
    assert count_parameters(model) == {
        "flow": sum(flows),
        "fusion": 16_814_976,
        "conditions": predicted,
        "total": 309_324_864,
    }
    codes = [model.prototypes, *model.patterns]
    assert sum(quantizer.codes.numel() for quantizer in codes) == 1_196_032
    assert model.dimensions == 516_096
    assert model.latent_shapes() == [(128, 48, 48), (256, 24, 24), (512, 12, 12)]


def test_the_log_determinant_is_that_of_autograd_through_pooled_levels():
    """With respect to the pooled levels, which the flow models; conditions are constant around them."""
    model, features = build(), draw(1)
    *levels, top = features.levels
    pooled = [functional.avg_pool2d(x, 3, 2, 1) for x in levels]
    sizes = [x.numel() for x in pooled]
    whole, log_det = model.latents(features)

    def flat(x):
        parts = [part.view_as(level) for part, level in zip(x.split(sizes), pooled, strict=True)]
        conditions, prototype, _ = model.conditions(parts, top)
        encoded = []
        for level, part in enumerate(parts):
            z, _ = model.flow[level](part, [conditions[level]])
            mean, sigma = model.mixture[level](prototype).chunk(2, 1)
            encoded.append((z - mean[..., None, None]) / (sigma**2 + 1e-8).sqrt()[..., None, None])
        fused, _ = model.fusion(encoded, [conditions[-1]])
        return torch.cat([z.flatten() for z in fused])

    x = torch.cat([level.flatten() for level in pooled])
    torch.testing.assert_close(flat(x), torch.cat([z.flatten() for z in whole]))
    jacobian = torch.autograd.functional.jacobian(flat, x)
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9)


def test_the_fusion_is_inverted_under_its_condition():
    model = build()
    generator = torch.Generator().manual_seed(0)
    z = [torch.randn(2, *shape, generator=generator, dtype=torch.double) for shape in model.pooled]
    size = model.pooled[-1][1:]
    given, other = torch.randn(2, 2, model.condition_channels, *size, generator=generator, dtype=torch.double)
    fused, log_det = model.fusion(z, [given])
    back, inverse_log_det = model.fusion(fused, [given], rev=True)
    for ours, expected in zip(back, z, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-9)
    assert log_det.shape == inverse_log_det.shape
    assert not torch.allclose(model.fusion(z, [other])[0][0], fused[0], atol=1e-4)


@torch.no_grad()
def test_the_scale_of_the_mixture_counts_and_is_best_at_the_standard_deviation():
    """Without ``sum(ln sigma)`` a larger scale would always lower the loss."""
    model, features = build(level_steps=(1, 1), prototypes=1), draw(30)

    def loss(factor):
        for linear, shape in zip(model.mixture, model.pooled, strict=True):
            linear.weight.zero_()
            linear.bias[: shape.channels].copy_(mean[shape])
            linear.bias[shape.channels :].copy_(factor * std[shape])
        return float(model.loss(features))

    *levels, top = features.levels
    pooled = [functional.avg_pool2d(x, 3, 2, 1) for x in levels]
    conditions, _, _ = model.conditions(pooled, top)
    mean, std = {}, {}
    for level, x in enumerate(pooled):
        z, _ = model.flow[level](x, [conditions[level]])
        mean[model.pooled[level]], std[model.pooled[level]] = z.mean((0, 2, 3)), z.std((0, 2, 3), correction=0)
    for parameter in model.fusion.parameters():
        parameter.zero_()  # a permutation: the scales are seen alone
    best = loss(1.0)
    assert all(loss(factor) > best for factor in (0.5, 0.9, 1.1, 2.0, 100.0))
    # D / 2 nats at the standard deviations, and at twice of them, ln 2 more and 3/8 less by dimension
    assert loss(2.0) - best == pytest.approx(model.dimensions * (math.log(2) - 3 / 8), rel=1e-6)


def test_codes_follow_two_batches_by_hand():
    quantizer = Quantizer(2, 1, torch.Generator()).double().train()
    quantizer.codes.copy_(torch.tensor([[0.0], [10.0]]))
    quantizer.sums.copy_(quantizer.codes)
    counts, sums = torch.ones(2, dtype=torch.double), torch.tensor([[0.0], [10.0]], dtype=torch.double)
    for batch in ([1.0, 2.0, 9.0], [-1.0, 8.0, 12.0]):
        x = torch.tensor(batch, dtype=torch.double)[:, None]
        before = quantizer.codes.clone()
        found, commitment = quantizer(x)
        near = (x > 5).long()[:, 0]
        torch.testing.assert_close(found, before[near])
        torch.testing.assert_close(commitment, (before[near] - x).square().mean())
        for code in (0, 1):
            counts[code] = 0.99 * counts[code] + 0.01 * (near == code).sum()
            sums[code] = 0.99 * sums[code] + 0.01 * x[near == code].sum()
        smoothed = (counts + 1e-5) / (counts.sum() + 2e-5) * counts.sum()
        torch.testing.assert_close(quantizer.codes, sums / smoothed[:, None])
    state = {name: value.clone() for name, value in quantizer.state_dict().items()}
    quantizer.eval()(torch.full((4, 1), 7.0, dtype=torch.double))
    assert all(torch.equal(value, state[name]) for name, value in quantizer.state_dict().items())


def test_gradients_pass_the_quantization_in_training_alone():
    quantizer = Quantizer(4, 3, torch.Generator().manual_seed(0)).double()
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.double).requires_grad_()
    weights = torch.arange(15, dtype=torch.double).view(5, 3)
    (gradient,) = torch.autograd.grad((quantizer.train()(x)[0] * weights).sum(), x)
    torch.testing.assert_close(gradient, weights)
    assert not quantizer.eval()(x)[0].requires_grad
    found, _ = quantizer(x)
    distances = torch.cdist(x.detach(), quantizer.codes)
    assert torch.equal(found, quantizer.codes[distances.argmin(1)])


@torch.no_grad()
def test_with_one_prototype_and_one_pattern_the_condition_is_constant():
    model = build(prototypes=1, patterns=1)
    conditions = [model.conditions(*split(draw(3, seed=seed)))[0] for seed in (0, 1)]
    for (
        one,
        other,
    ) in zip(*conditions, strict=True):
        torch.testing.assert_close(one, other)
        torch.testing.assert_close(one[0], one[2])


def split(features):
    *levels, top = features.levels
    return [functional.avg_pool2d(x, 3, 2, 1) for x in levels], top


def test_every_parameter_takes_a_gradient_and_batches_do_not_matter_in_evaluation():
    model, features = build(), draw(6)
    model.train().loss(features).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    with torch.no_grad():
        together = model.eval().score(features)
        alone = [model.score(Features([x[number : number + 1] for x in features.levels])) for number in range(6)]
        torch.testing.assert_close(together.maps, torch.cat([scores.maps for scores in alone]))
        torch.testing.assert_close(together.images, torch.cat([scores.images for scores in alone]))


def test_a_batch_of_one_image_trains():
    """The last batch of an epoch may be one; its prototype takes the running statistics."""
    model, features = build().train(), draw(1)
    before = {name: value.clone() for name, value in model.concept.named_buffers()}
    loss = model.loss(features)
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.equal(value, before[name]) for name, value in model.concept.named_buffers())
    model.loss(draw(2))
    assert not torch.equal(model.concept[1].running_mean, before["1.running_mean"])


def test_another_number_of_levels_is_named():
    with pytest.raises(NfbenchError, match=r"one level more than 'level_steps' has, 3.*but got 2"):
        build(SHAPES[:2])
