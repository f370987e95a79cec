"""MVTec LOCO: several masks an image, their kinds, and official counts."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import FaultyCategory
from nfbench.datasets._channels import open_mask, read_channels, read_defects
from nfbench.datasets._check import check_dataset
from nfbench.datasets._manifest import build_manifest, read_checked_mask
from nfbench.datasets._sources import find_source
from nfbench.datasets.mvtec_loco import DATASET


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("loco") / "mvtec_loco"
    DATASET.miniature(folder)
    return folder


@pytest.fixture
def root(made, tmp_path) -> Path:
    """A copy of one category that a test may damage."""
    shutil.copytree(made / "pushpins", tmp_path / "pushpins")
    return tmp_path


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.astype(np.uint8)).save(path)


def test_each_folder_is_in_its_split(made):
    found = DATASET.samples(made, "screw_bag")
    assert Counter((sample.split, sample.defect) for sample in found) == {
        ("train", "good"): 8,
        ("validation", "good"): 2,
        ("test", "good"): 4,
        ("test", "logical_anomalies"): 6,
        ("test", "structural_anomalies"): 6,
    }
    masks = {sample.mask.relative_to(made).as_posix() for sample in found if sample.mask}
    assert "screw_bag/ground_truth/logical_anomalies/005" in masks
    assert len(masks) == 12


def test_a_mask_is_the_union_of_its_channels(tmp_path):
    first, second = np.zeros((5, 7)), np.zeros((5, 7))
    first[1:3, 1:4], second[2:5, 3:6] = 255, 254  # they share one pixel
    save(tmp_path / "000/000.png", first)
    save(tmp_path / "000/001.png", second)
    stored = open_mask(tmp_path / "000")
    assert stored.mask.sum() == 6 + 9 - 1
    assert (stored.mask == ((first > 0) | (second > 0))).all()
    (value, mask), (other, other_mask) = read_channels(tmp_path / "000")
    assert (value, int(mask.sum()), other, int(other_mask.sum())) == (255, 6, 254, 9)


def test_a_mask_of_one_file_is_one_channel(tmp_path):
    save(tmp_path / "a.png", np.eye(4) * 7)
    ((value, mask),) = read_channels(tmp_path / "a.png")
    assert value == 7
    assert (mask == np.eye(4, dtype=bool)).all()


@pytest.mark.parametrize("change", ["content", "added", "removed", "renamed"])
def test_any_change_of_a_channel_is_seen(root, change):
    samples = [sample for sample in DATASET.samples(root, "pushpins") if sample.defect == "logical_anomalies"]
    (entry,) = build_manifest(samples[:1], splits=())
    union = read_checked_mask(entry)
    assert union.sum() == np.logical_or(*(channel.mask for channel in read_channels(entry.mask))).sum()
    folder = Path(entry.mask)
    if change == "content":
        save(folder / "001.png", np.full(union.shape, 254))
    elif change == "added":
        shutil.copy(folder / "000.png", folder / "002.png")
    elif change == "removed":
        (folder / "001.png").unlink()
    else:
        (folder / "001.png").rename(folder / "007.png")
    with pytest.raises(NfbenchError, match="logical_anomalies/000 has changed since the manifest was written"):
        read_checked_mask(entry)


def test_the_kinds_of_defects_are_read_for_spro(made):
    kinds = read_defects(made / "pushpins/defects_config.json")
    assert {value: (kind.saturation_threshold, kind.relative_saturation) for value, kind in kinds.items()} == {
        255: (60, False),
        254: (0.58, True),
        253: (1.0, True),
    }
    for sample in DATASET.samples(made, "pushpins"):
        if sample.mask:
            assert {channel.value for channel in read_channels(sample.mask)} <= kinds.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "defects_config.json: "),
        ("[1]", "defects_config.json, 0: "),
        ('[{"defect_name": "a", "pixel_value": 0, "saturation_threshold": 1, "relative_saturation": false}]',
         "0.pixel_value: .*greater than or equal to 1"),
        ('[{"defect_name": "a", "pixel_value": 1, "saturation_threshold": 0, "relative_saturation": false}]',
         "0.saturation_threshold: .*greater than 0"),
        (json.dumps([{"defect_name": n, "pixel_value": 9, "saturation_threshold": 1, "relative_saturation": True}
                     for n in "ab"]), "two kinds of defects have the same 'pixel_value'"),
    ],
)  # fmt: skip
def test_a_wrong_table_of_defects_is_named(root, content, message):
    (root / "pushpins/defects_config.json").write_text(content)
    with pytest.raises(FaultyCategory, match=message) as fault:
        DATASET.samples(root, "pushpins")
    assert "\n" not in str(fault.value)


def test_masks_that_are_missing_or_differ_are_named(root):
    truth = root / "pushpins/ground_truth"
    shutil.rmtree(truth / "logical_anomalies/002")
    (truth / "structural_anomalies/003/000.png").unlink()
    save(truth / "logical_anomalies/001/001.png", np.ones((3, 3)))
    lines = check_dataset(DATASET, root).categories["pushpins"].broken
    assert any("002.png is anomalous but has no masks; expected" in line for line in lines)
    assert any("structural_anomalies/003 has no image" in line for line in lines)
    assert any("logical_anomalies/001/001.png" in line and "differ in size" in line for line in lines)
    assert len(lines) == 3


@pytest.mark.parametrize("values", [np.zeros((4, 4)), np.arange(16).reshape(4, 4)])
def test_a_channel_has_one_value(tmp_path, values):
    save(tmp_path / "000/000.png", values)
    with pytest.raises(NfbenchError, match=r"000.png .*exactly one value above 0"):
        read_channels(tmp_path / "000")


def test_official_counts_add_up():
    source = find_source("mvtec_loco")
    train, normal, anomalous = map(sum, zip(*source.counts.values(), strict=True))
    assert (train, normal, anomalous) == (1778, 575, 993)
    validation = sum(count for name, count in source.facts.items() if name.endswith("validation"))
    assert train + validation + normal + anomalous == 3651
    for name, counts in source.counts.items():
        kinds = ("logical_anomalies", "structural_anomalies")
        assert sum(source.facts[f"{name}, {kind}"] for kind in kinds) == counts.test_anomalous


def test_check_counts_masks_and_leaves_nothing_out(made):
    report = check_dataset(DATASET, made)
    assert report.sound
    assert not report.left_out
    assert report.facts["screw_bag, masks"] == (6 * 2 + 6, None)
    assert report.facts["screw_bag, validation"] == (2, None)
    assert report.categories["screw_bag"].masks == 12
