"""FastFlow and U-Flow: parameter counts, latent shapes, invertibility, likelihood, score, settings."""

import math

import pytest
import torch
from scipy.ndimage import gaussian_filter

from nfbench.backbones._base import find_backbone
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.core.errors import NfbenchError

SMALL = [LevelShape(16, 8, 8), LevelShape(24, 4, 4), LevelShape(40, 2, 2)]


def draw(n, shapes=SMALL):
    return Features([torch.randn(n, *shape) for shape in shapes])


def build(name, shapes=SMALL, size=32, seed=0, **overrides):
    return build_method(name, shapes, resolve_settings(name, overrides=overrides), (size, size), seed)


def counts(method, backbone, size, **overrides):
    shapes = [LevelShape(*shape) for shape in find_backbone(backbone).shapes(size)]
    settings = resolve_settings(method, backbone=backbone, overrides=overrides)
    model = build_method(method, shapes, settings, (size, size), 0)
    groups = model.parameter_groups()
    total = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return {**{part: sum(p.numel() for p in group) for part, group in groups.items()}, "total": total}


@pytest.mark.parametrize(
    ("method", "backbone", "size", "overrides", "flow", "total"),
    [
        ("fastflow", "wide_resnet50_2.racm_in1k", 256, {}, 41_337_856, 45_007_872),
        ("fastflow", "wide_resnet50_2.racm_in1k", 256, {"kernels": "3x3"}, 74_368_000, 78_038_016),
        ("fastflow", "resnet18.tv_in1k", 256, {}, 4_657_408, 5_574_912),
        ("fastflow", "resnet18.tv_in1k", 256, {"kernels": "alternating"}, 2_593_024, 3_510_528),
        ("uflow", "wide_resnet50_2.racm_in1k", 448, {}, 23_594_080, 34_833_504),
        ("uflow", "wide_resnet50_2.racm_in1k", 256, {}, 23_594_080, 27_264_096),
        ("uflow", "resnet18.a1_in1k", 448, {}, 1_479_880, 4_289_736),
        ("uflow", "resnet18.a1_in1k", 256, {}, 1_479_880, 2_397_384),
    ],
)
def test_trainable_parameters_are_the_published_ones(method, backbone, size, overrides, flow, total):
    found = counts(method, backbone, size, **overrides)
    assert (found["flow"], found["total"]) == (flow, total)
    assert found["flow"] + found["normalization"] == found["total"]


@torch.no_grad()
def test_latent_shapes_of_uflow_on_resnet18_at_448():
    shapes = [LevelShape(*shape) for shape in find_backbone("resnet18.a1_in1k").shapes(448)]
    model = build("uflow", shapes, 448)
    latents, log_det = model.encode([torch.randn(1, *shape) for shape in shapes])
    assert [tuple(z.shape[1:]) for z in latents] == [(84, 112, 112), (80, 56, 56), (128, 28, 28)]
    assert log_det.shape == (1,)


def encode_all(model, features):
    latents, log_det = model.encode(features)
    return torch.cat([z.flatten(1) for z in latents], dim=1), log_det


@pytest.mark.parametrize("method", ["fastflow", "uflow"])
@pytest.mark.parametrize("n_levels", [1, 2, 3])
def test_log_det_agrees_with_autograd(method, n_levels):
    shapes = [LevelShape(9, 4, 4), LevelShape(10, 2, 2), LevelShape(8, 1, 1)][:n_levels]
    model = build(method, shapes, 16, flow_steps=2).double()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.flow.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    features = [torch.randn(1, *shape, dtype=torch.float64) for shape in shapes]
    sizes = [math.prod(shape) for shape in shapes]

    def flat_encode(flat):
        parts = [part.view(1, *shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        return encode_all(model, parts)[0].flatten()

    jacobian = torch.autograd.functional.jacobian(flat_encode, torch.cat([x.flatten() for x in features]))
    expected = torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(encode_all(model, features)[1].squeeze(), expected)
    assert abs(expected) > 1e-2


@torch.no_grad()
def test_uflow_inverts():
    model = build("uflow").double()
    features = [torch.randn(2, *shape, dtype=torch.float64) for shape in SMALL]
    latents, log_det = model.flow(features)
    back, inverse_log_det = model.flow(latents, rev=True)
    for x, y in zip(features, back, strict=True):
        torch.testing.assert_close(y, x)
    torch.testing.assert_close(inverse_log_det, -log_det)


def test_without_its_u_the_stages_of_uflow_are_flows_of_their_own():
    """Table 6, 'Scale 1', 'Scale 2' and 'Avg.': the average of scales is the mean of their normality maps."""
    alone = build("uflow", u_shape=False).double()
    features = [torch.randn(2, *shape, dtype=torch.float64, requires_grad=True) for shape in SMALL]
    latents, log_det = alone.encode(features)
    assert [z.shape[1:] for z in latents] == [torch.Size(shape) for shape in SMALL]
    for index, z in enumerate(latents):
        gradients = torch.autograd.grad(z.sum(), features, retain_graph=True, allow_unused=True)
        assert [g is not None for g in gradients] == [other == index for other in range(3)]
    back, inverse_log_det = alone.flow(list(reversed(latents)), rev=True)
    for x, y in zip(features, back, strict=True):
        torch.testing.assert_close(y, x)
    torch.testing.assert_close(inverse_log_det, -log_det)
    joined = build("uflow").double()
    assert sum(p.numel() for p in alone.flow.parameters()) < sum(p.numel() for p in joined.flow.parameters())


def test_one_level_has_no_u():
    one = draw(2, SMALL[:1])
    alone, joined = (build("uflow", SMALL[:1], u_shape=u_shape).eval() for u_shape in (False, True))
    assert torch.equal(alone.score(one).maps, joined.score(one).maps)


@torch.no_grad()
def test_fastflow_inverts():
    model = build("fastflow").double()
    for flow, shape in zip(model.flow, SMALL, strict=True):
        x = torch.randn(2, *shape, dtype=torch.float64)
        z, log_det = flow(x)
        back, inverse_log_det = flow(z, rev=True)
        torch.testing.assert_close(back, x)
        torch.testing.assert_close(inverse_log_det, -log_det)


@pytest.mark.parametrize("method", ["fastflow", "uflow"])
@torch.no_grad()
def test_likelihood_and_loss_are_one_formula(method):
    model = build(method)
    features = draw(3)
    latents, log_det = model.latents(features)
    z = torch.cat([latent.flatten(1) for latent in latents], dim=1)
    log_density = torch.distributions.Normal(0, 1).log_prob(z).sum(1) + log_det
    torch.testing.assert_close(model.log_likelihood(features), log_density / z.shape[1])
    constant = 0.5 * math.log(2 * math.pi) * z.shape[1]
    torch.testing.assert_close(model.loss(features), -(log_density + constant).mean())


@pytest.mark.parametrize("method", ["fastflow", "uflow"])
def test_every_parameter_gets_a_gradient(method):
    model = build(method)
    model.loss(draw(2)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == []


@torch.no_grad()
def test_standardized_features_have_mean_0_and_variance_1():
    model = build("fastflow", normalization="standardize")
    features = draw(50).map(lambda x: 3 * x + 5)
    model.prepare(lambda: [features[:20], features[20:]])
    for norm, x in zip(model.normalization, features.levels, strict=True):
        y = norm(x)
        torch.testing.assert_close(y.mean((0, 2, 3)), torch.zeros(y.shape[1]), atol=1e-4, rtol=0)
        torch.testing.assert_close(y.std((0, 2, 3), correction=0), torch.ones(y.shape[1]), atol=1e-4, rtol=0)


@torch.no_grad()
def test_whitened_features_are_white_and_know_their_position():
    model = build("fastflow", normalization="whiten")
    torch.manual_seed(0)
    position = [5 * torch.randn(1, *shape) for shape in SMALL]
    mixing = [torch.eye(c) + 0.3 * torch.randn(c, c) / c**0.5 for c, _, _ in SMALL]
    levels = [
        at + torch.einsum("cd,bdhw->bchw", mix, torch.randn(400, *shape))
        for at, mix, shape in zip(position, mixing, SMALL, strict=True)
    ]
    features = Features(levels)
    model.prepare(lambda: [features[:150], features[150:]])
    for norm, x in zip(model.normalization, levels, strict=True):
        y = norm(x)
        assert y.mean(0).abs().max() < 1e-3
        covariance = torch.einsum("bchw,bdhw->cd", y, y) / (len(y) * y.shape[2] * y.shape[3])
        eigenvalues = torch.linalg.eigvalsh(covariance)
        assert 0.5 < eigenvalues.min() <= eigenvalues.max() < 1.001
        assert (covariance - torch.diag(covariance.diag())).abs().max() < 1e-3


@torch.no_grad()
def test_positions_that_never_change_do_not_blow_up():
    model = build("fastflow", normalization="whiten")
    features = draw(30)
    for x in features.levels:
        x[:, :, 0, 0] = 1.0
    model.prepare(lambda: [features])
    assert all(norm(x + 1e-3).abs().max() < 100 for norm, x in zip(model.normalization, features.levels, strict=True))


@torch.no_grad()
def test_likelihood_maps_add_up_to_the_likelihood():
    model = build("fastflow", score="likelihood")
    features = draw(3)
    latents, log_det = model.latents(features)
    total = sum(level.flatten(1).sum(1) for level in model.level_maps(features)[0])
    torch.testing.assert_close(total, 0.5 * sum(z.square().flatten(1).sum(1) for z in latents) - log_det)


@torch.no_grad()
def test_smoothing_and_top_1_percent():
    torch.manual_seed(0)
    features = draw(2)
    plain, smooth, top = (
        build("fastflow", **options) for options in ({}, {"smoothing": 1 / 16}, {"image_score": "top1"})
    )
    maps = plain.score(features).maps
    blurred = gaussian_filter(maps.numpy(), sigma=(0, 2, 2), mode="reflect", truncate=4)
    torch.testing.assert_close(smooth.score(features).maps, torch.from_numpy(blurred), atol=1e-5, rtol=1e-5)
    assert torch.equal(plain.score(features).images, maps.flatten(1).amax(1))
    expected = maps.flatten(1).sort(descending=True).values[:, :10].mean(1)  # 1 % of 32 x 32
    torch.testing.assert_close(top.score(features).images, expected)


def test_same_seed_same_model_and_the_global_state_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, third = build("uflow"), build("uflow"), build("uflow", seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    ours, same, other = (model.state_dict() for model in (first, second, third))
    assert all(torch.equal(value, same[name]) for name, value in ours.items())
    assert any(not torch.equal(value, other[name]) for name, value in ours.items() if "permutation" in name)
    assert any(not torch.equal(value, other[name]) for name, value in ours.items() if "subnet" in name)


def test_uflow_refuses_levels_that_do_not_halve():
    shapes = [LevelShape(8, 13, 13), LevelShape(8, 6, 6)]
    with pytest.raises(NfbenchError, match=r"got 13 x 13, 6 x 6; give the backbone other levels, an input size"):
        build("uflow", shapes)


def test_papers_settings_by_category_and_backbone():
    assert resolve_settings("uflow").model_dump()["lr"] == 1e-4
    carpet = resolve_settings("uflow", dataset="mvtec_ad", category="carpet")
    assert (carpet.batch_size, carpet.lr, carpet.epochs) == (13, 3.16342e-5, 200)
    grid = resolve_settings("uflow", dataset="mvtec_ad", category="grid", overrides={"epochs": 3})
    assert (grid.batch_size, grid.epochs) == (12, 3)
    assert resolve_settings("fastflow", backbone="resnet18.tv_in1k").kernels == "3x3"
    assert resolve_settings("fastflow", backbone="wide_resnet50_2.tv_in1k").kernels == "alternating"
    fastflow = resolve_settings("fastflow")
    assert (fastflow.epochs, fastflow.batch_size, fastflow.lr, fastflow.weight_decay) == (500, 32, 1e-3, 1e-5)


@pytest.mark.parametrize(
    ("method", "overrides", "message"),
    [
        ("fastflw", {}, r"unknown method 'fastflw'; did you mean 'fastflow'\?"),
        ("fastflow", {"epoch": 3}, r"setting 'epoch' of method 'fastflow'.*did you mean 'epochs'\?"),
        ("fastflow", {"lr": -1}, r"setting 'lr' of method 'fastflow': Input should be greater than 0"),
    ],
)
def test_wrong_settings_are_named(method, overrides, message):
    with pytest.raises(NfbenchError, match=message):
        resolve_settings(method, overrides=overrides)


def test_log_likelihoods_of_fastflow_positions_add_up_to_the_image():
    shapes = [LevelShape(6, 4, 4), LevelShape(8, 2, 2)]
    method = build_method("fastflow", shapes, resolve_settings("fastflow", overrides={"flow_steps": 3}), (16, 16), 0)
    features = draw(2, shapes)
    by_position = method.position_log_likelihoods(features)
    total = sum(z.shape[1] * values.flatten(1).sum(1) for z, values in by_position)
    torch.testing.assert_close(total / method.dimensions, method.log_likelihood(features), rtol=1e-4, atol=1e-5)
