"""Real-IAD's lists for training without labels: fixed shares of anomalous training images, given as normal."""

import json
import shutil
from collections import Counter

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import FaultyCategory, find_dataset
from nfbench.datasets._check import check_dataset
from nfbench.datasets._manifest import build_manifest

SHARES = {"real_iad_noisy_00": 0.0, "real_iad_noisy_10": 0.1, "real_iad_noisy_20": 0.2, "real_iad_noisy_40": 0.4}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The official layout: images once, and the lists of all protocols next to each other."""
    folder = tmp_path_factory.mktemp("noisy")
    for name in ("real_iad_noisy_00", "real_iad_noisy_10", "real_iad_noisy_20", "real_iad_noisy_40"):
        find_dataset(name).miniature(folder)
    plain = folder / "realiad_jsons_fuiad_0.0/realiad_jsons_fuiad_0.0"
    shutil.copytree(plain, folder / "realiad_jsons/realiad_jsons")
    return folder


def list_of(root, share, category="pcb"):
    folder = f"realiad_jsons_fuiad_{share:.1f}"
    return root / folder / folder / f"{category}.json"


@pytest.mark.parametrize(("name", "share"), SHARES.items())
def test_the_share_is_anomalous_and_given_as_normal(root, name, share):
    dataset = find_dataset(name)
    rows = json.loads(list_of(root, share).read_text())
    noisy = [row for row in rows["train"] if row["anomaly_class"] != "OK"]
    assert len(noisy) == round(8 * share)
    assert dataset.available(root) == ["pcb", "phone_battery"]
    samples = dataset.samples(root, "pcb")
    train = [sample for sample in samples if sample.split == "train"]
    assert {(sample.defect, sample.mask) for sample in train} == {("good", None)}
    images = {str(sample.image.relative_to(root / "realiad_1024/pcb")) for sample in train}
    assert images == {row["image_path"] for row in rows["train"]}
    assert not images & {row["image_path"] for row in rows["test"]}
    assert sum(sample.anomalous for sample in samples) == 12 - len(noisy)
    assert Counter(entry.label for entry in build_manifest(samples)) == {0: 12 + len(noisy), 1: 12 - len(noisy)}
    report = check_dataset(dataset, root)
    assert report.sound
    assert report.facts["pcb, anomalous training images"] == (len(noisy), None)
    assert f"{share:.0%} of the training images anomalous" in dataset.title


def test_without_noise_the_samples_are_those_of_the_split(root):
    plain, noisy = find_dataset("real_iad"), find_dataset("real_iad_noisy_00")
    assert plain.samples(root, "pcb") == noisy.samples(root, "pcb")
    assert plain.facts(root) == {}
    assert plain.title == "Real-IAD"


def test_lists_of_another_share_are_not_taken(root, tmp_path):
    shutil.copytree(root / "realiad_1024/pcb", tmp_path / "realiad_1024/pcb")
    shutil.copytree(root / "realiad_jsons_fuiad_0.1", tmp_path / "realiad_jsons_fuiad_0.1")
    assert find_dataset("real_iad_noisy_10").available(tmp_path) == ["pcb"]
    with pytest.raises(NfbenchError, match=r"folders without realiad_jsons_fuiad_0\.4"):
        find_dataset("real_iad_noisy_40").available(tmp_path)


def test_the_split_of_normal_images_still_refuses_anomalous_ones(root, tmp_path):
    shutil.copytree(root / "realiad_1024/pcb", tmp_path / "realiad_1024/pcb")
    target = tmp_path / "realiad_jsons/realiad_jsons/pcb.json"
    target.parent.mkdir(parents=True)
    shutil.copy(list_of(root, 0.2), target)
    with pytest.raises(FaultyCategory, match="is a training image of 'HS', not normal") as found:
        find_dataset("real_iad").samples(tmp_path, "pcb")
    assert len(found.value.faults) == 2


@pytest.mark.parametrize(("name", "share"), SHARES.items())
def test_an_image_on_both_sides_is_named(root, tmp_path, name, share):
    shutil.copytree(root / "realiad_1024/pcb", tmp_path / "realiad_1024/pcb")
    folder = tmp_path / f"realiad_jsons_fuiad_{share:.1f}"
    folder.mkdir()
    split = json.loads(list_of(root, share).read_text())
    split["test"].append(split["train"][0])
    (folder / "pcb.json").write_text(json.dumps(split))
    with pytest.raises(NfbenchError, match=r"pcb.json: OK/S0001/.*jpg is a training image and a test image"):
        find_dataset(name).samples(tmp_path, "pcb")
