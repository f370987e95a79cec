"""Files of an evaluated run for unusual sets of images."""

import csv

import numpy as np
import pytest

from nfbench.datasets._manifest import Entry
from nfbench.metrics._tails import NormalScores
from nfbench.results.artifacts import choose_examples, write_artifacts
from nfbench.results.examples import read_examples
from nfbench.results.files import ImageValue, read_rows
from nfbench.scoring.evaluate import GroundTruth, evaluate
from nfbench.scoring.maps import IMAGE_SCORES, ScoredImages, log_nfa_maps
from nfbench.scoring.protocol import Scored
from tests.made_up import write_listing


def entries_of(labels, defects):
    rows = zip(labels, defects, strict=True)
    return [Entry("test", label, defect, f"{n}.png", "", 8, 8, "", "") for n, (label, defect) in enumerate(rows)]


def scored(entries, channels=(64,)):
    rng = np.random.default_rng(0)
    maps = rng.random((len(entries), 8, 8)).astype(np.float32)
    energies = tuple(rng.chisquare(c, (len(entries), 8, 8)) for c in channels)
    images = ScoredImages(maps, dict.fromkeys(IMAGE_SCORES, maps.max((1, 2))), energies, channels)
    truth = GroundTruth(entries)
    log_nfa = log_nfa_maps(images)
    normal = NormalScores.of_maps(maps)
    measured = evaluate(images, truth, normal, log_nfa)
    return Scored(truth, images, energies, log_nfa, measured, 0.5, normal, "training", seconds={})


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
    entries = entries_of(labels, defects)
    write_artifacts(tmp_path, scored(entries), entries)
    examples = np.load(tmp_path / "examples.npz")
    assert len(examples["index"]) == len(set(examples["index"].tolist())) == shown
    assert not np.array(labels)[examples["index"][examples["suspect"]]].any()
    assert np.array(labels)[examples["index"][examples["miss"]]].all()


LABELS, DEFECTS = [0] * 5 + [1] * 8, ["good"] * 5 + ["hole"] * 5 + ["scratch"] * 3


@pytest.mark.parametrize(
    ("learned", "shown"),
    [
        (set(), [2, 7, 11]),
        ({0, 5, 6, 10}, [2, 7, 11]),
        ({2, 7}, [1, 6, 11]),
        ({10, 11, 12}, [2, 7]),
    ],
    ids=["none", "others", "in the middle", "a whole kind"],
)
def test_examples_are_numbered_as_in_the_manifest_whatever_was_learned_from(tmp_path, learned, shown):
    images = entries_of(LABELS, DEFECTS)
    tested = [number for number in range(len(images)) if number not in learned]
    of_run = scored([images[number] for number in tested])
    write_artifacts(tmp_path, of_run, images)
    write_listing(tmp_path / "run.json")
    examples = read_examples(tmp_path)
    assert examples.images == shown
    score = {number: of_run.test.images["paper"][tested.index(number)] for number in tested}
    others = sorted(set(tested) - set(shown), key=score.__getitem__)
    assert examples.suspects == [number for number in others[::-1] if not LABELS[number]][:2]
    assert examples.misses == [number for number in others if LABELS[number]][:2]
    for number in examples.numbers:
        for name, maps in {"maps": of_run.test.maps, **of_run.log_nfa}.items():
            kept = examples.maps[name][examples.row(number)]
            np.testing.assert_array_equal(kept, maps[tested.index(number)])
    assert not set(examples.numbers) & learned
    assert [examples.row(number) for number in learned] == [None] * len(learned)


def test_variances_are_kept_of_the_examples(tmp_path):
    images = entries_of(LABELS, DEFECTS)
    tested = [entry for number, entry in enumerate(images) if number not in (0, 7)]
    predicted = np.arange(len(tested))[:, None, None] * np.ones((1, 3, 3))
    of_run = scored(tested)
    rows = choose_examples(of_run.test.images["paper"], tested, images).rows
    write_artifacts(tmp_path, of_run, images, predicted[rows])
    write_listing(tmp_path / "run.json")
    examples = read_examples(tmp_path)
    for number in examples.numbers:
        kept = examples.maps["variances"][examples.row(number)]
        assert tested[int(kept[0, 0])] == images[number]


def test_a_method_without_latents_has_neither_regions_nor_calibration(tmp_path):
    entries = entries_of([0, 1], ["good", "hole"])
    write_artifacts(tmp_path, scored(entries, channels=()), entries)
    for name in ("regions.csv", "calibration.csv"):
        assert len(list(csv.reader((tmp_path / name).open()))) == 1
    assert "nfa" not in np.load(tmp_path / "examples.npz")


def test_regions_are_those_of_the_map(tmp_path):
    entries = entries_of([0, 1], ["good", "hole"])
    of_run = scored(entries)
    of_run.log_nfa["nfa"][1, 2:4, 3:7] = -5.5
    write_artifacts(tmp_path, of_run, entries)
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


def test_values_by_image_are_those_of_the_metric(tmp_path):
    entries = entries_of([0, 1, 1], ["good", "hole", "cut"])
    of_run = scored(entries)
    values = {"pixel_aupimo": np.array([np.nan, 0.25, 1.0]), "seg_f1_all": np.array([1.0, 0.5, 0.0])}
    write_artifacts(tmp_path, of_run._replace(evaluation=of_run.evaluation._replace(by_image=values)), entries)
    write_listing(tmp_path / "run.json")
    assert read_rows(ImageValue, tmp_path) == [
        ImageValue("pixel_aupimo", "1.png", "hole", 0.25),
        ImageValue("pixel_aupimo", "2.png", "cut", 1.0),
        ImageValue("seg_f1_all", "0.png", "good", 1.0),
        ImageValue("seg_f1_all", "1.png", "hole", 0.5),
        ImageValue("seg_f1_all", "2.png", "cut", 0.0),
    ]
