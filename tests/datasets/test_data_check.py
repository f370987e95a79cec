"""'nfbench data check' reports all faults, counts and ignored files of every reader, and writes nothing."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin_names
from nfbench.datasets import synthetic
from nfbench.datasets._base import PACKAGE, FaultyCategory, find_dataset
from nfbench.datasets._check import check_dataset
from nfbench.datasets._manifest import build_manifest
from nfbench.plan.listing import digest, list_files, token
from nfbench.plan.specs import PrepareSpec
from nfbench.stages.prepare import prepare_data
from tests.in_process import run_nfbench

pytestmark = pytest.mark.slow

MINIATURES = [name for name in plugin_names(PACKAGE) if find_dataset(name).has_miniature]
HIDDEN = (".ipynb_checkpoints", "@eaDir", "__MACOSX")


def check(root, name="folder"):
    return check_dataset(find_dataset(name), root)


def add_hidden(root: Path) -> None:
    """What macOS, Jupyter, a NAS and an unpacker leave next to files and folders."""
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        files = [path for path in folder.iterdir() if path.is_file()]
        for path in files[:3]:
            (folder / f"._{path.name}").write_bytes(b"\0\5\x16\7")
        for name in HIDDEN:
            (folder / name).mkdir()
            for path in files[:2]:
                shutil.copy(path, folder / name)
        (folder / "Thumbs.db").touch()


@pytest.mark.parametrize("name", MINIATURES)
def test_hidden_files_and_folders_are_not_there(name, tmp_path):
    reader = find_dataset(name)
    reader.miniature(tmp_path / "root")
    root = tmp_path / "root"
    category = reader.available(root)[-1]
    before = reader.available(root), reader.samples(root, category), reader.files(root, category)
    add_hidden(root / category if (root / category).is_dir() else root)
    for hidden in HIDDEN:
        (root / hidden).mkdir(exist_ok=True)
    assert (reader.available(root), reader.samples(root, category), reader.files(root, category)) == before


def test_hidden_categories_are_none(image_folder):
    for name in HIDDEN:
        shutil.copytree(image_folder / "part", image_folder / name)
    assert find_dataset("folder").available(image_folder) == ["part"]
    assert check(image_folder).left_out == []


@pytest.mark.parametrize("name", [*MINIATURES, "synthetic"])
def test_nothing_is_written_below_the_data(name, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic, "N_TRAIN", 2)
    monkeypatch.setattr(synthetic, "N_TEST_NORMAL", 1)
    monkeypatch.setattr(synthetic, "N_TEST_PER_DEFECT", 1)
    reader, root = find_dataset(name), tmp_path / "root"
    reader.miniature(root) if reader.has_miniature else root.mkdir()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    report = check_dataset(reader, root, stride=25 if name == "shanghaitech" else 1)
    assert report.sound
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_all_faults_are_listed_and_what_is_there_is_counted(image_folder):
    part = image_folder / "part"
    (part / "ground_truth/dent/000_mask.png").unlink()
    (part / "ground_truth/dent/001_mask.png").write_bytes(b"no image")
    Image.new("L", (7, 9), 255).save(part / "ground_truth/dent/002_mask.png")
    (part / "train/good/000.png").write_bytes(b"")
    Image.fromarray(np.full((40, 48), 2, np.float32)).save(part / "train/good/007.tif")
    (part / "train/good/008.png").symlink_to("nowhere.png")
    (part / "test/empty").mkdir()
    found = check(image_folder).categories["part"]
    assert found.counts == (8, 3, 3)
    assert found.masks == 2
    for name in ("dent/000", "001_mask", "002_mask", "000.png", "007.tif", "008.png", "test/empty"):
        assert sum(name in line for line in found.broken) >= 1, name
    assert len(found.broken) == 7
    with pytest.raises(
        NfbenchError, match=r"001.jpg|000.jpg .* \(and 1 more faults; 'nfbench data check' lists them\)"
    ):
        find_dataset("folder").samples(image_folder, "part")


def test_modes_values_and_defects_are_stated(image_folder):
    part = image_folder / "part"
    Image.fromarray(np.full((40, 48), 9, np.uint8)).save(part / "train/good/grey.png")
    soft = np.zeros((40, 48), np.uint8)
    soft[:2] = np.arange(48)
    Image.fromarray(soft).save(part / "ground_truth/dent/001_mask.png")
    Image.new("L", (48, 40), 255).save(part / "ground_truth/dent/002_mask.png")
    found = check(image_folder).categories["part"].pixels
    assert found.modes == {"RGB": 6, "RGB, lossy": 6, "L": 1}
    assert found.values[0] == 1
    assert found.mask_modes == {"L": 3}
    assert found.mask_values == [1, 48]
    assert found.defective == pytest.approx([35 / 1920, (35 / 1920 + 94 / 1920 + 1) / 3, 1])
    assert [Path(path).name for path in found.full_masks] == ["002_mask.png"]
    assert [Path(path).name for path in found.shaded_masks] == ["001_mask.png"]
    printed = run_nfbench(image_folder.parent, "data", "check", "folder", "--root", "own")
    assert "1 L and" in printed
    assert "1 to 48 values; 35.6 % defective (1.82 to 100 %)" in printed


def test_what_is_left_out_is_named(image_folder):
    part = image_folder / "part"
    for path in ("train/good/a.gif", "train/good/b.gif", "train/good/more/c.png", "train/Good/d.png", "notes.txt"):
        (part / path).parent.mkdir(exist_ok=True)
        (part / path).touch()
    (part / "ground_truth/dent/009_mask.png").touch()
    (image_folder / "other/deep/er").mkdir(parents=True)
    (image_folder / "other/deep/er/e.png").touch()
    left_out = check(image_folder).left_out
    assert sorted(left_out) == [
        "other: 1 file (deep/er/e.png)",
        "part/ground_truth/dent: 1 file (009_mask.png)",
        "part/train/Good: 1 file (d.png)",
        "part/train/good/more: 1 file (c.png)",
        "part/train/good: 2 files (a.gif, b.gif)",
        "part: 1 file (notes.txt)",
    ]
    assert "left out: part/train/Good: 1 file (d.png)" in run_nfbench(
        image_folder.parent, "data", "check", "folder", "--root", "own"
    )


def test_folders_that_differ_in_capitals_are_named(image_folder):
    shutil.copytree(image_folder / "part/test/good", image_folder / "part/test/Good")
    with pytest.raises(FaultyCategory, match="test/Good is not a defect type; rename it to 'good'"):
        find_dataset("folder").samples(image_folder, "part")
    (image_folder / "part/train/good").rename(image_folder / "part/train/GOOD")
    with pytest.raises(NfbenchError, match=r"has no category: .* rename .*train/GOOD to 'good'"):
        find_dataset("folder").available(image_folder)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("btad", ["01/train/ok/0000.bmp", "01/ground_truth/ko/0001.png", "03/test/ok/0001.bmp"]),
        ("mvtec_3d", ["bagel/train/good/rgb/000.png", "rope/test/hole/gt/001.png", "rope/test/good/rgb/001.png"]),
        ("visa", ["candle/Data/Images/Normal/0000.JPG", "pcb1/Data/Masks/Anomaly/001.png"]),
        ("kolektor_sdd2", ["train/10000.png", "train/10001_GT.png", "test/20000_GT.png"]),
        (
            "lgg_mri",
            [f"kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_{end}.tif" for end in ("1", "2_mask", "6_mask")],
        ),
        ("shanghaitech", ["training/videos/01_001.avi", "testing/test_frame_mask/02_0014.npy"]),
        (
            "mvtec_ad_2",
            [
                "can/train/good/000_regular.png",
                "rice/test_public/ground_truth/bad/001_overexposed_mask.png",
                "vial/test_private/002_regular.png",
                "walnuts/validation/good/001_regular.png",
            ],
        ),
        (
            "mvtec_loco",
            [
                "pushpins/train/good/000.png",
                "screw_bag/ground_truth/logical_anomalies/003/001.png",
                "juice_bottle/defects_config.json",
                "juice_bottle/test/structural_anomalies/001.png",
            ],
        ),
        ("mpdd", ["tubes/train/good/000.png", "tubes/ground_truth/anomalous/003_mask.png"]),
    ],
)
def test_every_reader_lists_all_that_is_broken(name, broken, tmp_path):
    find_dataset(name).miniature(tmp_path)
    for path in broken:
        (tmp_path / path).write_bytes(b"GIF89a")
    report = check_dataset(find_dataset(name), tmp_path, stride=25 if name == "shanghaitech" else 1)
    lines = [line for found in report.categories.values() for line in found.broken]
    for path in broken:
        assert any(path in line for line in lines), path
    assert any(found.train for found in report.categories.values())


@pytest.mark.parametrize("name", MINIATURES)
def test_nothing_of_a_miniature_is_left_out_but_what_its_reader_says(name, tmp_path):
    find_dataset(name).miniature(tmp_path)
    said = {
        "mvtec_3d": ("xyz", "gt"),
        "kolektor_sdd2": ("train",),
        "lgg_mri": ("lgg-mri-segmentation", "kaggle_3m"),
        **dict.fromkeys((f"real_iad_noisy_{share}" for share in (10, 20, 40)), ("/NG/",)),  # on neither list
    }
    report = check_dataset(find_dataset(name), tmp_path, stride=25 if name == "shanghaitech" else 1)
    assert all(any(word in line for word in said.get(name, ())) for line in report.left_out), report.left_out


def test_a_name_that_is_not_utf8_is_named_by_check_and_manifest(image_folder):
    good = image_folder / "part/train/good"
    os.rename(good / "000.png", os.fsencode(good) + b"/\xb2\xe2.png")
    (line,) = check(image_folder).categories["part"].broken
    assert r"\udcb2\udce2.png: the file name is not UTF-8; rename it" in line
    with pytest.raises(NfbenchError, match="the file name is not UTF-8; rename it"):
        build_manifest(find_dataset("folder").samples(image_folder, "part"))


def test_a_note_whose_name_is_not_utf8_is_left_out(image_folder):
    (image_folder / "part" / os.fsdecode(b"m\xfcll.txt")).touch()
    report = check(image_folder)
    assert report.sound
    assert report.left_out == [r"part: 1 file (m\udcfcll.txt)"]


def test_a_category_whose_name_is_not_utf8_is_named(image_folder):
    os.rename(image_folder / "part", image_folder / os.fsdecode(b"p\xe4rt"))
    with pytest.raises(NfbenchError, match=r"p\\udce4rt: the name is not UTF-8; rename it"):
        check(image_folder)


def test_files_of_any_name_are_part_of_what_a_manifest_is_made_from(image_folder, tmp_path):
    """A note whose name is not UTF-8 is hashed and recorded; a folder behind a link is looked into."""
    note = image_folder / "part" / os.fsdecode(b"m\xfcll.txt")
    note.write_text("a note")
    (image_folder / "part/train/good").rename(tmp_path / "elsewhere")
    (image_folder / "part/train/good").symlink_to(tmp_path / "elsewhere")
    reader, manifest = find_dataset("folder"), tmp_path / "m/part.csv"
    places = list_files(reader.files(image_folder, "part"))
    spec = PrepareSpec(
        dataset={"dataset": "folder"}, root=str(image_folder), category="part", manifest=str(manifest),
        files=digest(places),
    )  # fmt: skip
    prepare_data(spec)
    record = manifest.with_suffix(".json")
    os.utime(note, (0, 0))
    assert token(record, list_files(reader.files(image_folder, "part"))) == spec.files
    (tmp_path / "elsewhere/new.png").touch()
    assert token(record, list_files(reader.files(image_folder, "part"))) != spec.files


def test_a_folder_of_normal_images_alone_is_sound(image_folder):
    shutil.rmtree(image_folder / "part/test")
    shutil.rmtree(image_folder / "part/ground_truth")
    shutil.copytree(image_folder / "part/train/good", image_folder / "part/validation/good")
    report = check(image_folder)
    assert report.sound
    found = report.categories["part"]
    assert (found.counts, found.validation) == ((6, 0, 0), 6)
    assert not report.left_out
    printed = run_nfbench(image_folder, "data", "check", "folder", "--root", ".")
    assert "6 for training, 0 normal and 0 anomalous for testing" in printed
    assert "6 normal images for validation" in printed
    image_folder.joinpath("part").rename(image_folder / "bottle")
    assert any("test is missing" in line for line in check(image_folder, "mvtec_ad").categories["bottle"].broken)
