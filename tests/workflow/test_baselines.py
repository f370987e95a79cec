"""The baselines end to end: scales, rotated views, online rotation, gradients, statistics of a set."""

import json

import pandas as pd
import pytest

from nfbench.results.record import read_record
from tests.in_process import run_experiment

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


@pytest.fixture(scope="module")
def finished(new_checkout):
    checkout = new_checkout()
    run_experiment(checkout.folder, "smoke_baselines")
    return checkout


def record(checkout, method):
    (path,) = (checkout.folder / "results" / "runs").glob(f"*/*/*/{method}-smoke/*/seed0/run.json")
    return read_record(path)


@pytest.mark.parametrize("method", ["cflow", "csflow", "differnet", "simplenet", "patchcore", "padim"])
def test_every_method_is_measured(finished, method):
    found = record(finished, method)
    metrics = found.selections["last"].metrics
    assert 0 <= metrics["image_auroc"] <= 1
    assert 0 <= metrics["pixel_aupro"] <= 1
    assert found.images_per_second["score"] > 0
    assert ("val" in found.selections) == (found.data.n_val > 0)


def test_thresholds_are_from_images_that_the_model_did_not_see(finished):
    sources = {method: record(finished, method).segmentation.threshold_images for method in ("padim", "patchcore")}
    assert {method: (one.source, one.n_images) for method, one in sources.items()} == dict.fromkeys(
        sources, ("cross-fitted", 12)
    )
    assert record(finished, "simplenet").segmentation.threshold_images.source == "training"
    held_out = record(finished, "cflow")
    assert held_out.segmentation.threshold_images.source == "held out"
    assert held_out.segmentation.threshold_images.n_images == held_out.data.n_val


def test_what_is_not_trained_by_gradient_has_no_epochs_and_no_parameters(finished):
    for method in ("patchcore", "padim"):
        found = record(finished, method)
        assert found.parameters == {"total": 0}
        assert list(found.by_epoch) == [0]


def test_published_and_deployable_scores_stand_side_by_side(finished):
    for method in ("cflow", "csflow"):
        names = record(finished, method).selections["last"].metrics
        assert ("pixel_auroc_transductive" in names) == (method == "cflow")


def test_features_are_those_that_were_asked_for(finished):
    folder = finished.folder / "results" / "features"
    names = {
        "tf_efficientnet_lite0@128-l23-reflect-random",
        "tf_efficientnet_lite0@64-l2-s1.2.4-random",
        "tf_efficientnet_lite0@64-l3-s1.2-r4-pooled-random",
        "tf_efficientnet_lite0@64-random",
    }
    assert {path.name for path in folder.iterdir()} == names
    (rotated,) = folder.glob("*-r4-*/*/fabric/test/meta.json")
    meta = json.loads(rotated.read_text())
    backbone = meta["recipe"]["backbone"]
    assert (backbone["rotations"], backbone["pooled"], backbone["scales"]) == (4, True, [1, 2])
    assert len(meta["recipe"]["level_shapes"]) == 2


def test_one_table_has_metrics_and_costs_of_all(finished):
    table = pd.read_csv(finished.folder / "results" / "tables" / "smoke_baselines" / "smoke_baselines.csv")
    assert table.method.nunique() == 6
    assert table.pivot(index="method", columns="column", values="mean").notna().all(axis=None)
    caption = (finished.folder / "results" / "tables" / "smoke_baselines" / "smoke_baselines.html").read_text()
    assert "RANDOM weights" in caption
    for ending in ("png", "pdf"):
        assert (
            finished.folder / "results" / "figures" / f"smoke_baselines/smoke_baselines_speed.{ending}"
        ).stat().st_size > 5000


def test_second_run_does_nothing(finished):
    assert finished.jobs("smoke_baselines") == {}
