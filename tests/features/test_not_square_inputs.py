"""Inputs that are not square: keys of caches, pixels at their place, pseudo-anomalies, vision transformers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench.anomalies._base import make_generator, view_seed
from nfbench.anomalies.blend import BlendAndScar
from nfbench.anomalies.cutpaste import AREA, CutPaste, draw_patch_shape
from nfbench.backbones._base import Level, find_backbone
from nfbench.backbones._weights import load_backbone
from nfbench.blocks.cutpaste import draw_patches
from nfbench.config import AnomaliesConfig, BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.datasets._manifest import build_manifest, unlisted, write_manifest
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import Synthesis, extract_features
from nfbench.features.forward import TRANSFORM, load_recipe, read_images, transform_of
from nfbench.features.live import live_levels
from nfbench.features.meta import FeatureMeta, cache_key
from nfbench.features.recipe import Recipe

CPU = torch.device("cpu")
LITE = "tf_efficientnet_lite0"
WIDE, HIGH = (64, 96), (96, 64)


def extract(entries, path, input_size, name=LITE, **keys):
    backbone = BackboneConfig(name=name, input_size=input_size, **{"weights": "random", **keys})
    return extract_features(entries, backbone, path, view="train", device=CPU)


@pytest.fixture
def entries(image_folder):
    return [e for e in build_manifest(find_dataset("folder").samples(image_folder, "part")) if e.split == "train"]


def described(input_size, transform, **keys):
    recipe = Recipe.of(BackboneConfig(name="resnet18.tv_in1k", input_size=input_size, **keys), "0" * 64)
    return FeatureMeta(
        recipe=recipe, transform=transform, dtype="float16", view="train", n_images=2, images_sha256="1" * 64
    )


@pytest.mark.parametrize(
    ("sides", "keys", "key"),
    [
        (256, {}, "6ed48dfe287a309698a4245b96b6d451f120b389b02a83af91f8b5bfc7c685bd"),
        (96, {"levels": (2, 3), "image": True}, "6498788c8108ae28c244aba7834302c2713532f66794168c05da7eb0c2fd50f2"),
    ],
)
def test_keys_of_squares_are_those_before_other_shapes_existed(sides, keys, key):
    for form in (sides, (sides, sides)):
        assert transform_of(form) == TRANSFORM
        assert cache_key(described(form, transform_of(form), **keys)) == key


def test_height_and_width_are_part_of_the_key():
    keys = {size: cache_key(described(size, transform_of(size))) for size in ((256, 512), (512, 256), 256, 512)}
    assert len(set(keys.values())) == 4
    assert transform_of((256, 512)) != TRANSFORM


def test_both_forms_of_a_square_give_one_cache_byte_for_byte(entries, tmp_path):
    one, pair = (extract(entries, tmp_path / name / "meta.json", size) for name, size in (("a", 64), ("b", [64, 64])))
    assert (one.key, one.files) == (pair.key, pair.files)
    for file in one.files:
        assert (tmp_path / "a" / file.name).read_bytes() == (tmp_path / "b" / file.name).read_bytes()


def test_a_cache_of_another_shape_is_refused(entries, tmp_path):
    path = tmp_path / "meta.json"
    meta = extract(entries, path, WIDE)
    assert meta.map_size == WIDE
    assert meta.shapes == find_backbone(LITE).shapes(WIDE)
    with pytest.raises(NfbenchError, match=r"holds other features.*input_size"):
        extract(entries, path, HIGH)


def test_a_rectangle_is_where_it_was(tmp_path):
    """Rows 10 to 20 and columns 30 to 70 of an image of 40 x 100 pixels, at twice the size."""
    image = np.zeros((40, 100, 3), np.uint8)
    image[10:20, 30:70] = 255
    Image.fromarray(image).save(tmp_path / "part.png")
    (found,) = read_images([unlisted(tmp_path / "part.png")], (80, 200))
    assert found.shape == (3, 80, 200)
    rows, columns = np.nonzero(found[0].numpy() > 127)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (20, 40, 60, 140)


def test_a_transposed_image_has_transposed_features(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 130, 3), dtype=np.uint8)
    pictures = Image.fromarray(pixels), Image.fromarray(pixels.swapaxes(0, 1).copy())
    wide, high = (read_images([picture], size) for picture, size in zip(pictures, (WIDE, HIGH), strict=True))
    assert (wide.shape, high.shape) == ((1, 3, *WIDE), (1, 3, *HIGH))
    assert (wide.int() - high.mT.int()).abs().max() <= 1, "Pillow resizes along one axis after the other"


def test_half_a_turn_of_a_wide_image_keeps_all_pixels(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*WIDE, 3), dtype=np.uint8))
    (views,) = read_images([image], WIDE, [[0, 180]])
    torch.testing.assert_close(views[1], views[0].flip(1, 2))


def test_features_computed_online_are_those_of_the_cache(image_folder, tmp_path):
    manifest = tmp_path / "part.csv"
    rows = build_manifest(find_dataset("folder").samples(image_folder, "part"))
    write_manifest(manifest, rows)
    train = [row for row in rows if row.split == "train"]
    extract(train, tmp_path / "cache" / "meta.json", WIDE)
    cached = FeatureCache(tmp_path / "cache" / "meta.json").features.levels
    backbone = BackboneConfig(name=LITE, input_size=WIDE, weights="random", online=True)
    meta = extract_features(train, backbone, tmp_path / "live.json", view="train", device=CPU, online=manifest)
    for level, live in zip(cached, live_levels(meta), strict=True):
        assert level.shape == live.shape
        np.testing.assert_array_equal(level, live[:])


@pytest.mark.parametrize("name", ["blend", "cutpaste"])
@pytest.mark.parametrize("size", [(64, 192), (160, 64)], ids=str)
def test_pseudo_anomalies_have_the_size_of_the_input(entries, name, size, tmp_path):
    config = AnomaliesConfig(generator=name, views=4)
    generator, used = make_generator(config, entries, 0, size)
    made = [generator(index, view_seed(name, 0, index, view)) for index in range(len(generator)) for view in range(8)]
    assert {one.image.shape for one in made} == {(*size, 3)}
    assert {one.mask.shape for one in made} == {size}
    marked = [one.mask for one in made if one.mask.any()]
    assert len(marked) > len(made) / 3
    middles = np.array([np.mean(np.nonzero(mask), axis=1) / size for mask in marked])
    assert (middles.min(0) < 0.4).all(), "at the near end of both axes"
    assert (middles.max(0) > 0.6).all(), "and at the far one"
    backbone = BackboneConfig(name=LITE, input_size=size, weights="random")
    path = tmp_path / "meta.json"
    extract_features(used, backbone, path, view=name, device=CPU, synthesis=Synthesis(name, generator, 4, 0))
    _, masks = FeatureCache(path).pseudo_views
    assert masks.shape == (len(entries), 4, *size)


@pytest.mark.parametrize("generator", [BlendAndScar, CutPaste])
def test_pseudo_anomalies_of_a_square_are_the_same_in_both_forms(entries, generator):
    one, pair = generator(entries, [], 64), generator(entries, [], (64, 64))
    for seed in range(12):
        for found, expected in zip(pair(0, seed), one(0, seed), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [(64, 64), (40, 400), (400, 40), (32, 1000)], ids=str)
def test_patches_fit_and_their_share_stays_in_range(size):
    rng = np.random.default_rng(0)
    shapes = np.array([draw_patch_shape(size, rng) for _ in range(500)])
    assert (shapes <= size[::-1]).all()
    shares = shapes.prod(1) / np.prod(size)
    slack = 0.5 * shapes.sum(1) / np.prod(size)  # both sides are rounded
    assert (shares >= AREA[0] - slack).all()
    assert (shares <= AREA[1] + slack).all()
    width, height, _ = draw_patches(torch.zeros(500, 3, *size), torch.Generator().manual_seed(0))
    assert height.max() <= size[0] * (1 + 1e-6)
    assert width.max() <= size[1] * (1 + 1e-6)
    share = width * height / np.prod(size)
    assert AREA[0] - 1e-4 <= share.min() <= share.max() <= AREA[1] + 1e-4


def test_a_small_side_is_too_small_for_anomalies(entries):
    with pytest.raises(NfbenchError, match="images of 24x200 pixels are too small; use at least 32"):
        CutPaste(entries, [], (24, 200))


DEIT = replace(
    find_backbone("deit_base_distilled_patch16_384.fb_in1k"),
    timm_name="deit_tiny_distilled_patch16_224.fb_in1k",
    taps={2: Level(192, 16)},
    levels=(2,),
    input_size=224,
)
DINO = replace(find_backbone("vit_small_patch14_reg4_dinov2.lvd142m"), levels=(2,))


@torch.inference_mode()
@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "native"), [(DEIT, 224), (DINO, 518)], ids=["deit", "dinov2"])
def test_resampled_position_codes_change_nothing_at_their_own_size(backbone, native):
    x = torch.randn(1, 3, native, native, generator=torch.Generator().manual_seed(0))
    resampled = load_backbone(backbone, (2,), "random")
    fixed = load_backbone(replace(backbone, extractor="tokens"), (2,), "random")
    torch.testing.assert_close(resampled(x), fixed(x), rtol=0, atol=0)


@torch.inference_mode()
@pytest.mark.slow
@pytest.mark.parametrize(
    "backbone", [DEIT, DINO, find_backbone("vit_small_patch16_dinov3.lvd1689m")], ids=["deit", "dinov2", "dinov3"]
)
def test_position_codes_follow_both_axes_of_an_image(backbone):
    """In an image of one colour, absolute codes alone tell positions apart, along rows and columns."""
    height, width = 4 * backbone.patch, 7 * backbone.patch
    model = load_backbone(backbone, (2,), "random")
    (wide,), (high,) = (model(torch.full((1, 3, *size), 0.5)) for size in ((height, width), (width, height)))
    assert (wide.shape[2:], high.shape[2:]) == ((4, 7), (7, 4))
    assert torch.isfinite(wide).all()
    if backbone.extractor == "resized_tokens":
        assert wide.std(2).min(1).values.max() > 1e-4
        assert wide.std(3).min(1).values.max() > 1e-4


@torch.inference_mode()
def test_scales_divide_both_sides():
    backbone = BackboneConfig(name=LITE, input_size=(128, 192), levels=(2,), scales=(1, 2, 4), weights="random")
    recipe, model = load_recipe(backbone)
    levels = model(torch.zeros(1, 3, 128, 192))
    assert [tuple(level.shape[1:]) for level in levels] == list(recipe.level_shapes.values())
    assert [tuple(level.shape[2:]) for level in levels] == [(16, 24), (8, 12), (4, 6)]
