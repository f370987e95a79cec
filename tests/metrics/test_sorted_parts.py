"""Scores that are sorted in parts, in files, are the same pieces as those sorted in memory."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.metrics import _ranking as ranking
from nfbench.metrics._iou import iou_sweep
from nfbench.metrics._ranking import RankedScores, areas_under_curves, dense_ranks

LIMITS = ("_IN_MEMORY", "_MERGED", "_STEP", "_CHUNK")


def collected(images, regions, values=None, folder=None):
    found = RankedScores(sum(image.size for image in images), values, folder)
    for image, labels in zip(images, regions, strict=True):
        found.add(image, labels)
    return found


def pieces(ranked):
    return [[array.tolist() for array in piece] for piece in ranked.pieces()]


@st.composite
def some_images(draw):
    """Images of any sizes, of scores that are few or many, zeros of both signs among them."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    few = draw(st.sampled_from([1, 3, 1 << 20]))
    sizes = draw(st.lists(st.integers(0, 60), min_size=1, max_size=8))
    images = [rng.integers(-few // 2, few, size).astype(np.float32) * rng.choice([1, -1], size) for size in sizes]
    images = [image.astype(np.float32) / np.float32(8) for image in images]
    regions = [rng.integers(0, 3, size) if rng.random() < 0.6 else None for size in sizes]
    return images, regions


@settings(max_examples=150, deadline=None)
@given(
    some_images(),
    st.tuples(st.integers(1, 80), st.integers(1, 40), st.integers(1, 12), st.integers(1, 30)),
    st.booleans(),
)
def test_pieces_are_the_same_with_any_limits(tmp_path_factory, data, limits, dense):
    images, regions = data
    images, values = dense_ranks(images) if dense else (images, None)
    folder = tmp_path_factory.getbasetemp() / "sorted"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "_CHUNK", limits[3])
        expected = pieces(collected(images, regions, values))
        for name, limit in zip(LIMITS, limits, strict=True):
            patch.setattr(ranking, name, limit)
        found = collected(images, regions, values, folder)
        assert pieces(found) == expected
        assert pieces(found) == expected  # once more, from the same parts
    assert not folder.exists() or not list(folder.iterdir())


@pytest.fixture
def maps():
    rng = np.random.default_rng(0)
    regions = rng.integers(0, 4, (9, 40, 50)) * (rng.random((9, 40, 50)) < 0.1)
    scores = (rng.normal(size=regions.shape) + regions).astype(np.float32).round(2)
    scores[3] = 0
    return [*scores], [*regions]


def test_metrics_are_the_same_bits(tmp_path, monkeypatch, maps):
    monkeypatch.setattr(ranking, "_CHUNK", 300)
    first = collected(*maps)
    areas, sweep = areas_under_curves(first), iou_sweep(first, [-1, 0, 0.5, 2])
    for name, limit in zip(LIMITS, (4500, 1000, 100), strict=False):
        monkeypatch.setattr(ranking, name, limit)
    second = collected(*maps, folder=tmp_path)
    assert len(second._stored) > 2
    assert areas_under_curves(second) == areas
    again = iou_sweep(second, [-1, 0, 0.5, 2])
    assert again.optimum == sweep.optimum
    assert {name: found.tolist() for name, found in again.curve.items()} == {
        name: found.tolist() for name, found in sweep.curve.items()
    }


def test_no_more_is_merged_at_a_time_than_is_stated(tmp_path, monkeypatch):
    for name, limit in zip(LIMITS, (3000, 1000, 50, 200), strict=True):
        monkeypatch.setattr(ranking, name, limit)
    images = [*np.random.default_rng(0).normal(size=(20, 1000)).astype(np.float32)]
    found = collected(images, [None] * 20, folder=tmp_path)
    list(found.pieces())
    assert len(found._stored) == 7
    merged = [len(part) for part in ranking._merged(found._stored)]
    assert sum(merged) == 20_000
    assert max(merged) <= 1000 + 7 * 50


def test_too_many_scores_are_refused():
    found = RankedScores(3)
    found.add(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="expected 3 scores, got 4"):
        found.add(np.zeros(2, np.float32))
