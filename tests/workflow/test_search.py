"""A search from images to table: the run reproduces its best value, and its validation images are not tested."""

import csv
import json
import re
from contextlib import chdir

import pandas as pd
import pytest
import yaml

from nfbench.cli.load import load_plan
from nfbench.results.record import read_record
from nfbench.search.record import read_study
from tests.in_process import run_experiment, run_job, run_nfbench

pytestmark = pytest.mark.workflow
PLACE = "one-class/synthetic-smoke/fabric"
ONE, TWO = "tf_efficientnet_lite0@64-random", "tf_efficientnet_lite0@64-l34-random"


@pytest.fixture(scope="module")
def searched(new_checkout):
    checkout = new_checkout()
    run_experiment(checkout.folder, "smoke_search")
    with chdir(checkout.folder):
        run_job(load_plan().track("smoke_search"))
    return checkout


def study(checkout, name):
    return read_study(checkout.folder / f"results/studies/{PLACE}/{name}-searched-smoke/study.json")


def run(checkout, name, backbone=ONE):
    return checkout.folder / f"results/runs/{PLACE}/{name}-searched-smoke/{backbone}/seed0"


def test_all_trials_are_in_the_record(searched):
    found = study(searched, "fastflow")
    assert [trial.state for trial in found.trials] == ["complete"] * 4
    assert found.trials[0].params["lr"] == 1e-3  # the method's own
    assert found.best.value == max(trial.value for trial in found.trials)
    folder = searched.folder / f"results/studies/{PLACE}/fastflow-searched-smoke"
    workers = {path.stem: json.loads(path.read_text())["trials"] for path in folder.glob("worker*.json")}
    assert workers.keys() == {"worker0", "worker1"}
    assert sorted([*workers["worker0"], *workers["worker1"]]) == [trial.number for trial in found.trials]
    with open(folder / "trials.csv", newline="") as file:
        assert [float(row["value"]) for row in csv.DictReader(file)] == pytest.approx([t.value for t in found.trials])
    best = yaml.safe_load((folder / "best.yaml").read_text())
    assert best["by_backbone"][ONE]["settings"] == found.best.settings
    assert not list(folder.glob(".study/worker*"))


def test_the_best_value_comes_out_again_in_the_run(searched):
    best = study(searched, "fastflow").best
    record = read_record(run(searched, "fastflow") / "run.json")
    history = pd.read_csv(run(searched, "fastflow") / "history.csv")
    assert record.search.value == best.value
    assert history.val_log_likelihood.iloc[-1] == pytest.approx(best.value, rel=1e-8)
    assert {name: record.settings[name] for name in best.settings} == best.settings


def test_validation_images_are_not_tested_on(searched):
    found = study(searched, "padim")
    assert len(found.validation) == 3
    for backbone in (ONE, TWO):
        record = read_record(run(searched, "padim", backbone) / "run.json")
        tested = set(pd.read_csv(run(searched, "padim", backbone) / "scores.csv").image)
        assert len(tested) == record.data.n_test_normal + record.data.n_test_anomalous == 9
        assert not tested & set(found.validation)


def test_the_table_shows_the_best_backbone_and_what_was_searched(searched):
    results = pd.read_parquet(searched.folder / "results/experiments/smoke_search/results.parquet")
    of_padim = results[results.method == "padim-searched-smoke"]
    assert of_padim[of_padim.search_chosen].backbone.unique() == [study(searched, "padim").best.backbone]
    assert of_padim.backbone.nunique() == 2
    table = pd.read_csv(searched.folder / "results/tables/smoke_search/smoke_search_image_auroc.csv")
    assert len(table) == 2
    page = (searched.folder / "results/tables/smoke_search/smoke_search_image_auroc.html").read_text()
    assert (
        "settings of PaDiM (tuned) searched per category with 3 trials, judged by image AUROC on 3 test images" in page
    )
    assert "by the likelihood of held-out normal images" in page
    budget = pd.read_csv(searched.folder / "results/tables/smoke_search/smoke_search_budget.csv")
    trials = budget[budget.metric == "search_trials"].set_index("method")["mean"]
    assert trials.to_dict() == {"FastFlow (tuned)": 4, "PaDiM (tuned)": 3}


def test_explain_goes_back_through_the_study(searched):
    said = run_nfbench(searched.folder, "explain", "smoke_search_image_auroc", "fabric", "fastflow-searched-smoke")
    assert "judged by log_likelihood" in said
    searching = ["search_hyperparameters"] * 2
    stages = re.findall(r"\$ nfbench (?:--log \S+ )?(\w+)", said)
    first = stages.index("create_study")
    assert stages[first : first + 7] == [
        *("create_study", *searching, "summarize_study"),
        *("train_flow", "score_run", "evaluate_run"),
    ]


def test_a_second_run_does_nothing(searched):
    assert "Nothing to be done" in searched.snakemake("smoke_search", "track_smoke_search")


def test_more_trials_go_on_with_the_same_study(searched):
    before = study(searched, "fastflow")
    experiment = searched.folder / "workflow/experiments/smoke_search.yaml"
    text = experiment.read_text()
    experiment.write_text(text.replace("trials: 4", "trials: 5"))
    try:
        target = f"results/studies/{PLACE}/fastflow-searched-smoke/study.json"
        jobs = {"create_study": 1, "search_hyperparameters": 2, "summarize_study": 1, "total": 4}
        assert searched.jobs(target) == jobs
        with chdir(searched.folder):
            for job in load_plan().summary(*PLACE.split("/"), "fastflow-searched-smoke").chain():
                if job.stage in jobs:
                    run_job(job)
        after = study(searched, "fastflow")
        assert len(after.trials) == 5
        assert after.trials[:4] == before.trials
    finally:
        experiment.write_text(text)
