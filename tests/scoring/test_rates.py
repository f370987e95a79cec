"""Error rates against a count by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfbench.scoring.rates import Rates, image_rates, pixel_counts


def test_rates_of_images():
    scores, labels = np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([0, 0, 0, 1, 1])
    assert image_rates(scores, labels, 2.0) == Rates(1 / 3, 0.0)
    assert image_rates(scores, labels, 4.0) == Rates(0.0, 0.5)
    assert image_rates(scores, labels, math.inf) == Rates(0.0, 1.0)


def test_what_is_not_there_has_no_rate():
    none = image_rates(np.array([1.0]), np.array([0]), 0.5)
    assert none.false_alarms == 1
    assert math.isnan(none.misses)
    assert math.isnan(image_rates(np.array([1.0]), np.array([1]), 0.5).false_alarms)
    assert all(map(math.isnan, image_rates(np.array([1.0, 2.0]), np.array([0, 1]), math.nan)))
    assert all(map(math.isnan, pixel_counts([], [], {"t": 0.0})["t"].rates))


@given(st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_rates_of_pixels_are_those_of_all_images_together(seed, threshold):
    rng = np.random.default_rng(seed)
    shapes = rng.integers(1, 6, (3, 2)).tolist()
    maps = [rng.random(shape).astype(np.float32) for shape in shapes]
    masks = [rng.random(shape) < 0.4 for shape in shapes]
    masks[0][0, 0], masks[1][0, 0] = True, False
    pixels, marked = (np.concatenate([part.ravel() for part in parts]) for parts in (maps, masks))
    found = {name: at.rates for name, at in pixel_counts(maps, masks, {"t": threshold, "never": math.inf}).items()}
    assert found["t"].false_alarms == pytest.approx((pixels[~marked] > threshold).mean())
    assert found["t"].misses == pytest.approx((pixels[marked] <= threshold).mean())
    assert found["never"] == Rates(0.0, 1.0)
