"""The foreground is the object, or the whole image if there is no object."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nfbench.anomalies._foreground import foreground_mask
from nfbench.datasets._drawing import draw_normal
from nfbench.datasets._manifest import read_image


def scene(size: int = 200, ground: int = 220, part: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """A ring on a plain ground with slight noise, and the disc that it encloses."""
    y, x = np.mgrid[:size, :size] - size // 2
    radius = np.hypot(x, y) / size
    image = np.where((radius < 0.35) & (radius > 0.1), part, ground).astype(float)
    image += np.random.default_rng(0).normal(0, 4, image.shape)
    return np.repeat(image.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2), radius < 0.35


def overlap(found: np.ndarray, expected: np.ndarray) -> float:
    return (found & expected).sum() / (found | expected).sum()


@pytest.mark.parametrize("size", [64, 200, 900])
@pytest.mark.parametrize(("ground", "part"), [(220, 40), (40, 220), (120, 90)])
def test_an_object_on_either_ground_is_found_with_its_hole(size, ground, part):
    image, expected = scene(size, ground, part)
    assert overlap(foreground_mask(image), expected) > 0.93


def test_tracks_and_specks_of_the_ground_are_left_out():
    image, expected = scene()
    image[:, 10:16] = 30
    image[:, 180:186] = 30
    image[4:12, 4:12] = 30
    found = foreground_mask(image)
    assert overlap(found, expected) > 0.93
    assert not found[:, 10:16].any()
    assert not found[4:12, 4:12].any()


def test_an_object_that_leaves_the_frame_reaches_the_border():
    image = np.full((120, 200, 3), 230, dtype=np.uint8)
    image[40:80] = 50  # a band from the left to the right edge, a quarter of the border
    found = foreground_mask(image)
    assert found[45:75].all()
    assert not found[:30].any()
    assert not found[90:].any()


def test_a_thin_object_is_kept():
    image = np.full((256, 256, 3), 230, dtype=np.uint8)
    image[120:126, 40:200] = 20
    found = foreground_mask(image)
    assert found[121:125, 45:195].all()
    assert found.mean() < 0.05


@pytest.mark.parametrize(
    "image",
    [
        np.full((50, 70, 3), 90, dtype=np.uint8),
        np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8),
        np.repeat(np.repeat(np.array([[30, 200]], dtype=np.uint8), 60, axis=1), 120, axis=0)[..., None].repeat(3, 2),
        draw_normal("fabric", "train", 0),
        draw_normal("stone", "train", 0),
    ],
    ids=["flat", "noise", "halves", "fabric", "stone"],
)
def test_where_nothing_is_separated_all_is_foreground(image):
    assert foreground_mask(image).all()


@given(arrays(np.uint8, st.tuples(st.integers(1, 40), st.integers(1, 40), st.just(3))))
def test_every_image_has_a_foreground(image):
    found = foreground_mask(image)
    assert found.dtype == bool
    assert found.shape == image.shape[:2]
    assert found.any()


@pytest.mark.parametrize(("category", "low", "high"), [("bottle", 0.55, 0.68), ("transistor", 0.12, 0.35)])
def test_real_objects(mvtec_root, category, low, high):
    for path in sorted((mvtec_root / category / "train" / "good").iterdir())[::10]:
        found = foreground_mask(np.array(read_image(path)))
        centre = tuple(slice(side * 2 // 5, side * 9 // 20) for side in found.shape)
        assert low < found.mean() < high, path
        assert found[centre].all(), path
        assert not found[:5, :5].any(), path
