"""Readers of the papers' datasets on miniatures in their exact layouts: splits, masks and faults."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import Counts, find_dataset
from nfbench.datasets._manifest import build_manifest, read_image, read_mask

pytestmark = pytest.mark.slow


@pytest.fixture
def root(request, tmp_path) -> Path:
    """A miniature of the dataset that the test names."""
    folder = tmp_path / request.param
    find_dataset(request.param).miniature(folder)
    return folder


def of(name):
    return pytest.mark.parametrize("root", [name], indirect=True)


def samples(name, root, category, stride=1):
    return find_dataset(name).sampled(root, category, stride)


def counted(found) -> Counts:
    return Counts(
        sum(s.split == "train" for s in found),
        sum(s.split == "test" and not s.anomalous for s in found),
        sum(s.anomalous for s in found),
    )


@of("visa")
def test_masks_of_visa_are_numbers_of_classes(root):
    masks = [s.mask for s in samples("visa", root, "candle") if s.anomalous]
    values = {int(np.asarray(Image.open(mask)).max()) for mask in masks}
    assert values == {1, 2, 3}
    assert all(read_mask(mask).any() for mask in masks)


@of("visa")
def test_split_of_visa_follows_its_csv(root):
    path = root / "split_csv/1cls.csv"
    text = path.read_text().replace("candle,test,normal", "candle,train,normal", 2)
    path.write_text(text)
    assert counted(samples("visa", root, "candle")) == Counts(10, 2, 12)
    assert counted(samples("visa", root, "pcb1")) == Counts(8, 4, 12)


@pytest.mark.parametrize("root", ["visa"], indirect=True)
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("object,split", "object,part", r"1cls.csv has columns \['object', 'part'"),
        ("candle,test,anomaly", "candle,train,anomaly", r"Anomaly/000.JPG is anomalous but in the split 'train'"),
        ("candle,test,normal", "candle,val,normal", r"has split 'val', label 'normal'"),
        (",candle/Data/Masks/Anomaly/000.png", ",", r"Anomaly/000.JPG is anomalous but has no mask"),
        ("candle,", "candles,", r"has no row for the object 'candle'"),
    ],
)
def test_split_of_visa_that_is_wrong_is_named(root, old, new, message):
    path = root / "split_csv/1cls.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(NfbenchError, match=message):
        samples("visa", root, "candle")


@of("visa")
def test_visa_without_split_is_named(root):
    (root / "split_csv/1cls.csv").unlink()
    with pytest.raises(NfbenchError, match=r"1cls.csv is missing; it is in VisA's archive"):
        samples("visa", root, "candle")


@of("btad")
def test_masks_of_btad_have_endings_of_their_own(root):
    found = {
        category: {(s.image.suffix, s.mask.suffix) for s in samples("btad", root, category) if s.mask}
        for category in ("01", "02", "03")
    }
    assert found == {"01": {(".bmp", ".png")}, "02": {(".png", ".png")}, "03": {(".bmp", ".bmp")}}
    assert {s.defect for s in samples("btad", root, "01")} == {"good", "ko"}


@of("btad")
def test_an_image_of_btad_with_two_masks_is_refused(root):
    mask = root / "01/ground_truth/ko/0001.png"
    shutil.copy(mask, mask.with_suffix(".bmp"))
    with pytest.raises(NfbenchError, match=r"one image has two masks: .*0001.bmp and .*0001.png"):
        samples("btad", root, "01")


@of("mvtec_3d")
def test_mvtec_3d_reads_colour_and_has_an_official_validation_split(root):
    found = samples("mvtec_3d", root, "rope")
    assert {s.image.parent.name for s in found} == {"rgb"}
    assert [s.split for s in found if "validation" in s.image.parts] == ["validation"] * 2
    assert sum(s.split == "validation" for s in found) == 2
    assert {(e.width, e.height) for e in build_manifest(found)} == {(90, 40)}


@of("mvtec_3d")
def test_missing_mask_of_mvtec_3d_is_named(root):
    (root / "tire/test/hole/gt/001.png").unlink()
    with pytest.raises(NfbenchError, match=r"hole/rgb/001.png is anomalous but has no mask; expected .*gt/001.png"):
        samples("mvtec_3d", root, "tire")


@of("mvtec_ad")
def test_grey_categories_of_mvtec_ad_become_rgb(root):
    image = root / "grid/train/good/000.png"
    assert Image.open(image).mode == "L"
    pixels = np.asarray(read_image(image))
    assert pixels.shape == (64, 64, 3)
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


@of("kolektor_sdd2")
def test_copies_and_defective_training_images_of_kolektor_are_left_out(root):
    found = samples("kolektor_sdd2", root, "all")
    assert not any("copy" in s.image.name or s.image.stem.endswith("_GT") for s in found)
    assert not any(read_mask(s.image.with_name(f"{s.image.stem}_GT.png")).any() for s in found if s.split == "train")
    assert len(list((root / "train").glob("*.png"))) == 2 * (8 + 2 + 1)


@of("lgg_mri")
def test_no_patient_of_lgg_mri_is_on_both_sides(root):
    found = samples("lgg_mri", root, "all")
    patients = {split: {s.image.parent.name for s in found if s.split == split} for split in ("train", "test")}
    assert not patients["train"] & patients["test"]
    assert len(patients["train"] | patients["test"]) == 7
    assert not any(read_mask(s.image.with_name(f"{s.image.stem}_mask.tif")).any() for s in found if s.split == "train")


@of("lgg_mri")
def test_split_of_lgg_mri_depends_on_names_alone(root, tmp_path):
    before = {s.image.name: s.split for s in samples("lgg_mri", root, "all")}
    shutil.move(root / "kaggle_3m", tmp_path / "elsewhere")
    assert {s.image.name: s.split for s in samples("lgg_mri", tmp_path / "elsewhere", "all")} == before


@of("lgg_mri")
def test_second_copy_of_lgg_mri_is_not_counted(root):
    assert len(list(root.rglob("*_mask.tif"))) == 2 * 42
    assert find_dataset("lgg_mri").facts(root) == {"patients": 7, "slices": 42, "slices with tumour": 14}


@of("shanghaitech")
def test_scenes_of_shanghaitech(root):
    reader = find_dataset("shanghaitech")
    assert tuple(reader.available(root)) == reader.categories
    trained = {
        category: {s.image.parent.name[:2] for s in samples("shanghaitech", root, category) if s.split == "train"}
        for category in ("all", "all13", "07")
    }
    assert trained["all13"] - trained["all"] == {"13"}
    assert len(trained["all"]) == 12
    assert trained["07"] == {"07"}
    for folder in ("testing/frames/02_0014", "testing/frames/05_0014"):
        shutil.rmtree(root / folder)
    (root / "training/videos/13_001.avi").unlink()
    assert reader.available(root) == ["all", "01", "03", "04", *(f"{number:02}" for number in range(6, 13))]


@of("shanghaitech")
def test_stride_of_shanghaitech_takes_the_same_frames(root):
    every = {s.image.name for s in samples("shanghaitech", root, "01") if s.split == "train"}
    third = samples("shanghaitech", root, "01", stride=3)
    assert [int(s.image.stem) for s in third if s.split == "train"] == list(range(0, 52, 3))
    assert {s.image.name for s in third if s.split == "train"} < every
    assert counted(third) == Counts(18, 9, 9)
    whole = root / "training/frames_every1/01_001/00000003.jpg"
    assert whole.read_bytes() == (root / "training/frames_every3/01_001/00000003.jpg").read_bytes()


@of("shanghaitech")
def test_frames_are_extracted_once_and_those_that_are_there_are_taken(root):
    first = samples("shanghaitech", root, "02")[0].image
    made = first.stat().st_mtime_ns
    assert samples("shanghaitech", root, "02")[0].image.stat().st_mtime_ns == made
    shutil.move(first.parent, root / "training/frames/02_001")
    shutil.rmtree(root / "training/videos")
    assert samples("shanghaitech", root, "02", stride=5)[1].image == root / "training/frames/02_001/00000005.jpg"


@of("shanghaitech")
def test_masks_of_shanghaitech_belong_to_their_frames(root):
    by_pixel = np.load(root / "testing/test_pixel_mask/01_0014.npy")
    anomalous = [s for s in samples("shanghaitech", root, "01") if s.anomalous]
    assert [int(s.image.stem) for s in anomalous] == [number for number in range(52) if number // 5 % 2]
    for sample in anomalous:
        assert np.array_equal(read_mask(sample.mask), by_pixel[int(sample.image.stem)] > 0)


@of("shanghaitech")
def test_frames_are_in_the_order_of_their_numbers(root):
    folder = root / "testing/frames/01_0014"
    for path in folder.iterdir():
        path.rename(folder / f"{int(path.stem) + 994}.jpg")
    numbers = [int(s.image.stem) for s in samples("shanghaitech", root, "01") if s.split == "test"]
    assert numbers == list(range(994, 1046))


@of("shanghaitech")
def test_videos_that_are_wrong_are_named(root):
    (root / "training/videos/02_001.avi").write_bytes(b"no video")
    with pytest.raises(NfbenchError, match=r"video .*02_001.avi cannot be decoded"):
        samples("shanghaitech", root, "02")
    assert not list((root / "training").glob("frames_every1/*02_001*"))
    (root / "testing/frames/01_0014/011.jpg").unlink()
    with pytest.raises(NfbenchError, match=r"test_frame_mask/01_0014.npy has shape \(52,\), expected .* 51 frames"):
        samples("shanghaitech", root, "01")


@of("shanghaitech")
def test_masks_are_never_unpickled(root):
    np.save(root / "testing/test_frame_mask/01_0014.npy", np.array([{}] * 52), allow_pickle=True)
    with pytest.raises(NfbenchError, match=r"01_0014.npy cannot be read as an array"):
        samples("shanghaitech", root, "01")


@of("mpdd")
def test_other_datasets_have_no_stride(root):
    with pytest.raises(NfbenchError, match="'MPDD' has no videos, so 'stride: 2' does not apply"):
        samples("mpdd", root, "tubes", stride=2)


@pytest.mark.parametrize(
    "name",
    ["visa", "btad", "mvtec_3d", "mvtec_ad_2", "mvtec_loco", "lgg_mri", "shanghaitech", "kolektor_sdd2", "mpdd"],
)
def test_data_that_is_not_there_says_how_to_get_it(name, tmp_path):
    with pytest.raises(NfbenchError, match=f"none does not exist; set 'data_root' .*'nfbench data fetch {name}'"):
        find_dataset(name).available(tmp_path / "none")
    with pytest.raises(NfbenchError, match=str(tmp_path)):
        find_dataset(name).available(tmp_path)


def test_rows_of_visa_sort_like_those_of_other_readers(tmp_path):
    find_dataset("visa").miniature(tmp_path)
    path = tmp_path / "split_csv/1cls.csv"
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *rows[:0:-1]])
    found = samples("visa", tmp_path, "fryum")
    assert [s.split for s in found] == ["train"] * 8 + ["test"] * 16
    assert [s.image.name for s in found[:8]] == [f"{number:04}.JPG" for number in range(8)]


@of("shanghaitech")
def test_frames_and_masks_of_shanghaitech_follow_their_files(root, tmp_path):
    """A replaced video or array is decoded again; outputs are in the folder that the caller names."""
    work, reader = tmp_path / "work", find_dataset("shanghaitech")
    before = set(root.rglob("*"))
    first = reader.sampled(root, "01", 25, work)
    assert all(sample.image.is_relative_to(work) for sample in first if sample.split == "train")
    assert set(root.rglob("*")) == before
    shutil.copy(root / "training/videos/02_001.avi", root / "training/videos/01_001.avi")
    masks = root / "testing/test_pixel_mask/01_0014.npy"
    np.save(masks, np.ones_like(np.load(masks)))
    hashes = [sample.image.read_bytes() for sample in first if sample.split == "train"]
    again = reader.sampled(root, "01", 25, work)
    assert again == first
    assert all(
        a != sample.image.read_bytes() for a, sample in zip(hashes, again, strict=False) if sample.split == "train"
    )
    assert all(read_mask(sample.mask).all() for sample in again if sample.mask)
    assert not list(work.rglob("*.old"))


@of("shanghaitech")
def test_a_list_of_files_is_no_video(root):
    (root / "training/videos/02_001.avi").write_text("ffconcat version 1.0\nfile '01_001.avi'\n")
    with pytest.raises(NfbenchError, match=r"02_001.avi cannot be decoded: it is not an AVI file"):
        samples("shanghaitech", root, "02")


@of("shanghaitech")
def test_arrays_that_are_damaged_are_named(root):
    path = root / "testing/test_pixel_mask/01_0014.npy"
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-1], b"PK" + whole, whole.replace(b"(52, 48, 64)", b"(52, 48, -4)")):
        path.write_bytes(content)
        with pytest.raises(NfbenchError, match=r"01_0014.npy cannot be read as an array"):
            samples("shanghaitech", root, "01")
