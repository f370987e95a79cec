"""Reading datasets: counts, masks by stem, and errors that name the file."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nfbench.config import DatasetConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Sample, find_dataset
from nfbench.datasets._manifest import (
    build_manifest,
    read_checked_image,
    read_checked_mask,
    read_image,
    read_manifest,
    read_mask,
    select_subset,
    view_entries,
    write_manifest,
)
from nfbench.datasets.mvtec_ad import DATASET

FOLDER = find_dataset("folder")


def manifest(root: Path, category: str = "part"):
    return build_manifest(FOLDER.samples(root, category))


def test_mixed_endings_are_read(image_folder):
    entries = manifest(image_folder)
    assert [entry.split for entry in entries].count("train") == 6
    assert [entry.label for entry in entries].count(1) == 3
    assert {(entry.width, entry.height) for entry in entries} == {(48, 40)}
    assert all(bool(entry.mask) == bool(entry.label) for entry in entries)
    assert all(len(entry.sha256) == 64 for entry in entries)


def test_mask_is_all_that_is_not_zero(image_folder):
    mask = read_mask(image_folder / "part/ground_truth/dent/000_mask.png")
    assert mask.dtype == bool
    assert mask.sum() == 5 * 7


def test_manifest_survives_writing(image_folder, tmp_path):
    entries = manifest(image_folder)
    write_manifest(tmp_path / "m.csv", entries)
    assert read_manifest(tmp_path / "m.csv") == entries


def test_grey_and_palette_images_become_rgb(tmp_path):
    for mode in ("L", "P", "RGBA", "1"):
        Image.new(mode, (4, 4)).save(tmp_path / f"{mode}.png")
        assert read_image(tmp_path / f"{mode}.png").mode == "RGB"


def test_truncated_image_is_named(image_folder):
    path = image_folder / "part/train/good/000.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(NfbenchError, match=r"good/000.png cannot be decoded"):
        manifest(image_folder)


def test_file_that_is_no_image_is_named(image_folder):
    (image_folder / "part/test/good/000.png").write_text("no image")
    with pytest.raises(NfbenchError, match=r"test/good/000.png cannot be decoded"):
        manifest(image_folder)


def test_missing_mask_is_named(image_folder):
    (image_folder / "part/ground_truth/dent/001_mask.png").unlink()
    with pytest.raises(NfbenchError, match=r"dent/001.jpg is anomalous but has no mask; expected .*001_mask.png"):
        manifest(image_folder)


def test_mask_belongs_to_the_whole_stem(image_folder):
    """A mask of image 0011 does not match image 001."""
    masks = image_folder / "part/ground_truth/dent"
    (masks / "001_mask.png").rename(masks / "0011_mask.png")
    with pytest.raises(NfbenchError, match=r"dent/001.jpg is anomalous but has no mask"):
        manifest(image_folder)


def test_mask_of_another_size_is_named(image_folder):
    Image.new("L", (20, 40), 255).save(image_folder / "part/ground_truth/dent/002_mask.png")
    with pytest.raises(NfbenchError, match=r"002_mask.png is 20 x 40 pixels, its image .*002.jpg is 48 x 40"):
        manifest(image_folder)


def test_folder_without_ground_truth_has_no_masks(image_folder):
    for path in (image_folder / "part/ground_truth/dent").iterdir():
        path.unlink()
    (image_folder / "part/ground_truth/dent").rmdir()
    (image_folder / "part/ground_truth").rmdir()
    assert not any(entry.mask for entry in manifest(image_folder))
    with pytest.raises(NfbenchError, match="has no mask"):
        DATASET.samples(image_folder, "part")


@pytest.mark.parametrize("split", ["train/good", "test/good"])
def test_empty_split_is_named(image_folder, split):
    for path in (image_folder / "part" / split).iterdir():
        path.unlink()
    with pytest.raises(NfbenchError, match=f"{split} has no image"):
        manifest(image_folder)


def test_missing_root_is_named(tmp_path):
    with pytest.raises(NfbenchError, match=r"folder .*/none does not exist; set 'data_root'"):
        FOLDER.available(tmp_path / "none")


def test_root_without_categories_is_named(tmp_path):
    with pytest.raises(NfbenchError, match="has no category"):
        FOLDER.available(tmp_path)


def test_manifest_needs_both_splits(tmp_path):
    with pytest.raises(NfbenchError, match="the split 'train' is empty"):
        build_manifest([Sample("test", "good", tmp_path / "a.png")])


@pytest.mark.parametrize("kept", [(), ("good",), ("dent",)])
def test_normal_images_are_enough_for_a_folder(image_folder, kept):
    for folder in (image_folder / "part/test").iterdir():
        if folder.name not in kept:
            shutil.rmtree(folder)
    if not kept:
        (image_folder / "part/test").rmdir()
    entries = build_manifest(FOLDER.samples(image_folder, "part"), FOLDER.splits)
    assert {entry.defect for entry in entries if entry.split == "test"} == set(kept)
    assert sum(entry.split == "train" for entry in entries) == 6
    with pytest.raises(NfbenchError, match=r"folder .*test (needs both 'good' images|is missing)"):
        DATASET.samples(image_folder, "part")
    with pytest.raises(NfbenchError, match="the split 'test' is empty"):
        build_manifest([sample for sample in FOLDER.samples(image_folder, "part") if sample.split == "train"])


@pytest.mark.parametrize("reader", [FOLDER, DATASET])
def test_validation_images_are_a_split_of_their_own(image_folder, reader):
    before = reader.samples(image_folder, "part")
    shutil.copytree(image_folder / "part/train/good", image_folder / "part/validation/good")
    shutil.copytree(image_folder / "part/train/good", image_folder / "part/validation/scratch")  # is not read
    samples = reader.samples(image_folder, "part")
    assert [sample for sample in samples if sample.split != "validation"] == before
    found = select_subset(samples, DatasetConfig(max_train=2, max_test_normal=1, max_test_anomalous=1))
    counts = Counter(sample.split for sample in found)
    assert counts == {"train": 2, "validation": 6, "test": 2}
    entries = build_manifest([*found[2:], *found[:2]])
    assert [entry.split for entry in view_entries(entries, "train")] == ["train"] * 2 + ["validation"] * 6
    assert [entry.split for entry in view_entries(entries, "test")] == ["test"] * 2


def test_misspelled_and_empty_folders_of_validation_images_are_named(image_folder):
    (image_folder / "part/validation/Good").mkdir(parents=True)
    with pytest.raises(NfbenchError, match=r"validation/Good is not read; rename it to 'good'"):
        FOLDER.samples(image_folder, "part")
    (image_folder / "part/validation/Good").rename(image_folder / "part/validation/good")
    with pytest.raises(NfbenchError, match=r"validation/good has no image"):
        FOLDER.samples(image_folder, "part")


def test_manifest_with_other_columns_is_refused(tmp_path):
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    with pytest.raises(NfbenchError, match=r"m.csv has columns \['a', 'b'\]"):
        read_manifest(tmp_path / "m.csv")


def test_subset_is_of_the_stated_size_and_always_the_same(image_folder):
    samples = FOLDER.samples(image_folder, "part")
    config = DatasetConfig(max_train=4, max_test_normal=2, max_test_anomalous=1)
    chosen = select_subset(samples, config)
    assert [sample.split for sample in chosen] == ["train"] * 4 + ["test"] * 3
    assert chosen == select_subset(samples[::-1], config)
    assert select_subset(samples, DatasetConfig()) == sorted(samples, key=lambda s: (s.split == "test", s.anomalous))


def test_mvtec_ad_lists_only_official_categories(image_folder):
    mvtec = find_dataset("mvtec_ad")
    with pytest.raises(NfbenchError, match="has no category of MVTec AD, only part"):
        mvtec.available(image_folder)
    (image_folder / "part").rename(image_folder / "screw")
    assert mvtec.available(image_folder) == ["screw"]


def test_mvtec_ad_on_real_images(mvtec_root):
    mvtec = find_dataset("mvtec_ad")
    assert {"bottle", "transistor"} <= set(mvtec.available(mvtec_root))
    samples = mvtec.samples(mvtec_root, "bottle")
    assert [sample.split for sample in samples].count("train") == 209
    assert sum(sample.anomalous for sample in samples) == 63
    assert all(sample.mask is not None for sample in samples if sample.anomalous)


@pytest.mark.parametrize(("category", "counts"), [("mono", (412, 176, 313)), ("poly", (644, 276, 402))])
def test_elpv_from_its_package(category, counts):
    pytest.importorskip("elpv_dataset", reason="elpv-dataset is not installed")
    samples = find_dataset("elpv").samples(Path("nowhere"), category)
    train = sum(sample.split == "train" for sample in samples)
    anomalous = sum(sample.anomalous for sample in samples)
    assert (train, len(samples) - train - anomalous, anomalous) == counts
    assert len({sample.image for sample in samples}) == len(samples)


def test_unknown_dataset_names_the_nearest():
    with pytest.raises(NfbenchError, match=r"unknown dataset 'mvtec'; did you mean 'mvtec_ad'\?"):
        find_dataset("mvtec")


def test_image_that_changes_hash_is_seen(image_folder):
    before = manifest(image_folder)
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(image_folder / "part/train/good/000.png")
    after = manifest(image_folder)
    assert [b.sha256 != a.sha256 for b, a in zip(before, after, strict=True)].count(True) == 1


def test_every_read_is_held_to_the_hash_in_the_manifest(image_folder):
    entry = next(entry for entry in manifest(image_folder) if entry.mask)
    assert read_checked_mask(entry).sum() == read_mask(entry.mask).sum()
    assert read_checked_image(entry).size == (48, 40)
    Image.new("L", (7, 9), 255).save(entry.mask)
    with pytest.raises(NfbenchError, match=r"mask .*000_mask.png has changed since the manifest was written"):
        read_checked_mask(entry)
    Path(entry.image).write_bytes(b"no image")
    with pytest.raises(NfbenchError, match=r"image .*000.jpg has changed since the manifest was written"):
        read_checked_image(entry)


def test_masks_of_many_values_are_named_once(image_folder, caplog):
    soft = np.arange(40 * 48, dtype=np.uint8).reshape(40, 48)
    for number in range(3):
        Image.fromarray(soft).save(image_folder / f"part/ground_truth/dent/{number:03}_mask.png")
    manifest(image_folder)
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("3 masks, such as")
    assert "000_mask.png, have more than 32 distinct values" in line
