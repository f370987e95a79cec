"""Sizes of inputs: one number for a square, height and width otherwise; errors name the side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfbench.backbones._base import find_backbone
from nfbench.blocks.method import resolve_settings
from nfbench.config import BackboneConfig, validate
from nfbench.core.errors import NfbenchError
from nfbench.core.input_size import InputSize
from nfbench.features.building import count_on

NAME = "resnet18.tv_in1k"
SIDES = st.integers(32, 2000)
STILL = {"online_rotation": 0.0}


def config(input_size, **keys):
    return validate(BackboneConfig, {"name": NAME, "input_size": input_size, **keys}, "options")


@given(side=SIDES)
def test_equal_sides_are_the_side_of_a_square(side):
    one, pair = config(side), config([side, side])
    assert one == pair
    assert hash(one) == hash(pair)
    assert one.model_dump_json() == pair.model_dump_json()
    assert one.tag == pair.tag == f"{NAME}@{side}"
    assert pair.input_size == side


@given(height=SIDES, width=SIDES)
def test_height_comes_first_everywhere(height, width):
    size = InputSize.of((height, width))
    found = config([height, width], image=True)
    assert (found.size, found.image_shape) == (size, (3, height, width))
    assert InputSize.of(size.sides) == InputSize.of(found.input_size) == size
    assert size.width_height == (width, height)
    assert size.shorter == min(height, width)
    if height != width:
        assert found.tag == f"{NAME}@{height}x{width}-image"
        assert found != config([width, height], image=True)
    assert BackboneConfig.model_validate_json(found.model_dump_json()) == found
    for (_, rows, columns), stride in zip(found.level_shapes.values(), (4, 8, 16), strict=True):
        assert (rows, columns) == (-(-height // stride), -(-width // stride))


@pytest.mark.parametrize(
    ("input_size", "message"),
    [
        (16, r"'input_size': Input should be greater than or equal to 32 \(got 16\)"),
        ([64, 16], r"'input_size.1': Input should be greater than or equal to 32 \(got 16\)"),
        ([64], r"'input_size.1': Field required"),
        ([64, 64, 64], r"'input_size': Tuple should have at most 2 items"),
        ("64x96", r"'input_size': Input should be a valid integer"),
        ([64, "wide"], r"'input_size.1': Input should be a valid integer"),
    ],
)
def test_other_sizes_are_refused_with_their_key(input_size, message):
    with pytest.raises(NfbenchError, match=message):
        config(input_size)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"name": "cait_m48_448", "input_size": [448, 512]}, r"takes images of 448 pixels alone.*, not of 448x512;"),
        ({"name": "ms_cait", "input_size": [224, 448]}, r"takes images of 448 pixels alone.*, not of 224x448;"),
        ({"name": "mvitv2_tiny.fb_in1k", "input_size": [224, 256]}, r"takes images of 224 pixels alone"),
        (
            {"name": "vit_small_patch14_dinov2.lvd142m", "input_size": [448, 500]},
            r"multiple of 14 pixels.*, not of 448x500; set the width in 'input_size' to 490 or 504$",
        ),
        (
            {"name": "deit_base_distilled_patch16_384.fb_in1k", "input_size": [250, 384]},
            r"multiple of 16 pixels.*, not of 250x384; set the height in 'input_size' to 240 or 256$",
        ),
        (
            {"name": "efficientnet_b5", "input_size": [768, 510], "scales": [1, 4]},
            r"768x510 pixels cannot be divided by 4: its width is 510$",
        ),
        (
            {"name": "vit_small_patch16_dinov3.lvd1689m", "input_size": [256, 272], "levels": [3, 7], "pyramid": True},
            r"cannot halve levels of 16 x 17 1 times; set the width in 'input_size' to 256 or 288$",
        ),
        ({"input_size": [64, 96], "rotations": 4}, r"'rotations: 4' turns images of 64x96 pixels out of their frame"),
    ],
)
def test_backbones_refuse_sizes_in_one_line(keys, message):
    with pytest.raises(NfbenchError, match=message) as caught:
        _ = BackboneConfig(**{"name": NAME, **keys}).level_shapes
    assert "\n" not in str(caught.value)


def test_half_a_turn_keeps_the_frame():
    assert config([64, 96], rotations=2).tag == f"{NAME}@64x96-r2"
    assert config([64, 96], rotations=2).level_shapes["level1"] == (64, 16, 24)
    assert config(64, rotations=4).level_shapes


@pytest.mark.parametrize("name", ["cflow", "nfad"])
def test_a_method_that_rotates_training_images_wants_squares(name):
    settings = resolve_settings(name, overrides={"online_rotation": 10.0})
    with pytest.raises(NfbenchError, match=r"needs a square 'input_size', not 64x96; set 'online_rotation: 0'"):
        count_on(config([64, 96]), name, settings)
    assert count_on(config(64), name, settings)
    assert count_on(config([64, 96]), name, resolve_settings(name, overrides=STILL))


def test_maps_from_rotated_images_want_squares():
    backbone = {"levels": [4], "rotations": 2, "pooled": True}
    with pytest.raises(NfbenchError, match=r"makes maps from rotated images, which needs a square"):
        count_on(config([64, 96], **backbone), "differnet", resolve_settings("differnet", overrides=STILL))
    assert count_on(config(64, **backbone), "differnet", resolve_settings("differnet", overrides=STILL))


def test_levels_of_u_flow_halve_along_each_axis():
    settings = resolve_settings("uflow")
    method = count_on(config([128, 256]), "uflow", settings).eval()
    assert [shape[1:] for shape in method.latent_shapes()] == [(32, 64), (16, 32), (8, 16)]
    with pytest.raises(NfbenchError, match="twice as large"):
        count_on(config([128, 250]), "uflow", settings)


def test_shapes_take_both_forms():
    backbone = find_backbone(NAME)
    assert backbone.shapes(96) == backbone.shapes((96, 96)) == [(64, 24, 24), (128, 12, 12), (256, 6, 6)]
