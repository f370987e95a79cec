"""sPRO: worked examples, a slow loop over all thresholds, its relation to PRO, undefined and illegal input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.metrics import aupro
from nfbench.metrics._inputs import label_regions
from nfbench.metrics._spro import Channel, au_spro, saturation_area
from tests.metrics.test_pixel import KINDS, make

LIMITS = (0.05, 0.3, 1.0)
SCORES = np.zeros((6, 10))
SCORES[0] = [9, 8, 7, 6, 5, 4, 3, 2, 6, 1]
SCORES[1, 4:] = [8, 7, 3, 3, 1, 0]
SCORES[4, 4], SCORES[5, 5] = 7.5, 5
FIRST, SECOND = np.zeros((2, 6, 10), dtype=bool)
FIRST[0, :8] = SECOND[0, 6:] = SECOND[1, 4:] = True
"""Two channels of 8 and 10 pixels that share 2."""


def slow_au_spro(maps, channels, limit):
    """From the definition: all thresholds one by one, a polygon over FPR, cut at the limit."""
    area, x, height = 0.0, 0.0, 0.0
    free = [
        np.ones(score_map.shape, dtype=bool) if not of_image else ~np.any([c.mask for c in of_image], axis=0)
        for score_map, of_image in zip(maps, channels, strict=True)
    ]
    for threshold in sorted(set(np.concatenate([m.ravel() for m in maps]).tolist()), reverse=True):
        alarms = sum((m[f] >= threshold).sum() for m, f in zip(maps, free, strict=True))
        rate = alarms / sum(f.sum() for f in free)
        covered = [
            min((score_map[channel.mask] >= threshold).sum() / channel.saturation, 1)
            for score_map, of_image in zip(maps, channels, strict=True)
            for channel in of_image
        ]
        right = min(rate, limit)
        if right > x:
            at = height + (right - x) / (rate - x) * (np.mean(covered) - height)
            area += (right - x) * (height + at) / 2
        x, height = rate, np.mean(covered)
        if x >= limit:
            break
    return area / limit


@pytest.mark.parametrize(
    ("saturations", "expected"),
    [
        ((8, 10), (0.3619426407, 0.8576452020, 0.9444602273)),
        ((saturation_area(8, 4, False), saturation_area(10, 0.35, True)), (0.7348484848, 0.9558080808, 0.9867424242)),
        ((saturation_area(8, 12, False), saturation_area(10, 0.5, True)), (0.4573863636, 0.9095643939, 0.9728693182)),
    ],
)
def test_worked_examples(saturations, expected):
    channels = [Channel(FIRST, saturations[0]), Channel(SECOND, saturations[1])]
    assert au_spro([SCORES], [channels], LIMITS) == pytest.approx(expected, abs=1e-10)
    for limit, value in zip(LIMITS, expected, strict=True):
        assert slow_au_spro([SCORES], [channels], limit) == pytest.approx(value, abs=1e-10)


@pytest.mark.parametrize(
    ("area", "threshold", "relative", "expected"),
    [(8, 4, False, 4), (8, 12, False, 8), (10, 0.35, True, 3),
     (100, 0.29, True, 28), (100, 0.58, True, 57), (7, 1, True, 7)],
)  # fmt: skip
def test_saturation_areas_are_truncated_as_floats(area, threshold, relative, expected):
    assert saturation_area(area, threshold, relative) == expected


@pytest.mark.parametrize(("area", "threshold", "relative"), [(10, 0, True), (3, 0.3, True), (10, 0, False)])
def test_saturation_areas_without_a_pixel_are_refused(area, threshold, relative):
    with pytest.raises(ValueError, match=f"leaves no pixel of {area}"):
        saturation_area(area, threshold, relative)


def test_a_share_above_one_is_refused():
    with pytest.raises(ValueError, match=r"at most 1, got 4"):
        saturation_area(10, 4, True)


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "rings"])
def test_channels_without_saturation_are_the_regions_of_pro(kind, limit):
    """One channel per region: AU-sPRO is AUPRO."""
    maps, masks = make(kind, n_images=6, size=32)
    regions = [label_regions(mask) for mask in masks]
    channels = [
        [Channel(labels == number, int((labels == number).sum())) for number in range(1, labels.max() + 1)]
        for labels in regions
    ]
    assert au_spro(maps, channels, (limit,))[0] == pytest.approx(aupro(maps, masks, limit), abs=1e-12)


@st.composite
def images(draw):
    """Small maps with few distinct scores, and up to three overlapping channels in some of the images."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    levels, maps, channels = draw(st.integers(1, 20)), [], []
    for number, shape in enumerate(rng.integers(2, 9, (4, 2)).tolist()):
        maps.append(rng.integers(0, levels, shape).astype(draw(st.sampled_from([np.float32, np.float64]))))
        of_image = []
        for _ in range(int(rng.integers(1, 4)) if number < 2 else 0):
            mask = rng.random(shape) < 0.3
            mask[1, 1], mask[0, 0] = True, False
            of_image.append(Channel(mask, int(rng.integers(1, mask.sum() + 1))))
        channels.append(of_image)
    return maps, channels


@settings(max_examples=80, deadline=None)
@given(images(), st.floats(0.01, 1))
def test_agreement_with_a_loop_over_all_thresholds(found, limit):
    maps, channels = found
    assert au_spro(maps, channels, (limit,))[0] == pytest.approx(slow_au_spro(maps, channels, limit), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(images(), st.sampled_from([np.exp, lambda x: x**3, np.arctan]))
def test_increasing_maps_change_nothing_and_a_smaller_saturation_area_is_never_worse(found, transform):
    maps, channels = found
    values = au_spro(maps, channels, LIMITS)
    assert all(0 <= value <= 1 for value in values)
    assert au_spro([transform(m.astype(np.float64)) for m in maps], channels, LIMITS) == values
    eased = [[Channel(c.mask, max(1, c.saturation // 2)) for c in of_image] for of_image in channels]
    assert all(new >= old - 1e-12 for new, old in zip(au_spro(maps, eased, LIMITS), values, strict=True))


def test_several_limits_share_one_call():
    channels = [[Channel(FIRST, 4), Channel(SECOND, 3)]]
    assert au_spro([SCORES], channels, LIMITS) == tuple(au_spro([SCORES], channels, (one,))[0] for one in LIMITS)


def test_good_images_count_in_the_false_positive_rate_alone():
    """44 free pixels of the first image and 16 of the second, one of these above all but one pixel of the channel."""
    good = np.zeros((4, 4))
    good[0, 0] = 8.5
    channels = [[Channel(FIRST, 8)], []]
    maps = [SCORES, good]
    assert au_spro(maps, channels, (0.05,))[0] == pytest.approx(slow_au_spro(maps, channels, 0.05), abs=1e-12)
    assert au_spro(maps, channels, (0.05,)) < au_spro([SCORES, np.zeros((4, 4))], channels, (0.05,))


@pytest.mark.parametrize("channels", [[], [Channel(np.ones((6, 10)), 5)]], ids=["no channel", "no free pixel"])
def test_without_channels_or_free_pixels_it_is_undefined(channels):
    with pytest.warns(UserWarning, match="undefined without both a channel and a pixel free of channels"):
        assert np.isnan(au_spro([SCORES], [channels], LIMITS)).all()


@pytest.mark.parametrize(
    ("maps", "channels", "limits", "message"),
    [
        ([SCORES], [[Channel(FIRST, 8)]], (0.0,), r"'fpr_limits' must be in \(0, 1\], got 0"),
        ([SCORES], [[Channel(FIRST, 8)]], (), r"'fpr_limits' must be in \(0, 1\]"),
        ([SCORES], [], (0.05,), r"as many images as 'maps' \(1\), got 0"),
        ([SCORES], [[Channel(FIRST[:3], 8)]], (0.05,), r"image 0: the mask has shape \(3, 10\), the map \(6, 10\)"),
        ([SCORES], [[Channel(0 * FIRST, 1)]], (0.05,), "image 0: the mask of a channel is empty"),
        ([SCORES, SCORES], [[], [Channel(FIRST, 9)]], (0.05,), "image 1: a saturation area is from 1 to 8 pixels"),
        ([SCORES], [[Channel(FIRST, 0)]], (0.05,), "image 0: a saturation area is from 1 to 8 pixels, got 0"),
        ([SCORES], [[Channel(255 * FIRST.astype(int), 8)]], (0.05,), "image 0: a mask holds 0 and 1"),
        ([np.full((6, 10), np.nan)], [[Channel(FIRST, 8)]], (0.05,), "'maps' must be finite, image 0"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(maps, channels, limits, message):
    with pytest.raises(ValueError, match=message):
        au_spro(maps, channels, limits)
