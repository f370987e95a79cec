"""Methods that learn from anomalies, end to end: pseudo-anomalies cached and online, real ones left out of the test."""

import csv
import json

import numpy as np
import pandas as pd
import pytest

from nfbench.datasets._manifest import read_manifest
from nfbench.results.record import read_record
from tests.in_process import run_experiment

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

METHODS = ["sanflow", "sanflow-online", "sanflow-cutpaste", "nfad", "bgad"]


@pytest.fixture(scope="module")
def finished(new_checkout):
    checkout = new_checkout()
    run_experiment(checkout.folder, "smoke_anomalies")
    return checkout


def folder(checkout, method):
    (path,) = (checkout.folder / "results" / "runs").glob(f"*/*/*/{method}-smoke/*/seed0/run.json")
    return path.parent


def record(checkout, method):
    return read_record(folder(checkout, method) / "run.json")


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("method", METHODS)
def test_every_variant_is_measured(finished, method):
    found = record(finished, method)
    assert 0 <= found.selections["last"].metrics["image_auroc"] <= 1
    assert 0 <= found.selections["last"].metrics["pixel_auroc_transductive"] <= 1
    described = found.data.anomalies
    generator = {"nfad": None, "bgad": "rpag", "sanflow-cutpaste": "cutpaste"}.get(method, "blend")
    assert (described and described.generator) == generator
    assert bool(described and described.online) == (method == "sanflow-online")


def test_learned_anomalies_are_not_tested_on(finished):
    found = record(finished, "bgad")
    learned = found.data.anomalies.real
    assert found.cell.setting == "few-anomaly"
    assert len(learned) == len(set(learned)) == 2
    tested = [row["image"] for row in rows(folder(finished, "bgad") / "scores.csv")]
    whole = [row["image"] for row in rows(folder(finished, "nfad") / "scores.csv")]
    assert sorted([*tested, *learned]) == sorted(whole)
    assert found.data.n_test_anomalous == record(finished, "nfad").data.n_test_anomalous - 2
    entries = {entry.image: entry for entry in read_manifest(finished.folder / found.data.manifest)}
    assert all(entries[image].label and entries[image].split == "test" for image in learned)


@pytest.mark.parametrize("method", METHODS)
def test_predicted_variances_of_examples_are_kept(finished, method):
    examples = np.load(folder(finished, method) / "examples.npz")
    assert ("variances" in examples) == method.startswith("sanflow")
    if "variances" in examples:
        assert examples["variances"].shape == (len(examples["index"]), 16, 16)
        assert (examples["variances"] > 0).all()


def test_examples_of_a_run_that_learned_from_anomalies_are_of_images_that_it_tested(finished):
    found = record(finished, "bgad")
    images = [entry for entry in read_manifest(finished.folder / found.data.manifest) if entry.split == "test"]
    highest = {row["image"]: float(row["max"]) for row in rows(folder(finished, "bgad") / "scores.csv")}
    examples = np.load(folder(finished, "bgad") / "examples.npz")
    for number, score_map in zip(examples["index"], examples["maps"], strict=True):
        assert score_map.max() == pytest.approx(highest[images[number].image], rel=1e-6)


def test_only_views_that_are_asked_for_are_cached(finished):
    views = {
        path.parent.name: json.loads(path.read_text())
        for path in finished.folder.glob("results/features/*/*/*/*/meta.json")
    }
    assert set(views) == {"train", "test", "pseudo-blend-k2", "pseudo-cutpaste-k2", "pseudo-rpag-k2-real2-seed0"}
    assert views["pseudo-rpag-k2-real2-seed0"]["n_images"] == 2
    assert views["pseudo-blend-k2"]["recipe"]["backbone"]["image"] is True


def test_likelihoods_of_positions_before_and_after(finished):
    groups = {"nfad": {"normal", "anomalous"}, "sanflow-online": {"normal", "anomalous", "pseudo"}}
    groups["bgad"] = {*groups["sanflow-online"], "learned"}
    for method, expected in groups.items():
        found = pd.DataFrame(rows(folder(finished, method) / "likelihoods.csv"))
        assert set(found.moment) == {"before", "after"}
        assert set(found.group) == expected
        shares = found.astype({"share": float}).groupby(["moment", "level", "group"]).share.sum()
        np.testing.assert_allclose(shares, 1)
        means = found[(found.level == "0") & (found.group == "normal")].astype({"left": float, "share": float})
        by_moment = means.assign(part=means.left * means.share).groupby("moment").part.sum()
        assert (
            method == "sanflow-online" or by_moment["after"] > by_moment["before"]
        )  # training raises the likelihood of what is normal


def test_settings_have_tables_of_their_own(finished):
    one_class, few = (
        pd.read_csv(finished.folder / f"results/tables/smoke_anomalies/{name}.csv")
        for name in ("smoke_anomalies", "smoke_anomalies_few")
    )
    assert "bgad-smoke" not in set(one_class.method)
    assert set(few.method) == {"bgad-smoke"}
    caption = (finished.folder / "results/tables/smoke_anomalies/smoke_anomalies_few.html").read_text()
    assert "2 real anomalies per category" in caption
    assert "not comparable with one-class rows" in caption


def test_figures_are_drawn(finished):
    for name in ("sheet", "likelihoods"):
        assert (finished.folder / f"results/figures/smoke_anomalies/smoke_anomalies_{name}.png").stat().st_size > 20_000


def test_too_many_real_anomalies_are_refused_by_name(finished):
    path = finished.folder / "workflow/experiments/smoke_anomalies.yaml"
    text = path.read_text()
    path.write_text(text.replace("real: 2", "real: 100"))
    try:
        printed = finished.snakemake("smoke_anomalies", fails=True)
    finally:
        path.write_text(text)
    assert "100 real anomalies requested" in printed
    assert "washer" in printed
