"""DINOv2, DINOv3 and ConvNeXt: levels are the tensors they are said to be, at any size; levels pooled to a pyramid."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from nfbench.backbones._base import find_backbone
from nfbench.backbones._extractors import import_timm
from nfbench.backbones._weights import load_backbone
from nfbench.blocks.method import resolve_settings
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.features.building import count_on
from nfbench.features.forward import load_recipe

pytestmark = pytest.mark.slow

timm = import_timm()

V2, V2_REG, V3 = (
    find_backbone(f"vit_small_{name}")
    for name in ("patch14_dinov2.lvd142m", "patch14_reg4_dinov2.lvd142m", "patch16_dinov3.lvd1689m")
)
ATTO = find_backbone("convnextv2_atto.fcmae_ft_in1k")


def image(size: int, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0))


def checkpoint(backbone, path, **arguments):
    """timm's whole network with values unlike any initial ones, and its file."""
    torch.manual_seed(5)
    full = timm.create_model(backbone.timm_name, **arguments).eval().requires_grad_(False)
    for parameter in full.parameters():
        parameter.add_(torch.randn_like(parameter), alpha=0.05)
    save_file(full.state_dict(), path)
    return full


def as_map(tokens: torch.Tensor, side: int) -> torch.Tensor:
    return tokens.transpose(1, 2).unflatten(2, (side, side))


@torch.inference_mode()
@pytest.mark.parametrize(("backbone", "prefix"), [(V2, 1), (V2_REG, 5)], ids=["v2", "registers"])
def test_dinov2_is_its_blocks_and_final_normalization_without_prefix_tokens(backbone, prefix, tmp_path):
    """At the size of its position codes, where nothing is resampled."""
    full, x = checkpoint(backbone, tmp_path / "w.safetensors"), image(518)
    tokens, expected = full._pos_embed(full.patch_embed(x)), []
    assert tokens.shape[1] == 37 * 37 + prefix
    for index, block in enumerate(full.blocks):
        tokens = block(tokens)
        if index in (3, 7, 11):
            expected.append(as_map(full.norm(tokens)[:, prefix:], 37))
    found = load_backbone(backbone, (3, 7, 11), str(tmp_path / "w.safetensors"))(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    (alone,) = load_backbone(backbone, (7,), str(tmp_path / "w.safetensors"))(x)
    torch.testing.assert_close(alone, expected[1], rtol=0, atol=0)
    assert not torch.allclose(alone, as_map(tokens[:, prefix:], 37), atol=0.1), "normalized"


@torch.inference_mode()
def test_dinov3_is_its_blocks_with_rotary_codes_of_the_input(tmp_path):
    full, x = checkpoint(V3, tmp_path / "w.safetensors"), image(96)
    tokens, rope, *_ = full._pos_embed(full.patch_embed(x))
    assert tokens.shape[1] == 6 * 6 + 5
    for block in full.blocks[:8]:
        tokens = block(tokens, rope=rope)
    model = load_backbone(V3, (2, 7), str(tmp_path / "w.safetensors"))
    found = model(x)
    torch.testing.assert_close(found[1], as_map(full.norm(tokens)[:, 5:], 6), rtol=1e-5, atol=1e-5)
    assert [tuple(level.shape[1:]) for level in found] == V3.shapes(96, (2, 7)) == [(384, 6, 6)] * 2
    assert len(model.model.blocks) == 8, "blocks after the last level are not kept"
    assert "rope.periods" not in full.state_dict()


@torch.inference_mode()
@pytest.mark.parametrize("backbone", [V2_REG, V3], ids=["v2", "v3"])
def test_features_of_a_batch_are_those_of_its_images(backbone):
    model, x = load_backbone(backbone, (5, 11), "random"), image(8 * backbone.patch, batch=3)
    one_by_one = [torch.cat(levels) for levels in zip(*(model(single[None]) for single in x), strict=True)]
    torch.testing.assert_close(model(x), one_by_one, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_registers_change_the_features_and_are_no_positions(tmp_path):
    checkpoint(V2_REG, tmp_path / "w.safetensors")
    model, x = load_backbone(V2_REG, (11,), str(tmp_path / "w.safetensors")), image(112)
    (before,) = model(x)
    model.model.reg_token[..., ::2] += 1  # a shift of all would leave with the first LayerNorm
    (after,) = model(x)
    assert before.shape == after.shape == (1, 384, 8, 8)
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.parametrize(
    ("backbone", "size", "side"),
    [(V2, 252, 18), (V2_REG, 448, 32), (V2, 518, 37), (V3, 256, 16), (V3, 448, 28), (V3, 512, 32)],
)
def test_any_multiple_of_the_patch_is_an_input(backbone, size, side):
    assert backbone.shapes(size, (0, 11)) == [(384, side, side)] * 2


@pytest.mark.parametrize(
    ("backbone", "size", "scales", "sizes"),
    [
        (V2, 256, None, "256; set 'input_size' to 252 or 266"),
        (V3, 250, None, "250; set 'input_size' to 240 or 256"),
        (V2, 512, (1, 2), "512; set 'input_size' to 504 or 518"),
        (V2, 504, (1, 8), "63; set 'input_size' to 448 or 560"),
        (V3, 8, None, "8; set 'input_size' to 16"),
    ],
)
def test_other_inputs_are_refused_with_the_nearest_sizes(backbone, size, scales, sizes):
    with pytest.raises(NfbenchError, match=rf"a multiple of {backbone.patch} pixels.*, not of {sizes}$"):
        backbone.shapes(size, scales=scales)


@given(size=st.integers(16, 2000), patch=st.sampled_from([14, 16]))
@settings(deadline=None, max_examples=60)
def test_a_size_is_taken_or_its_neighbours_are(size, patch):
    backbone = V2 if patch == 14 else V3
    try:
        assert backbone.shapes(size) == [(384, size // patch, size // patch)]
        assert size % patch == 0
    except NfbenchError as error:
        named = [int(word) for word in str(error).rpartition("to ")[2].split(" or ")]
        assert all(backbone.shapes(other) for other in named)
        assert min(abs(size - other) for other in named) < patch


@torch.inference_mode()
@pytest.mark.parametrize("size", [64, 75])
def test_levels_of_convnext_are_the_outputs_of_its_stages(size, tmp_path):
    full, outputs, x = checkpoint(ATTO, tmp_path / "w.safetensors"), [], image(size)
    for stage in full.stages:
        stage.register_forward_hook(lambda _, __, output: outputs.append(output))
    full(x)
    found = load_backbone(ATTO, (0, 1, 2, 3), str(tmp_path / "w.safetensors"))(x)
    torch.testing.assert_close(found, outputs, rtol=0, atol=0)
    assert [tuple(level.shape[1:]) for level in found] == ATTO.shapes(size, (0, 1, 2, 3))
    assert [level.shape[-1] for level in found] == [size // 4, size // 8, size // 16, size // 32]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        # the whole networks without their heads: LayerNorm and the classifier of 1000 classes
        ("convnext_base.fb_in22k_ft_in1k", 88_591_464 - 2 * 1024 - 1000 * 1025),
        ("convnextv2_base.fcmae_ft_in22k_in1k", 88_717_800 - 2 * 1024 - 1000 * 1025),
        ("convnextv2_atto.fcmae_ft_in1k", 3_708_400 - 2 * 320 - 1000 * 321),
        ("vit_small_patch14_reg4_dinov2.lvd142m", 22_057_344),
        ("vit_giant_patch14_reg4_dinov2.lvd142m", 1_136_483_840),
        ("vit_small_patch16_dinov3.lvd1689m", 21_586_944),
        ("vit_huge_plus_patch16_dinov3.lvd1689m", 840_509_440),
    ],
)
def test_parameters_are_those_of_the_published_networks(name, parameters):
    backbone = find_backbone(name)
    with torch.device("meta"):
        model = load_backbone(backbone, (max(backbone.taps),), "random")
    assert sum(value.numel() for value in model.parameters()) == parameters


@torch.inference_mode()
def test_a_pyramid_is_the_mean_of_blocks_of_positions():
    x = image(128)
    plain = load_backbone(V3, (1, 5, 11), "random")(x)
    pooled = load_backbone(V3, (1, 5, 11), "random", pyramid=True)(x)
    assert [tuple(level.shape[1:]) for level in pooled] == V3.shapes(128, (1, 5, 11), pyramid=True)
    assert [level.shape[-1] for level in pooled] == [8, 4, 2]
    for k, (level, whole) in enumerate(zip(pooled, plain, strict=True)):
        for row, column in ((0, 0), (level.shape[2] - 1, 1)):
            block = whole[0, :, row * 2**k : (row + 1) * 2**k, column * 2**k : (column + 1) * 2**k]
            torch.testing.assert_close(level[0, :, row, column], block.mean((1, 2)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("backbone", "size", "levels", "scales", "message"),
    [
        (V2, 252, (1, 5, 11), None, r"halve levels of 18 x 18 2 times; set 'input_size' to 224 or 280"),
        (find_backbone("resnet18.tv_in1k"), 64, (1, 2), None, r"levels of one size at one scale.*\[16, 8\]; remove it"),
        (V3, 256, (5, 11), (1, 2), r"levels of one size at one scale"),
    ],
)
def test_levels_that_are_no_pyramid_are_named(backbone, size, levels, scales, message):
    with pytest.raises(NfbenchError, match=message):
        backbone.shapes(size, levels, scales, pyramid=True)


def test_u_flow_takes_blocks_of_a_transformer_as_a_pyramid_alone():
    keys = {"name": V3.name, "input_size": 256, "levels": (3, 7, 11), "weights": "random"}
    config = BackboneConfig(**keys, pyramid=True)
    assert config.tag == "vit_small_patch16_dinov3.lvd1689m@256-l3711-pyramid-random"
    assert list(config.level_shapes.values()) == [(384, 16, 16), (384, 8, 8), (384, 4, 4)]
    method = count_on(config, "uflow", resolve_settings("uflow", backbone=V3.name))
    assert method.eval().latent_shapes()[0][1:] == (16, 16)
    with pytest.raises(NfbenchError, match=r"twice as large.*or 'pyramid: true' if all its levels have one size"):
        count_on(BackboneConfig(**keys), "uflow", resolve_settings("uflow", backbone=V3.name))


def test_a_recipe_with_a_pyramid_loads_a_network_that_pools():
    config = BackboneConfig(name=V3.name, input_size=64, levels=(3, 11), weights="random", pyramid=True)
    recipe, model = load_recipe(config)
    assert [tuple(level.shape[1:]) for level in model(image(64))] == list(recipe.level_shapes.values())
    assert recipe.level_shapes == {"level3": (384, 4, 4), "level11": (384, 2, 2)}
