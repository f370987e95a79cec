"""What an evaluated run leaves, where sets of images are unusual."""

import csv

import numpy as np
import pytest

from nfbench.datasets.manifest import Entry
from nfbench.results.artifacts import write_artifacts
from nfbench.scoring.evaluate import GroundTruth, evaluate, log_nfa_maps
from nfbench.scoring.maps import ScoredImages
from nfbench.scoring.protocol import Scored


def scored(labels, defects, channels=(64,)):
    rng = np.random.default_rng(0)
    maps = rng.random((len(labels), 8, 8)).astype(np.float32)
    energies = tuple(rng.chisquare(c, (len(labels), 8, 8)) for c in channels)
    images = ScoredImages(maps, {"paper": maps.max((1, 2))}, energies, channels)
    rows = zip(labels, defects, strict=True)
    truth = GroundTruth(
        [Entry("test", label, defect, f"{n}.png", "", 8, 8, "", "") for n, (label, defect) in enumerate(rows)]
    )
    log_nfa = log_nfa_maps(images)
    return Scored(truth, images, images, log_nfa, evaluate(images, truth, maps, log_nfa), {})


@pytest.mark.filterwarnings("ignore:areas are undefined")
@pytest.mark.parametrize(
    ("labels", "defects", "shown"),
    [
        ([1, 1], ["hole", "scratch"], 2),
        ([0, 0], ["good", "good"], 2),
        ([0, 0, 0, 0, 1], ["fine", "fine", "fine", "fine", "hole"], 4),
    ],
    ids=["no normal image", "no anomalous image", "normal images of another name"],
)
def test_examples_of_unusual_sets(tmp_path, labels, defects, shown):
    write_artifacts(tmp_path, scored(labels, defects), {})
    examples = np.load(tmp_path / "examples.npz")
    assert len(examples["index"]) == len(set(examples["index"].tolist())) == shown
    assert not np.array(labels)[examples["index"][examples["suspect"]]].any()


def test_a_method_without_latents_has_neither_regions_nor_calibration(tmp_path):
    write_artifacts(tmp_path, scored([0, 1], ["good", "hole"], channels=()), {})
    for name in ("regions.csv", "calibration.csv"):
        assert len(list(csv.reader((tmp_path / name).open()))) == 1
    assert "nfa" not in np.load(tmp_path / "examples.npz")


def test_regions_are_those_of_the_map(tmp_path):
    of_run = scored([0, 1], ["good", "hole"])
    of_run.log_nfa["nfa"][1, 2:4, 3:7] = -5.5
    write_artifacts(tmp_path, of_run, {})
    row = next(row for row in csv.DictReader((tmp_path / "regions.csv").open()) if row["map"] == "nfa")
    assert [row[name] for name in ("image", "label", "area", "top", "left", "bottom", "right")] == [
        "1.png",
        "1",
        "8",
        "2",
        "3",
        "4",
        "7",
    ]
    assert float(row["log_nfa"]) == -5.5
