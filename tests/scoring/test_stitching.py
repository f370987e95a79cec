"""Merged maps: exact where they must be, equal to a slow merge, and image scores by the rule of the method."""

import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nfbench.blocks.tiling import Tiling
from nfbench.config.tiles import TilesConfig
from nfbench.scoring.stitching import merge_tiles, stitch

BLENDS = ("mean", "hann")


def merged_slowly(maps, windows, image, size, blend):
    """One pixel after another, with exact places."""
    found = np.zeros(size)
    for row, column in np.ndindex(*size):
        values, weights = [], []
        y = Fraction(2 * row + 1, 2) * Fraction(image[0], size[0])
        x = Fraction(2 * column + 1, 2) * Fraction(image[1], size[1])
        for tile, (top, left, height, width) in zip(maps, windows, strict=True):
            if top <= y < top + height and left <= x < left + width:
                v, u = (y - top) / height, (x - left) / width
                values.append(interpolated(tile, v * tile.shape[0], u * tile.shape[1]))
                weights.append(1.0 if blend == "mean" else taper(v) * taper(u))
        found[row, column] = np.average(values, weights=weights)
    return found


def taper(place):
    return max(math.sin(math.pi * place) ** 2, 1e-3)


def interpolated(tile, y, x):
    """Value at a place, in pixels from the upper left corner; beyond the outer centres, that of the nearest pixel."""
    (top, down), (left, right) = ends(y, tile.shape[0]), ends(x, tile.shape[1])
    value = 0.0
    for row, of_row in (top, down):
        for column, of_column in (left, right):
            value += float(of_row * of_column) * float(tile[row, column])
    return value


def ends(place, length):
    place = min(max(place - Fraction(1, 2), Fraction(0)), Fraction(length - 1))
    first = math.floor(place)
    return (first, 1 - (place - first)), (min(first + 1, length - 1), place - first)


@st.composite
def cases(draw, *, same_scale=False):
    """An image, its tiles, and the size of their maps."""
    size = draw(st.integers(32, 48))
    tiles = TilesConfig(size=size, overlap=draw(st.integers(0, size - 1 if size < 40 else 20)),
                        blend=draw(st.sampled_from(BLENDS)))  # fmt: skip
    image = draw(st.integers(20, 110)), draw(st.integers(20, 110))
    if tiles.count(*image) > 60:
        image = min(image[0], 60), min(image[1], 60)
    own = (
        tuple(min(side, size) for side in image) if same_scale else (draw(st.integers(2, 16)), draw(st.integers(2, 16)))
    )
    return tiles, image, own


def random_maps(count, own, seed=0):
    return np.random.default_rng(seed).normal(size=(count, *own)).astype(np.float32)


@given(cases())
def test_equals_a_merge_of_one_pixel_after_another(case):
    tiles, image, own = case
    windows, size = list(tiles.windows(*image)), tiles.map_size(image, own)
    maps = random_maps(len(windows), own)
    found = stitch(maps, windows, image, size, tiles.blend)
    assert (found.shape, found.dtype) == (size, np.float32)
    np.testing.assert_allclose(found, merged_slowly(maps, windows, image, size, tiles.blend), rtol=1e-5, atol=1e-6)


@given(cases(), st.floats(-1e6, 1e6, width=32))
def test_tiles_of_one_value_give_a_map_of_this_value(case, value):
    tiles, image, own = case
    windows, size = list(tiles.windows(*image)), tiles.map_size(image, own)
    maps = np.full((len(windows), *own), value, dtype=np.float32)
    assert (stitch(maps, windows, image, size, tiles.blend) == np.float32(value)).all()


@given(cases(same_scale=True))
def test_a_score_that_is_linear_in_the_position_is_reproduced(case):
    tiles, image, own = case
    positions = np.add.outer(3.0 * np.arange(image[0]), 0.5 * np.arange(image[1])).astype(np.float32)
    windows = list(tiles.windows(*image))
    maps = np.stack([positions[top : top + tall, left : left + wide] for top, left, tall, wide in windows])
    assert maps.shape[1:] == own
    np.testing.assert_array_equal(stitch(maps, windows, image, image, tiles.blend), positions)


@given(cases(same_scale=True))
def test_any_score_is_reproduced_where_tiles_agree(case):
    tiles, image, _ = case
    whole = random_maps(1, image)[0]
    windows = list(tiles.windows(*image))
    maps = np.stack([whole[top : top + tall, left : left + wide] for top, left, tall, wide in windows])
    np.testing.assert_allclose(stitch(maps, windows, image, image, tiles.blend), whole, rtol=1e-6)


@pytest.mark.parametrize("blend", BLENDS)
@pytest.mark.parametrize(("image", "overlap"), [((1024, 1024), 0), ((900, 1030), 64), ((600, 2000), 100)])
def test_one_pixel_in_the_corner_of_the_last_tile_survives_at_its_place(blend, image, overlap):
    """No other tile covers the last corner, so that nothing dilutes its value."""
    tiles, own = TilesConfig(size=512, overlap=overlap, blend=blend), (128, 128)
    windows, size = list(tiles.windows(*image)), tiles.map_size(image, own)
    maps = np.zeros((len(windows), *own), np.float32)
    maps[-1, -1, -1] = 1
    found = stitch(maps, windows, image, size, blend)
    assert np.unravel_index(found.argmax(), size) == (size[0] - 1, size[1] - 1)
    assert found.max() > 0.98  # 900 and 2000 pixels have no whole number of pixels of the map
    assert (found > 0).sum() <= 9


def test_what_is_covered_by_no_tile_is_no_number():
    tiles = TilesConfig(size=32)
    windows = list(tiles.windows(64, 64))
    with pytest.raises(ValueError, match="do not cover"):
        stitch(np.zeros((3, 8, 8), np.float32), windows[:3], (64, 64), (16, 16))
    with pytest.raises(ValueError, match="longer"):
        stitch(np.zeros((3, 8, 8), np.float32), windows, (64, 64), (16, 16))


def merged(maps, scores, tiling, rule="", batch=3):
    method = SimpleNamespace(image_rule=rule) if rule else object()
    parts = [
        (
            None if maps is None else torch.from_numpy(maps[first : first + batch]),
            torch.from_numpy(scores[first : first + batch]),
        )
        for first in range(0, len(scores), batch)
    ]
    return list(merge_tiles(parts, tiling, method))


SIZES = ((64, 64), (20, 30), (70, 32), (32, 32))


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_images_are_merged_one_by_one_for_any_batches(batch):
    tiling = Tiling.of(TilesConfig(size=32, overlap=8), SIZES)
    assert (tiling.n_rows, tiling.first) == (9 + 1 + 3 + 1, [0, 9, 10, 13, 14])
    maps, scores = random_maps(14, (8, 8)), np.arange(14, dtype=np.float32)
    found = merged(maps, scores, tiling, "max", batch)
    size = tiling.map_size((8, 8))
    assert size == (18, 16)  # of an image as high and wide as the largest
    for number, (of_image, score) in enumerate(found):
        rows = tiling.rows([number])
        expected = stitch(maps[rows], tiling.windows(number), SIZES[number], size)
        np.testing.assert_array_equal(of_image[0].numpy(), expected)
        assert score.tolist() == [expected.max()]


def test_scores_of_methods_without_a_rule_are_those_of_the_largest_tile():
    tiling = Tiling.of(TilesConfig(size=32, overlap=8), SIZES)
    maps, scores = random_maps(14, (8, 8)), random_maps(1, (14,))[0]
    expected = [scores[tiling.rows([number])].max() for number in range(len(SIZES))]
    for given_maps in (maps, None):
        assert [score.item() for _, score in merged(given_maps, scores, tiling)] == expected
    top = [score.item() for _, score in merged(maps, scores, tiling, "top1")]
    assert top == [
        of_image.flatten().topk(2).values.mean().item() for of_image, _ in merged(maps, scores, tiling, "top1")
    ]


def test_images_that_are_no_larger_than_a_tile_stay_as_they_are():
    tiling = Tiling.of(TilesConfig(size=64, overlap=8), SIZES[:2])
    maps, scores = random_maps(2, (8, 8)), random_maps(1, (2,))[0]
    found = merged(maps, scores, tiling, "max")
    np.testing.assert_array_equal(np.concatenate([part.numpy() for part, _ in found]), maps)
    np.testing.assert_array_equal(np.concatenate([part.numpy() for _, part in found]), scores)
