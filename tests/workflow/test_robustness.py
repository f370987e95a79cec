"""Conditions end to end: two methods, two seeds, few images, anomalies among them, and shifted test images."""

import csv
import json
from contextlib import chdir

import numpy as np
import pytest

from nfbench.cli.load import load_plan
from nfbench.core.errors import NfbenchError
from nfbench.core.seals import read_sealed
from nfbench.datasets._drawn import draw
from nfbench.datasets._manifest import read_checked_mask, read_manifest
from nfbench.features.cache import FeatureCache
from nfbench.metrics._ranking import image_areas
from nfbench.metrics._thresholds import image_threshold
from nfbench.plan.cells import Cell
from nfbench.results.aggregate import read_results
from nfbench.results.record import read_record
from nfbench.results.record import tested_images as images_of
from nfbench.results.thresholds import ThresholdsRecord
from nfbench.scoring.evaluate import GroundTruth
from nfbench.sharing.bundle import read_bundle
from nfbench.stages.train import train_flow
from nfbench.tracking.entries import run_entry
from nfbench.training.record import TrainingRecord
from tests.in_process import run_experiment, run_nfbench
from tests.report.reading import embedded

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

NAME, BACKBONE = "smoke_robustness", "tf_efficientnet_lite0@64-random"
METHODS = ("fastflow-smoke", "patchcore-conditions")
CONDITIONS = (
    "", "shots1", "shots4", "contamination0-of-0.25", "contamination0.25-of-0.25", "blur2", "rotation15"
)  # fmt: skip
MOST = CONDITIONS[4]


@pytest.fixture(scope="module")
def finished(new_checkout):
    checkout = new_checkout()
    run_experiment(checkout.folder, NAME)
    return checkout


@pytest.fixture
def plan(finished, monkeypatch):
    monkeypatch.chdir(finished.folder)
    return load_plan()


def cell(condition, method=METHODS[0], seed=0):
    return Cell("one-class", "synthetic-smoke", "washer", method, BACKBONE, seed, condition)


def record(plan, *where):
    return read_record(plan.paths.run_record(cell(*where)))


def training(plan, *where):
    return read_sealed(TrainingRecord, plan.paths.run_record(cell(*where)).with_name("training.json"))


def scores(plan, *where):
    with open(plan.paths.run_record(cell(*where)).with_name("scores.csv"), newline="") as file:
        return {row["image"]: float(row["paper"]) for row in csv.DictReader(file)}


def thresholds(plan, *where):
    return read_sealed(ThresholdsRecord, plan.paths.run_record(cell(*where)).with_name("thresholds.json"))


def test_every_condition_has_a_record_that_names_it(plan):
    assert [found.condition for found in plan.cells(NAME)[::2]] == list(CONDITIONS) * 2
    for found in plan.cells(NAME):
        assert read_record(plan.paths.run_record(found)).cell.cell == found
    plain = json.loads(plan.paths.run_record(cell("")).read_text())
    assert "condition" not in json.dumps(plain["cell"]) + json.dumps(plain["specs"])
    assert plain["specs"]["train"]["cell"].keys() == {"setting", "dataset", "category", "method", "backbone", "seed"}


@pytest.mark.parametrize("method", METHODS)
def test_shots_are_those_of_the_seed_for_all_methods(plan, method):
    entries = read_manifest(record(plan, "").data.manifest)
    train = [entry.image for entry in entries if entry.split == "train"]
    for seed in (0, 1):
        few, one = (training(plan, name, method, seed).classes["washer"].drawn for name in ("shots4", "shots1"))
        assert few.images == [train[number] for number in draw(entries, "shots4", seed).normal]
        assert (few.normal, few.added) == (4, [])
        assert set(one.images) < set(few.images)
    assert training(plan, "shots4", method, 0).classes != training(plan, "shots4", method, 1).classes
    assert training(plan, "", method).classes["washer"].drawn is None


def test_one_shot_is_trained_on_and_gives_the_threshold(plan):
    flow, bank = (record(plan, "shots1", method) for method in METHODS)
    assert (flow.data.n_train, flow.data.n_val, flow.settings["val_fraction"]) == (1, 0, 0)
    assert (bank.data.n_train, bank.settings["folds"]) == (1, 0)
    for method in METHODS:
        found = thresholds(plan, "shots1", method)
        assert found.source == "training"
        assert [one.image for one in found.images] == training(plan, "shots1", method).classes["washer"].drawn.images
    few = record(plan, "shots4")
    assert (few.data.n_train, few.data.n_val) == (3, 1)  # one of four is held out
    (held_out,) = thresholds(plan, "shots4").images
    assert held_out.image in training(plan, "shots4").classes["washer"].drawn.images


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", [0, 1])
def test_all_ratios_are_tested_on_the_same_images(plan, method, seed):
    """12 normal images; the ratio 0.25 adds 3 of 8 anomalies, which are tested at no ratio."""
    whole, none, most = (scores(plan, name, method, seed) for name in ("", CONDITIONS[3], MOST))
    drawn = training(plan, MOST, method, seed).classes["washer"].drawn
    assert none.keys() == most.keys()
    assert whole.keys() - most.keys() == set(drawn.added)
    assert (len(drawn.added), drawn.normal, drawn.images) == (3, 12, [])
    assert all(none[image] == whole[image] for image in none)  # the model of ratio 0 is that of unchanged images
    assert none != most
    found = record(plan, MOST, method, seed).data
    assert (found.n_test_normal, found.n_test_anomalous) == (4, 5)
    assert found.n_train + found.n_val == 12 + 3
    other = training(plan, MOST, METHODS[1 - METHODS.index(method)], seed).classes["washer"].drawn
    assert other == drawn


def test_thresholds_come_from_the_contaminated_images(plan):
    """PatchCore is cross-fitted: each of the 15 images, 3 of them anomalous, has a score of another model."""
    entries = read_manifest(record(plan, "").data.manifest)
    found = thresholds(plan, MOST, METHODS[1])
    drawn = training(plan, MOST, METHODS[1]).classes["washer"].drawn
    assert found.source == "cross-fitted"
    assert [one.image for one in found.images[12:]] == drawn.added
    assert {one.image for one in found.images[:12]} == {entry.image for entry in entries if entry.split == "train"}
    assert len(thresholds(plan, CONDITIONS[3], METHODS[1]).images) == 12


def test_a_model_is_trained_once_for_all_shifts(plan):
    folders = [plan.paths.run_record(cell(name)).parent for name in CONDITIONS]
    trained = {folder.name for folder in folders if (folder / "model.safetensors").is_file()}
    assert trained == {"seed0", "seed0-shots1", "seed0-shots4", f"seed0-{MOST}"}
    for method in METHODS:
        assert thresholds(plan, "blur2", method) == thresholds(plan, "", method)
        rate = record(plan, "blur2", method).selections["last"].metrics["image_false_alarm_rate_sigma"]
        limit = image_threshold([one.score for one in thresholds(plan, "", method).images], "sigma")
        normal = [entry.image for entry in images_of(record(plan, "blur2")) if not entry.label]
        shifted = scores(plan, "blur2", method)
        assert rate == np.mean([shifted[image] > limit for image in normal])


def test_shifted_features_are_made_of_shifted_images(plan):
    plain, blurred = (FeatureCache(plan.score(cell(name)).spec.features) for name in ("", "blur2"))
    assert plain.meta.images_sha256 == blurred.meta.images_sha256
    assert plain.meta.key != blurred.meta.key
    assert not np.array_equal(plain.features.levels[0], blurred.features.levels[0])
    views = {path.name for path in (plan.paths.root / "features" / BACKBONE / "synthetic-smoke" / "washer").iterdir()}
    assert views == {"train", "test", "test-blur2", "test-rotation15"}


def test_maps_of_rotated_images_are_compared_with_rotated_masks(plan):
    turned = images_of(record(plan, "rotation15"))
    masks = [read_checked_mask(entry) for entry in turned if entry.mask]
    plain = [read_checked_mask(entry) for entry in images_of(record(plan, "")) if entry.mask]
    assert not any(np.array_equal(one, other) for one, other in zip(masks, plain, strict=True))
    truth = GroundTruth(turned)
    assert sum(mask.sum() for mask in truth.masks()) == sum(mask.sum() for mask in masks)
    assert record(plan, "rotation15").data.n_regions == truth.n_regions


def test_image_auroc_follows_from_the_scores(plan):
    for condition in CONDITIONS:
        entries = {entry.image: entry.label for entry in images_of(record(plan, condition))}
        found = scores(plan, condition)
        labels = np.array([entries[image] for image in found])
        area = image_areas(np.array(list(found.values())), labels).auroc
        assert record(plan, condition).selections["last"].metrics["image_auroc"] == pytest.approx(area)


def test_tables_show_means_and_deviations_by_condition(plan):
    with open(plan.paths.table(NAME, NAME, "csv"), newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "image_auroc"]
    assert len(rows) == len(CONDITIONS) * len(METHODS)
    for row in rows:
        method = next(name for name in METHODS if name == row["method"])
        name = "" if row["condition"] == "unchanged" else row["condition"]
        values = [100 * record(plan, name, method, s).selections["last"].metrics["image_auroc"] for s in (0, 1)]
        assert float(row["mean"]) == pytest.approx(np.mean(values))
        assert float(row["std"]) == pytest.approx(np.std(values, ddof=1))
    results = read_results(plan.paths.experiment(NAME, "results.parquet"))
    assert set(results.condition) == set(CONDITIONS)
    with open(plan.paths.table(NAME, f"{NAME}_alarms", "csv"), newline="") as file:
        assert sum(row["metric"] == "alarmed_fair" for row in csv.DictReader(file)) == 2  # unchanged images only


def test_status_explain_and_report_name_the_condition(finished, plan):
    assert "28 of 28 cells done" in run_nfbench(finished.folder, "status", NAME)
    told = run_nfbench(finished.folder, "explain", NAME, "synthetic-smoke/blur2/fastflow-smoke", "image_auroc")
    assert "  condition blur2\n" in told
    assert "seed0-blur2/run.json" in told
    page = embedded(plan.paths.report(NAME).read_text())
    assert {system["setting"] for system in page["systems"]} == {
        ", ".join(filter(None, ("one-class", name))) for name in CONDITIONS
    }
    assert len(page["runs"]) == 28
    assert {test["setting"] for test in page["tests"]} == {"one-class"}


def test_a_bundle_and_mlflow_name_the_condition(finished, plan, tmp_path):
    run_nfbench(finished.folder, "bundle", NAME, "--output", str(tmp_path / "r.nfbundle"))
    (tmp_path / "unpacked").mkdir()
    found = read_bundle(tmp_path / "r.nfbundle", tmp_path / "unpacked")
    assert {one.condition for one in found.stock.records} == set(CONDITIONS)
    run_nfbench(finished.folder, "merge", str(tmp_path / "r.nfbundle"), "--output", str(tmp_path / "merged"))
    results = read_results(tmp_path / "merged" / "experiments" / NAME / "results.parquet")
    assert set(results.condition) == set(CONDITIONS)
    entry = run_entry(cell("blur2"), record(plan, "blur2"), plan.paths)
    assert entry.name.endswith("seed0 blur2")
    assert (entry.params["condition"], entry.tags["condition"]) == ("blur2", "blur2")
    plain = run_entry(cell(""), record(plan, ""), plan.paths)
    assert "condition" not in {**plain.params, **plain.tags}
    assert plain.name.endswith("seed0")


def test_snakemake_finds_all_done_and_makes_one_condition_again(finished):
    assert finished.jobs(NAME) == {} or set(finished.jobs(NAME)) <= {"total", NAME}
    run = finished.folder / f"results/runs/one-class/synthetic-smoke/washer/{METHODS[0]}/{BACKBONE}"
    (run / "seed1-blur2" / "run.json").rename(run / "seed1-blur2" / "kept")
    try:
        jobs = finished.jobs(str((run / "seed1-blur2" / "run.json").relative_to(finished.folder)))
    finally:
        (run / "seed1-blur2" / "kept").rename(run / "seed1-blur2" / "run.json")
    assert {name: jobs.get(name) for name in ("train_flow", "score_run", "evaluate_run")} == {
        "train_flow": None, "score_run": 1, "evaluate_run": 1
    }  # fmt: skip


def test_too_many_shots_are_one_line(plan, finished):
    spec = plan.train(cell("shots4")).spec
    asked = spec.model_copy(update={"cell": cell("shots99"), "run": str(finished.folder / "other"), "origin": ""})
    with chdir(finished.folder), pytest.raises(NfbenchError, match=r"99 shots, but there are 12 normal") as refused:
        train_flow(asked, device="cpu", threads=1)
    assert "\n" not in str(refused.value)
