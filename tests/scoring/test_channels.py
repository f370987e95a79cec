"""AU-sPRO of a run: channels, saturation areas, and the datasets that have them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.datasets._base import find_dataset
from nfbench.datasets._channels import DEFECTS, read_channels, read_defects
from nfbench.datasets._manifest import Entry, build_manifest
from nfbench.metrics import known_metrics
from nfbench.metrics._spro import Channel, au_spro, saturation_area
from nfbench.metrics._tails import NormalScores
from nfbench.scoring.channels import read_saturated
from nfbench.scoring.evaluate import GroundTruth, evaluate
from nfbench.scoring.maps import IMAGE_SCORES, ScoredImages, resize_map

KNOWN = [named for named in known_metrics().values() if named.metric.needs_channels and not named.transductive]
NAMES = [named.name for named in KNOWN if named.metric.needs_masks]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("loco")
    find_dataset("mvtec_loco").miniature(folder)
    return folder


def entries_of(root: Path) -> list[Entry]:
    found = build_manifest(find_dataset("mvtec_loco").samples(root, "pushpins"), ("test",))
    return [entry for entry in found if entry.split == "test"]


def measure(entries: list[Entry], maps: np.ndarray) -> dict:
    images = ScoredImages(maps, dict.fromkeys(IMAGE_SCORES, maps.max((1, 2))))
    return evaluate(images, GroundTruth(entries), NormalScores.of_maps(maps[:2]), {}).metrics


def test_it_is_that_of_the_channels_and_their_saturation_areas(made):
    """Against the direct computation from files, with all maps in memory."""
    entries = entries_of(made)
    maps = np.random.default_rng(0).random((len(entries), 12, 12)).astype(np.float32)
    kinds = read_defects(made / "pushpins" / DEFECTS)
    channels = []
    for entry in entries:
        found = read_channels(entry.mask) if entry.mask else []
        areas = [(kinds[one.value].saturation_threshold, kinds[one.value].relative_saturation) for one in found]
        channels.append(
            [
                Channel(one.mask, saturation_area(int(one.mask.sum()), *area))
                for one, area in zip(found, areas, strict=True)
            ]
        )
    assert any(one.saturation < one.mask.sum() for of_image in channels for one in of_image)
    resized = [resize_map(one, entry.height, entry.width) for one, entry in zip(maps, entries, strict=True)]
    metrics = measure(entries, maps)
    by_type = []
    for kind in ("logical_anomalies", "structural_anomalies"):
        rows = [row for row, entry in enumerate(entries) if entry.defect in ("good", kind)]
        by_type.append(au_spro([resized[row] for row in rows], [channels[row] for row in rows], (0.05, 0.3)))
    assert len(NAMES) == 2
    assert [metrics[name] for name in NAMES] == pytest.approx(np.mean(by_type, axis=0), abs=1e-12)


def test_a_perfect_map_has_all_of_the_area(made):
    entries = entries_of(made)
    truth = GroundTruth(entries)
    maps = np.stack([mask.astype(np.float32) for mask in truth.masks()])
    assert [measure(entries, maps)[name] for name in NAMES] == pytest.approx([1, 1])


def test_datasets_without_channels_do_not_have_it(tmp_path):
    dataset = find_dataset("mvtec_ad")
    dataset.miniature(tmp_path)
    category = dataset.available(tmp_path)[0]
    entries = [entry for entry in build_manifest(dataset.samples(tmp_path, category)) if entry.split == "test"]
    maps = np.random.default_rng(0).random((len(entries), 12, 12)).astype(np.float32)
    metrics = measure(entries, maps)
    assert "pixel_aupro" in metrics
    assert not set(NAMES) & metrics.keys()


def test_without_anomalous_images_there_are_no_channels(made):
    entries = [entry for entry in entries_of(made) if not entry.label]
    metrics = measure(entries, np.random.default_rng(0).random((len(entries), 12, 12)).astype(np.float32))
    assert not set(NAMES) & metrics.keys()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda kinds: kinds.clear(), r"has the value \d+, which .* does not list"),
        (lambda kinds: [kind.update(saturation_threshold=0.5, relative_saturation=False) for kind in kinds],
         "a saturation threshold of 0.5 leaves no pixel"),
        (lambda kinds: [kind.update(saturation_threshold=2.0, relative_saturation=True) for kind in kinds],
         "a relative saturation threshold is at most 1, got 2"),
    ],
)  # fmt: skip
def test_faults_of_the_kinds_name_the_mask(made, tmp_path, change, said):
    shutil.copytree(made / "pushpins", tmp_path / "pushpins")
    path = tmp_path / "pushpins" / DEFECTS
    kinds = json.loads(path.read_text())
    change(kinds)
    path.write_text(json.dumps(kinds))
    entry = next(entry for entry in entries_of(tmp_path) if entry.mask)
    with pytest.raises(NfbenchError, match=said) as caught:
        read_saturated(entry)
    assert entry.mask in str(caught.value)
