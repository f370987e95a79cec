"""Few real anomalies are chosen evenly, reproducibly, and never all of them."""

import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nfbench.anomalies import _selection as selection
from nfbench.anomalies._selection import choose_anomalies
from nfbench.core.errors import NfbenchError
from nfbench.core.provenance import file_sha256
from nfbench.datasets._manifest import Entry, build_manifest
from nfbench.datasets.mvtec_ad import DATASET


def entry(kind: str, number: int, mask: str = "mask.png") -> Entry:
    return Entry("test", int(kind != "good"), kind, f"/data/part/test/{kind}/{number:03}.png", mask, 8, 8, "0", "0")


def entries(*counts: int) -> list[Entry]:
    kinds = [entry(f"kind{kind}", number) for kind, count in enumerate(counts) for number in range(count)]
    return [*kinds, entry("good", 0, ""), replace(entry("good", 1, ""), split="train")]


@pytest.fixture
def all_marked(monkeypatch):
    monkeypatch.setattr(selection, "read_checked_mask", lambda entry: np.ones((8, 8), dtype=bool))


@pytest.mark.parametrize(
    ("counts", "count", "expected"),
    [
        ((20, 20), 10, [5, 5]),
        ((20, 20, 20), 10, [3, 3, 4]),
        ((20, 20, 20, 20), 10, [2, 2, 3, 3]),
        ((2, 20), 10, [2, 8]),
        ((1, 2, 20), 10, [1, 2, 7]),
        ((20, 20, 20), 2, [0, 1, 1]),
        ((3, 3), 5, [2, 3]),
    ],
)
@pytest.mark.usefixtures("all_marked")
def test_kinds_share_evenly(counts, count, expected):
    chosen = choose_anomalies(entries(*counts), count, 0)
    taken = Counter(entry.defect for entry in chosen)
    assert sorted(taken[f"kind{kind}"] for kind in range(len(counts))) == expected
    assert len(set(chosen)) == count


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 5), st.data())
def test_any_choice_is_a_fair_subset(counts, seed, data):
    known = entries(*counts)
    if sum(counts) == 1:
        return
    count = data.draw(st.integers(1, sum(counts) - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "read_checked_mask", lambda entry: np.ones((8, 8), dtype=bool))
        chosen = choose_anomalies(known, count, seed)
        assert choose_anomalies(random.Random(seed).sample(known, len(known)), count, seed) == chosen
    assert len(set(chosen)) == count
    assert all(entry.label and entry.split == "test" for entry in chosen)
    assert [entry.image for entry in chosen] == sorted(entry.image for entry in chosen)
    taken = Counter(entry.defect for entry in chosen)
    least = count // len(counts)
    assert all(taken[f"kind{kind}"] >= min(least, size) for kind, size in enumerate(counts))


@pytest.mark.usefixtures("all_marked")
def test_seeds_differ_in_images_and_in_the_kinds_of_the_remainder():
    known = entries(20, 20, 20)
    chosen = [choose_anomalies(known, 4, seed) for seed in range(20)]
    assert len({tuple(entry.image for entry in some) for some in chosen}) > 15
    assert len({Counter(entry.defect for entry in some).most_common(1)[0][0] for some in chosen}) == 3


@pytest.mark.usefixtures("all_marked")
def test_the_choice_does_not_depend_on_the_folder():
    known = entries(9, 9)
    moved = [replace(entry, image=entry.image.replace("/data", "/elsewhere")) for entry in known]
    names = [[Path(entry.image).name for entry in choose_anomalies(some, 6, 1)] for some in (known, moved)]
    assert names[0] == names[1]


@pytest.mark.parametrize(
    ("known", "count", "message"),
    [
        (entries(3, 3), 6, "/data/part/test: 6 real anomalies requested, 6 exist and at least 1 must stay"),
        (entries(3, 3), 7, "/data/part/test: 7 real anomalies requested, 6 exist"),
        (entries(3), 0, "request at least 1"),
        ([*entries(3), entry("bare", 7, "")], 2, r"1 of 4 anomalous images have no mask, .*/bare/007.png first"),
        ([], 1, "0 exist"),
    ],
)
@pytest.mark.usefixtures("all_marked")
def test_wrong_wishes_are_refused(known, count, message):
    with pytest.raises(NfbenchError, match=message):
        choose_anomalies(known, count, 0)


def test_images_whose_mask_is_empty_are_never_taken(part_root, part):
    known = [entry for entry in part if entry.label]
    empty = part_root / "empty_mask.png"
    Image.fromarray(np.zeros((80, 96), dtype=np.uint8)).save(empty)
    known[0] = replace(known[0], mask=str(empty), mask_sha256=file_sha256(empty))
    for seed in range(10):
        assert known[0] not in choose_anomalies(known, 5, seed)
    assert choose_anomalies(known, 6, 0) == sorted(known[1:], key=lambda entry: entry.image)
    known[1] = replace(known[1], mask=str(empty), mask_sha256=file_sha256(empty))
    with pytest.raises(NfbenchError, match="6 real anomalies requested, 5 of 7 have a mask that marks a pixel"):
        choose_anomalies(known, 6, 0)


@pytest.mark.parametrize(("category", "kinds"), [("bottle", 3), ("transistor", 4)])
def test_ten_of_a_real_category(mvtec_root, category, kinds):
    known = build_manifest(DATASET.samples(mvtec_root, category))
    taken = Counter(entry.defect for entry in choose_anomalies(known, 10, 0))
    assert len(taken) == kinds
    assert set(taken.values()) == {10 // kinds, 10 // kinds + 1}
