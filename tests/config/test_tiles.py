"""Tiles of images: where they lie, how many there are, and what they change in a configuration."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nfbench.config import BackboneConfig
from nfbench.config.tiles import TilesConfig, Window

LITE = {"name": "tf_efficientnet_lite0", "input_size": 64}

sides = st.integers(1, 400)
tilings = st.integers(32, 160).flatmap(
    lambda size: st.builds(TilesConfig, size=st.just(size), overlap=st.integers(0, size - 1))
)


@pytest.mark.parametrize(
    ("length", "size", "overlap", "starts"),
    [
        (1024, 512, 0, [0, 512]),
        (1024, 512, 64, [0, 448, 512]),
        (900, 512, 64, [0, 388]),
        (513, 512, 0, [0, 1]),
        (512, 512, 64, [0]),
        (100, 512, 64, [0]),
        (2448, 1024, 103, [0, 921, 1424]),
    ],
)
def test_starts_of_tiles(length, size, overlap, starts):
    assert TilesConfig(size=size, overlap=overlap).starts(length) == starts


@pytest.mark.parametrize(("size", "count"), [((4224, 1056), 10), ((2448, 2048), 9), ((1400, 1900), 4)])
def test_tiles_of_large_images_by_the_published_rule(size, count):
    """Tiles of 1024 with an overlap of 10 %: ceil((L - 1024) / 921) + 1 per side."""
    tiles = TilesConfig(size=1024, overlap=103)
    assert tiles.count(*size) == len(list(tiles.windows(*size))) == count


@given(tilings, sides, sides)
def test_windows_cover_each_pixel_and_stay_inside(tiles, height, width):
    windows = list(tiles.windows(height, width))
    stride = tiles.size - tiles.overlap
    per_side = [1 if side <= tiles.size else -(-(side - tiles.size) // stride) + 1 for side in (height, width)]
    assert len(windows) == len(set(windows)) == tiles.count(height, width) == per_side[0] * per_side[1]
    rows, columns = set(), set()
    for top, left, tall, wide in windows:
        assert (tall, wide) == (min(height, tiles.size), min(width, tiles.size))
        assert 0 <= top <= height - tall
        assert 0 <= left <= width - wide
        rows |= {*range(top, top + tall)}
        columns |= {*range(left, left + wide)}
    assert (rows, columns) == ({*range(height)}, {*range(width)})
    assert windows == [Window(top, left, *windows[0][2:]) for top, left in product(tiles.starts(height),
                                                                                  tiles.starts(width))]  # fmt: skip


@given(tilings, sides, sides, st.integers(1, 64))
def test_merged_maps_are_as_fine_as_those_of_tiles(tiles, height, width, own):
    found = tiles.map_size((height, width), (own, own))
    for side, pixels in zip((height, width), found, strict=True):
        assert pixels == own if side <= tiles.size else abs(pixels - side * own / tiles.size) <= 0.5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 64, "overlap": 64}, r"'overlap' must be smaller than 'size' \(64\)"),
        ({"size": 64, "overlap": -1}, "greater than or equal to 0"),
        ({"size": 16}, "greater than or equal to 32"),
        ({"size": 64, "blend": "max"}, "'mean' or 'hann'"),
        ({"size": 64, "stride": 65}, "Extra inputs"),
    ],
)
def test_gaps_between_tiles_and_unknown_blends_are_refused(values, message):
    with pytest.raises(ValidationError, match=message):
        BackboneConfig(**LITE, tiles=values)


def test_tags():
    tags = [
        BackboneConfig(**LITE, tiles=tiles).tag
        for tiles in (
            None,
            {"size": 512},
            {"size": 512, "overlap": 64},
            {"size": 512, "blend": "hann"},
            {"size": 512, "overlap": 64, "blend": "hann"},
        )
    ]
    plain = "tf_efficientnet_lite0@64"
    ends = ["", "-t512", "-t512.64", "-t512.0.hann", "-t512.64.hann"]
    assert tags == [plain + end for end in ends]
