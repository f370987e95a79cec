"""PatchFlow: parameters, the adaptor against a stack of all levels, the step, crop and border, principal components."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from nfbench.backbones._base import find_backbone
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_to_count, count_parameters, resolve_settings
from nfbench.core.errors import NfbenchError
from tests.moved_models import draw_features, moved_model

SHAPES = [LevelShape(6, 16, 16), LevelShape(4, 8, 8), LevelShape(5, 4, 4)]
SIDE = 64
B5 = find_backbone("efficientnet_b5")


def build(shapes=SHAPES, moved=0.2, side=SIDE, **overrides):
    return moved_model("patchflow", shapes, side, moved, {"channels": 8, "hidden_channels": 6, **overrides})


def draw(count, shapes=SHAPES, seed=0):
    return draw_features(count, shapes, seed)


def stacked(features, pool=3):
    """All levels pooled, resized and concatenated, as the paper has them."""
    size = features.levels[0].shape[2:]
    pooled = [functional.avg_pool2d(x, pool, 1, pool // 2) for x in features.levels]
    return torch.cat([functional.interpolate(x, size, mode="bilinear", align_corners=True) for x in pooled], 1)


@pytest.mark.parametrize(
    ("name", "levels", "scales", "overrides", "adaptor", "flow"),
    [
        ("efficientnet_b5", (2, 3, 5), (1, 2, 4), {}, 190_592, 221_952),
        ("tf_efficientnet_b5.aa_in1k", (2, 3, 4), (1, 2, 4), {}, 288_896, 221_952),
        (
            *("vit_base_patch14_reg4_dinov2.lvd142m", (0, 6, 11), (1, 2)),
            *({"flow_steps": 2, "hidden_channels": 64}, 589_952, 222_592),
        ),
    ],
)
def test_parameters_are_those_of_the_public_code(name, levels, scales, overrides, adaptor, flow):
    """The published model, anomalib's port of it, and anomalib's example on a vision transformer."""
    backbone, side = find_backbone(name), 448 if "vit" in name else 768
    shapes = [LevelShape(*shape) for shape in backbone.shapes(side, levels, scales)]
    settings = resolve_settings("patchflow", overrides=overrides)
    counted = count_parameters(build_to_count("patchflow", shapes, settings, (side, side)))
    assert counted == {"adaptor": adaptor, "flow": flow, "total": adaptor + flow}


def test_the_published_model_has_84_positions_of_the_centre():
    shapes = [LevelShape(*shape) for shape in B5.shapes(768, (2, 3, 5), (1, 2, 4))]
    assert [tuple(shape) for shape in shapes[:3]] == [(64, 96, 96), (128, 48, 48), (304, 24, 24)]
    model = build_to_count("patchflow", shapes, resolve_settings("patchflow"), (768, 768))
    assert (model.latent_shapes(), model.dimensions) == ([(128, 84, 84)], 903_168)


@torch.no_grad()
@pytest.mark.parametrize("crop", [1.0, 0.75])
@pytest.mark.parametrize("pool", [1, 3, 5])
def test_the_adaptor_is_one_convolution_of_the_stack(pool, crop):
    model, features = build(pool=pool, crop=crop), draw(2)
    margin = round(16 * (1 - crop) / 2)
    expected = model.adaptor(stacked(features, pool))[..., margin : 16 - margin, margin : 16 - margin]
    torch.testing.assert_close(model.adapt(features), expected, rtol=1e-10, atol=1e-12)


def test_the_log_determinant_is_that_of_autograd():
    shapes = [LevelShape(3, 4, 4), LevelShape(2, 2, 2)]
    model, features = build(shapes, flow_steps=2, channels=5, crop=1.0), draw(1, shapes)
    adapted = model.adapt(features).detach()

    def flat(x):
        return model.flow(x.view_as(adapted))[0].flatten()

    jacobian = torch.autograd.functional.jacobian(flat, adapted.flatten())
    z, log_det = model.latents(features)
    torch.testing.assert_close(log_det[0], torch.linalg.slogdet(jacobian)[1], rtol=1e-9, atol=1e-9)
    back, _ = model.flow(z, rev=True)
    torch.testing.assert_close(back, adapted, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_half_of_the_channels_are_an_affine_map_of_themselves():
    """With one step: no channel of the first half learns anything from its surroundings."""
    model, x = build(crop=1.0), draw(2).levels[0].new_zeros(1, 8, 16, 16)
    step, base = model.flow.module_list[0], torch.randn(1, 8, 16, 16, dtype=torch.double)
    passive = [int((step.permutation == channel).nonzero()) for channel in range(4)]
    at_zero, moved = model.flow(x)[0][:, passive], model.flow(x + base)[0][:, passive]
    scale = (moved - at_zero) / base[:, :4]
    torch.testing.assert_close(scale, scale[..., :1, :1].expand_as(scale), rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_scores_of_an_image_do_not_depend_on_its_batch():
    model, features = build(), draw(5)
    maps = model.score(features).maps
    for number in range(5):
        alone = model.score(Features([x[number : number + 1] for x in features.levels]))
        torch.testing.assert_close(alone.maps[0], maps[number], rtol=1e-10, atol=1e-12)
    before = maps.clone()
    model.train().loss(features)  # moves the statistics of the subnets
    assert not torch.allclose(model.eval().score(features).maps, before, atol=1e-6)


@torch.no_grad()
def test_the_border_scores_0_and_the_centre_is_the_density_of_the_latents():
    model, features = build(crop=0.75), draw(2)
    scores = model.score(features)
    (z,) = scores.latents
    assert z.shape[2:] == (12, 12)
    inner = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inner[8:-8, 8:-8] = True
    assert not scores.maps[:, ~inner].any()
    assert (scores.maps[:, inner] > 0).all()
    by_hand = 1 - torch.exp(-(z**2).mean(1) / 2)
    centre = functional.interpolate(by_hand[:, None], (48, 48), mode="bilinear")[:, 0]
    torch.testing.assert_close(scores.maps[:, 8:-8, 8:-8], centre)
    torch.testing.assert_close(scores.images, centre.flatten(1).max(1).values)


@torch.no_grad()
def test_principal_components_are_those_of_numpy_and_white_over_the_training_positions():
    model, features = build(adaptor="pca", channels=6, crop=0.75), draw(9)
    batches = [Features([x[rows] for x in features.levels]) for rows in (slice(0, 4), slice(4, 9))]
    model.prepare(lambda: batches)
    values = stacked(features)[..., 2:14, 2:14].permute(1, 0, 2, 3).flatten(1).numpy()
    adapted = model.adapt(features).permute(1, 0, 2, 3).flatten(1).numpy()
    np.testing.assert_allclose(adapted.mean(1), 0, atol=1e-9)
    np.testing.assert_allclose(np.cov(adapted, bias=True), np.eye(6), atol=1e-9)
    left, _, _ = np.linalg.svd(values - values.mean(1, keepdims=True), full_matrices=False)
    weight = model.adaptor.weight[:, :, 0, 0].numpy()
    cosines = np.abs(weight @ left[:, :6]).max(1) / np.linalg.norm(weight, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-9)
    assert count_parameters(model)["adaptor"] == 0


@torch.no_grad()
@pytest.mark.parametrize("factor", [0.5, 0.01])
def test_a_smaller_adaptor_lowers_the_published_loss_for_nothing(factor):
    """The flow makes up for it by ``g / factor``: the same latents, at a loss lower by ``D ln(1 / factor)``."""
    model, features = build(crop=1.0), draw(2)
    (step,) = model.flow.module_list
    (z, _), before = model.latents(features), model.loss(features)
    model.adaptor.weight.mul_(factor)
    model.adaptor.bias.mul_(factor)
    step.subnet[0].weight.div_(factor)
    shifts = slice(step.splits[1], None)
    step.subnet[2].weight[shifts].mul_(factor)
    step.subnet[2].bias[shifts].mul_(factor)
    step.global_scale.copy_(2 * torch.log(torch.expm1(step._scale() / factor / 0.2)))  # softplus with beta 0.5
    torch.testing.assert_close(model.latents(features)[0], z, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.loss(features), before - model.dimensions * math.log(1 / factor))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"pool": 4}, r"'pool' of method 'patchflow': a window has a middle; use an odd number, such as 5"),
        ({"adaptor": "pca", "channels": 16}, r"cannot take 16 principal components of levels with 15 channels"),
    ],
)
def test_settings_that_do_not_fit_are_named(overrides, message):
    with pytest.raises(NfbenchError, match=message):
        build(**overrides)


def test_training_lowers_the_loss_on_correlated_levels():
    torch.manual_seed(0)
    model, features = build(moved=0.0, adaptor="pca").train(), draw(8)
    model.prepare(lambda: [features])
    before = model.loss(features).item()
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        loss = model.loss(features)
        loss.backward()
        optimizer.step()
    assert loss.item() < before - 0.01 * model.dimensions
