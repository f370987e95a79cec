"""Images that a condition draws: by seed, nested, with one test set for all ratios, and a limit."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import derive_seed
from nfbench.datasets._drawn import draw, drawn_entries
from nfbench.datasets._manifest import Entry, view_entries


def entries(n_train, n_normal, n_anomalous, n_validation=0):
    kinds = [("train", 0, n_train), ("validation", 0, n_validation), ("test", 0, n_normal), ("test", 1, n_anomalous)]
    return [
        Entry(split, label, "x", f"/images/{split}/{label}/{number}.png", "", 8, 8, f"{split}{label}{number}", "")
        for split, label, count in kinds
        for number in range(count)
    ]


COUNTS = st.tuples(st.integers(2, 60), st.integers(0, 20), st.integers(4, 60))


@given(COUNTS, st.integers(0, 3), st.data())
def test_shots_are_nested_and_follow_from_the_seed(counts, seed, data):
    found = entries(*counts)
    small = data.draw(st.integers(1, counts[0]))
    large = data.draw(st.integers(small, counts[0]))
    few, many = draw(found, f"shots{small}", seed), draw(found, f"shots{large}", seed)
    assert (len(few.normal), len(many.normal)) == (small, large)
    assert set(few.normal) <= set(many.normal)
    assert few.normal == sorted(few.normal)
    assert (few.added, few.left_out) == ([], frozenset())
    # by hand: the images with the lowest numbers that seed and hash give
    ranked = sorted(range(counts[0]), key=lambda number: derive_seed("shots", seed, f"train0{number}"))
    assert few.normal == sorted(ranked[:small])


@given(COUNTS, st.integers(0, 3), st.lists(st.integers(1, 40), min_size=2, max_size=4, unique=True))
def test_contamination_is_nested_and_leaves_one_test_set(counts, seed, percents):
    n_train, _, n_anomalous = counts
    ratios, found = [0.0, *(percent / 100 for percent in sorted(percents))], entries(*counts)
    names = [f"contamination{ratio:g}-of-{ratios[-1]:g}" for ratio in ratios]
    largest = max(1, round(ratios[-1] * n_train))
    if largest > 0.75 * n_anomalous:
        with pytest.raises(
            NfbenchError, match=f"takes {largest} anomalies, but only {math.floor(0.75 * n_anomalous)} of"
        ):
            draw(found, names[0], seed)
        return
    drawn = [draw(found, name, seed) for name in names]
    assert {one.left_out for one in drawn} == {drawn[-1].left_out}
    assert all(one.normal == list(range(n_train)) for one in drawn)
    assert [len(one.added) for one in drawn] == [0, *(max(1, round(ratio * n_train)) for ratio in ratios[1:])]
    assert all(set(one.added) <= set(other.added) for one, other in pairwise(drawn))
    assert set(drawn[-1].added) == drawn[-1].left_out
    tested = view_entries(found, "test")
    assert all(tested[number].label for number in drawn[-1].left_out)


def test_seeds_draw_other_images_and_other_manifests_the_same_ones():
    found = entries(40, 5, 40)
    sets = {tuple(draw(found, "shots4", seed).normal) for seed in range(5)}
    moved = {draw(found, "contamination0.1-of-0.2", seed).left_out for seed in range(5)}
    assert (len(sets), len(moved)) == (5, 5)
    elsewhere = [Entry(**{**vars(entry), "image": entry.image.replace("/images", "/other")}) for entry in found]
    assert draw(elsewhere, "shots4", 1) == draw(found, "shots4", 1)


@pytest.mark.parametrize("condition", ["", "blur2"])
def test_other_conditions_draw_all_images(condition):
    found = entries(5, 2, 4, n_validation=3)
    drawn = draw(found, condition, 0)
    assert drawn == (list(range(5)), [], frozenset())
    assert drawn_entries(found, drawn) == view_entries(found, "train")


def test_trained_images_are_normal_ones_then_added_ones_then_validation_images():
    found = entries(10, 2, 8, n_validation=3)
    drawn = draw(found, "contamination0.2-of-0.3", 0)
    listed = drawn_entries(found, drawn)
    assert drawn.n_train == 12
    assert [(entry.split, entry.label) for entry in listed] == (
        [("train", 0)] * 10 + [("test", 1)] * 2 + [("validation", 0)] * 3
    )


def test_more_shots_than_images_are_refused():
    with pytest.raises(NfbenchError, match=r"/images/train/0: 9 shots, but there are 8 normal training images"):
        draw(entries(8, 2, 4), "shots9", 0)


def test_hazelnut_has_too_few_anomalies_for_a_fifth():
    """391 normal images and 70 anomalies, as in MVTec AD: 0.1 takes 39 of them, 0.2 would take 78."""
    found = entries(391, 40, 70)
    assert len(draw(found, "contamination0.1-of-0.1", 0).added) == 39
    with pytest.raises(NfbenchError, match=r"contamination 0\.2 of 391 .* takes 78 anomalies, but only 52 of 70"):
        draw(found, "contamination0.1-of-0.2", 0)
