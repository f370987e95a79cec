"""Images that judge trials: a validation split has a share of each kind, the same for all, and never all images."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.config import SearchConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import Entry
from nfbench.search.split import judging_images, validation_split


def entries(folder="a", **kinds):
    return [
        Entry("test", int(kind != "good"), kind, f"/{folder}/{kind}/{number:03}.png", "", 8, 8, "", "")
        for kind, count in kinds.items()
        for number in range(count)
    ]


def test_a_share_of_each_kind():
    split = validation_split(entries(good=20, scratch=10, dent=1, hole=3), 0.3)
    assert Counter(entry.defect for entry in split) == {"good": 6, "scratch": 3, "hole": 1}


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 30), st.integers(2, 30), st.floats(0.01, 0.99))
def test_images_are_left_of_every_kind(n_good, n_bad, share):
    split = validation_split(entries(good=n_good, bad=n_bad), share)
    counts = Counter(entry.defect for entry in split)
    assert 1 <= counts["good"] < n_good
    assert 1 <= counts["bad"] < n_bad


def test_a_search_takes_no_scores_that_are_relative_to_the_test_set():
    with pytest.raises(ValueError, match="cannot be transductive; use 'pixel_auroc'"):
        SearchConfig(backbones=["alexnet"], objective="test", metric="pixel_auroc_transductive")


def test_the_choice_follows_from_names_alone():
    found = entries(good=20, bad=20)
    names = [entry.image.split("/", 2)[2] for entry in validation_split(found, 0.3)]
    elsewhere = validation_split(entries("b/c", good=20, bad=20), 0.3)
    assert sorted(names) == sorted(entry.image.split("/", 3)[3] for entry in elsewhere)
    assert set(map(id, validation_split(found[::-1], 0.3))) == set(map(id, validation_split(found, 0.3)))
    assert names != [entry.image.split("/", 2)[2] for entry in found[:6] + found[20:26]]


def test_training_images_are_never_taken():
    train = [Entry("train", 0, "good", f"/t/{n}.png", "", 8, 8, "", "") for n in range(9)]
    assert all(entry.split == "test" for entry in validation_split([*train, *entries(good=4, bad=4)], 0.5))


@pytest.mark.parametrize("kinds", [{"good": 1, "bad": 5}, {"good": 5, "bad": 1, "worse": 1}, {"good": 9}])
def test_a_split_without_both_labels_is_refused(kinds):
    with pytest.raises(NfbenchError, match="at least two normal images and two anomalous images"):
        validation_split(entries(**kinds), 0.5)


@pytest.mark.parametrize(
    ("objective", "metric", "count"),
    [("log_likelihood", "pixel_auroc", 0), ("test", "image_auroc", 8), ("validation", "image_ap", 4)],
)
def test_images_that_trials_are_judged_by(objective, metric, count):
    backbones = [{"name": "wide_resnet50_2"}]
    search = SearchConfig(backbones=backbones, objective=objective, metric=metric, validation_share=0.5)
    assert len(judging_images(entries(good=4, bad=4), search)) == count


@pytest.mark.parametrize("objective", ["test", "validation"])
def test_a_pixel_metric_without_masks_is_refused(objective):
    search = SearchConfig(backbones=[{"name": "wide_resnet50_2"}], objective=objective, metric="pixel_aupro")
    with pytest.raises(NfbenchError, match="metric 'pixel_aupro' of a search: the dataset has no masks"):
        judging_images(entries(good=4, bad=4), search)
