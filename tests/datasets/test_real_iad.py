"""Real-IAD: its split in JSON files, views without a visible defect, and what can be wrong."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import FaultyCategory
from nfbench.datasets._check import check_dataset
from nfbench.datasets.real_iad import DATASET


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real") / "real_iad"
    DATASET.miniature(folder)
    return folder


@pytest.fixture
def root(made, tmp_path) -> Path:
    """A copy of one category that a test may damage."""
    shutil.copytree(made / "realiad_1024/pcb", tmp_path / "realiad_1024/pcb")
    (tmp_path / "realiad_jsons/realiad_jsons").mkdir(parents=True)
    shutil.copy(made / "realiad_jsons/realiad_jsons/pcb.json", tmp_path / "realiad_jsons/realiad_jsons")
    return tmp_path


def change(root: Path, edit) -> Path:
    """Edits the split of the category."""
    path = root / "realiad_jsons/realiad_jsons/pcb.json"
    split = json.loads(path.read_text())
    edit(split)
    path.write_text(json.dumps(split))
    return path


def test_the_split_is_that_of_the_json(made):
    found = DATASET.samples(made, "usb")
    assert Counter((sample.split, sample.defect) for sample in found) == {
        ("train", "good"): 8,
        ("test", "good"): 4,
        ("test", "AK"): 6,
        ("test", "HS"): 6,
    }
    assert len(DATASET.available(made)) == len(DATASET.categories) == 30
    names = sorted(sample.image.name for sample in found if sample.defect == "AK")
    assert names[:2] == [f"usb_0007_NG_AK_C{view}_20231021124338.jpg" for view in (1, 2)]
    assert all(sample.mask == sample.image.with_suffix(".png") for sample in found if sample.anomalous)


def test_a_view_that_does_not_show_the_defect_is_normal(root):
    """As in the authors' code: normal if there is no mask, of any class."""
    before = Counter(sample.defect for sample in DATASET.samples(root, "pcb") if sample.split == "test")

    def edit(split):
        row = next(row for row in split["test"] if row["anomaly_class"] == "HS")
        row["mask_path"] = None

    change(root, edit)
    after = Counter(sample.defect for sample in DATASET.samples(root, "pcb") if sample.split == "test")
    assert after == {**before, "good": before["good"] + 1, "HS": before["HS"] - 1}


def test_splits_may_lie_directly_in_their_folder(root):
    inner = root / "realiad_jsons/realiad_jsons"
    (inner / "pcb.json").rename(root / "realiad_jsons/pcb.json")
    inner.rmdir()
    assert DATASET.available(root) == ["pcb"]
    assert len(DATASET.samples(root, "pcb")) == 24
    assert DATASET.files(root, "pcb")[0] == root / "realiad_jsons/pcb.json"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda split: split["test"][0].update(image_path="../x.jpg"), r"pcb.json: \.\./x.jpg leads out of"),
        (lambda split: split["test"][0].update(image_path="/etc/passwd"), "/etc/passwd leads out of"),
        (
            lambda split: split["test"][0].update(image_path="OK/none.jpg"),
            r"none.jpg is missing; .*pcb.json lists it",
        ),
        (lambda split: split["test"][-1].update(mask_path="NG/none.png"), "NG/none.png is missing"),
        (lambda split: split["train"][0].update(anomaly_class="AK"), "is a training image of 'AK', not normal"),
        (lambda split: split["train"][0].pop("mask_path"), r"pcb.json, train.0.mask_path: "),
        (lambda split: split.pop("test"), r"pcb.json, test: "),
    ],
)
def test_faults_of_the_split_are_named(root, edit, message):
    change(root, edit)
    with pytest.raises(NfbenchError, match=message) as fault:
        DATASET.samples(root, "pcb")
    assert "\n" not in str(fault.value)


def test_all_faults_are_found_at_once(root):
    images = sorted((root / "realiad_1024/pcb").rglob("*.jpg"))
    for image in images[:3]:
        image.unlink()
    with pytest.raises(FaultyCategory) as fault:
        DATASET.samples(root, "pcb")
    assert len(fault.value.faults) == 3
    assert len(fault.value.samples) == 21


def test_one_size_is_read(root):
    (root / "realiad_256").mkdir()
    with pytest.raises(NfbenchError, match="has realiad_256 and realiad_1024; keep one there"):
        DATASET.available(root)
    shutil.rmtree(root / "realiad_256")
    shutil.rmtree(root / "realiad_1024")
    with pytest.raises(NfbenchError, match="has none of realiad_256, realiad_512"):
        DATASET.available(root)


def test_check_reads_all_and_leaves_nothing_out(root):
    report = check_dataset(DATASET, root)
    assert report.sound
    assert not report.left_out
    found = report.categories["pcb"]
    assert (found.counts, found.masks) == ((8, 4, 12), 12)
    assert len(report.missing) == 29
