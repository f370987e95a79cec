"""One model of several categories, end to end: a union of two datasets, trained once and evaluated by category."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.results.record import read_record
from nfbench.stages.score import score_run
from tests.in_process import run_experiment, run_nfbench

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

BACKBONE = "tf_efficientnet_lite0@64-random"
PLACES = ("synthetic-smoke/washer", "synthetic-few/fabric")


@pytest.fixture(scope="module")
def finished(new_checkout):
    checkout = new_checkout()
    run_experiment(checkout.folder, "smoke_unified")
    return checkout


def folder(checkout, category, method="hgad-smoke", backbone=BACKBONE, setting="unified"):
    return checkout.folder / "results/runs" / setting / "union-smoke" / category / method / backbone / "seed0"


def test_images_of_a_union_are_read_where_they_are(finished):
    manifests = finished.folder / "results/manifests"
    found = {str(path.relative_to(manifests)) for path in manifests.glob("*/*.csv")}
    assert found == {"synthetic-smoke/washer.csv", "synthetic-few/fabric.csv"}


def test_one_training_serves_all_categories(finished):
    trained = json.loads((folder(finished, "all") / "training.json").read_text())
    assert list(trained["classes"]) == ["washer", "fabric"]
    records = {category: read_record(folder(finished, category) / "run.json") for category in ("washer", "fabric")}
    for category, record in records.items():
        assert record.cell.category == category
        assert record.data.n_train + record.data.n_val == 12 + 6
        assert record.data.classes == {name: found["key"] for name, found in trained["classes"].items()}
        assert record.features.train_key == record.data.classes[category]
        assert record.parameters == trained["parameters"]
        assert not (folder(finished, category) / "model.safetensors").exists()
    assert records["washer"].data.n_test_anomalous == 8
    assert records["fabric"].data.n_test_anomalous == 4


def test_pseudo_anomalies_are_those_of_the_own_category(finished):
    for category, dataset in (("washer", "synthetic-smoke"), ("fabric", "synthetic-few")):
        backbone = "tf_efficientnet_lite0@64-image-random"
        record = read_record(folder(finished, category, "sanflow-smoke", backbone) / "run.json")
        view = finished.folder / "results/features" / backbone / dataset / category / "pseudo-blend-k2/meta.json"
        assert record.features.pseudo_key == json.loads(view.read_text())["key"]


def test_explain_names_the_features_of_all_classes(finished):
    cell = ("smoke_unified", "washer", "sanflow-smoke")
    commands = [shlex.split(line) for line in run_nfbench(finished.folder, "explain", *cell).splitlines()]
    specs = [json.loads(words[4]) for words in commands if words[2:4] == ["extract_features", "--spec"]]
    views = [str(Path(*Path(spec["features"]).parts[3:-1])) for spec in specs]
    trained = [f"{place}/{view}" for view in ("train", "pseudo-blend-k2") for place in PLACES]
    assert sorted(views) == sorted([*trained, "synthetic-smoke/washer/test"])


def test_table_and_figures_are_made(finished):
    table = pd.read_csv(finished.folder / "results/tables/smoke_unified/smoke_unified.csv")
    assert set(table.method) == {"hgad-smoke", "nfad-smoke", "sanflow-smoke"}
    assert set(table.category) == {"washer", "fabric", "average"}
    assert (
        "one model for 2 categories"
        in (finished.folder / "results/tables/smoke_unified/smoke_unified.html").read_text()
    )
    for name in ("smoke_unified", "smoke_unified_curves"):
        assert (finished.folder / f"results/figures/smoke_unified/{name}.png").stat().st_size > 20_000


def test_a_second_run_does_nothing(finished):
    assert finished.jobs("smoke_unified") == {}


def test_an_unknown_class_is_refused_by_name(finished, monkeypatch):
    """Scoring a category that the model was not trained on."""
    spec = read_record(folder(finished, "washer") / "run.json").specs.score
    unknown = spec.model_copy(update={"cell": replace(spec.cell, category="wash"), "run": "results/other"})
    monkeypatch.chdir(finished.folder)
    with pytest.raises(NfbenchError, match="the model has no class 'wash', only washer, fabric"):
        score_run(unknown, "cpu")
