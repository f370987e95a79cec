"""MVTec AD 2: its splits, private images without labels, and official counts."""

import dataclasses
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from nfbench.config import DatasetConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, FaultyCategory
from nfbench.datasets._check import check_dataset
from nfbench.datasets._manifest import (
    build_manifest,
    read_manifest,
    select_subset,
    view_entries,
    write_manifest,
)
from nfbench.datasets._sources import find_source
from nfbench.datasets.mvtec_ad_2 import DATASET
from tests.in_process import run_nfbench

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("ad2") / "mvtec_ad_2"
    DATASET.miniature(folder)
    return folder


@pytest.fixture
def root(made, tmp_path) -> Path:
    """A copy of two categories that a test may damage."""
    for name in ("can", "vial"):
        shutil.copytree(made / name, tmp_path / "copy" / name)
    return tmp_path / "copy"


def test_each_folder_is_in_its_split(made):
    found = DATASET.samples(made, "sheet_metal")
    assert Counter((sample.split, sample.defect, sample.image.parent.name) for sample in found) == {
        ("train", "good", "good"): 8,
        ("validation", "good", "good"): 2,
        ("test", "good", "good"): 4,
        ("test", "bad", "bad"): 12,
        ("unlabelled", "test_private", "test_private"): 3,
        ("unlabelled", "test_private_mixed", "test_private_mixed"): 3,
    }
    masks = {sample.image.name: sample.mask for sample in found if sample.anomalous}
    assert masks["002_overexposed.png"] == made / "sheet_metal/test_public/ground_truth/bad/002_overexposed_mask.png"
    assert sum(sample.mask is not None for sample in found) == sum(sample.anomalous for sample in found) == 12


def test_grey_and_wide_images_of_the_miniature(made):
    assert Image.open(made / "sheet_metal/train/good/000_regular.png").mode == "L"
    assert Image.open(made / "can/train/good/000_regular.png").mode == "RGB"
    width, height = Image.open(made / "sheet_metal/test_private/000_regular.png").size
    assert width == 4 * height  # 4224 x 1056


def test_unlabelled_images_are_hashed_but_in_no_view(made, tmp_path):
    entries = build_manifest(DATASET.samples(made, "can"))
    private = [entry for entry in entries if entry.split == "unlabelled"]
    assert [entry.label for entry in private] == [-1] * 6
    assert all(len(entry.sha256) == 64 and not entry.mask for entry in private)
    assert [len(view_entries(entries, view)) for view in ("train", "test")] == [10, 16]
    assert not any(entry in view_entries(entries, view) for view in ("train", "test") for entry in private)
    write_manifest(tmp_path / "m.csv", entries)
    assert read_manifest(tmp_path / "m.csv") == entries


def test_a_subset_keeps_all_unlabelled_images(made):
    config = DatasetConfig(dataset="mvtec_ad_2", max_train=1, max_test_normal=1, max_test_anomalous=1)
    found = select_subset(DATASET.samples(made, "can"), config)
    assert Counter(sample.split for sample in found) == {"train": 1, "validation": 2, "test": 2, "unlabelled": 6}


def test_categories_without_private_images_can_be_read(root):
    for name in ("test_private", "test_private_mixed"):
        shutil.rmtree(root / "can" / name)
    assert Counter(sample.split for sample in DATASET.samples(root, "can")) == {"train": 8, "validation": 2, "test": 16}
    report = check_dataset(DATASET, root)
    assert report.sound
    assert report.facts["can, test_private"] == (0, None)
    assert report.facts["vial, test_private"] == (3, None)
    assert (report.categories["can"].unlabelled, report.categories["vial"].unlabelled) == (0, 6)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda can: (can / "test_public/ground_truth/bad/001_regular_mask.png").unlink(),
            "001_regular.png .* no mask",
        ),
        (lambda can: shutil.rmtree(can / "validation"), "validation/good is missing"),
        (lambda can: (can / "train/good").rename(can / "train/Good"), "train/good is missing; rename 'Good'"),
        (lambda can: [path.unlink() for path in (can / "test_private").iterdir()], "test_private has no image"),
        (
            lambda can: shutil.copy(
                can / "test_public/ground_truth/bad/001_regular_mask.png",
                can / "test_public/ground_truth/bad/001_regular.png",
            ),
            "one image has two masks",
        ),
    ],
)
def test_faults_are_named(root, damage, message):
    damage(root / "can")
    with pytest.raises(FaultyCategory, match=message):
        DATASET.samples(root, "can")
    assert DATASET.samples(root, "vial")


def test_mvtec_ad_is_not_taken_for_its_successor(tmp_path):
    (tmp_path / "bottle/train/good").mkdir(parents=True)
    with pytest.raises(NfbenchError, match=r"no category of MVTec AD 2, only no <category>/test_public"):
        DATASET.available(tmp_path)


def test_official_counts_add_up_to_the_images_of_the_paper():
    source = find_source("mvtec_ad_2")
    train, normal, anomalous = map(sum, zip(*source.counts.values(), strict=True))
    assert (train, normal, anomalous) == (2528, 379, 705)
    other = {
        name: sum(n for key, n in source.facts.items() if key.endswith(f", {name}"))
        for name in ("validation", "test_private", "test_private_mixed")
    }
    assert other == {"validation": 302, "test_private": 2045, "test_private_mixed": 2045}
    assert train + normal + anomalous + sum(other.values()) == 8004
    scenes = {name: counts.test_anomalous // 15 for name, counts in source.counts.items()}
    assert scenes == {**dict.fromkeys(DATASET.categories, 6), "fruit_jelly": 4, "vial": 7}


def test_check_prints_official_and_found_numbers(root):
    printed = run_nfbench(root.parent, "data", "check", "mvtec_ad_2", "--root", "copy")
    assert "published: 412 for training, 72 normal and 90 anomalous for testing" in printed
    assert "  6 test images without labels" in printed
    assert "can, validation: 2; published: 46" in printed
    assert "vial, test_private_mixed: 3; published: 276" in printed
    assert "missing: fabric, fruit_jelly, rice, sheet_metal, wallplugs, walnuts" in printed


def test_only_test_images_count_as_normal_or_anomalous(made):
    found = check_dataset(DATASET, made).categories["rice"]
    assert found.counts == Counts(8, 4, 12)
    assert (found.validation, found.unlabelled, found.masks) == (2, 6, 12)
    private = next(sample for sample in DATASET.samples(made, "rice") if sample.split == "unlabelled")
    assert not private.anomalous
    assert dataclasses.replace(private, split="test").anomalous
