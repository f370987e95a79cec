"""Trial runs without data: every experiment on tiny made-up images."""

import json
import shutil
import subprocess
import sys
from contextlib import chdir

import pandas as pd
import pytest
import yaml

from nfbench.cli.load import load_plan
from nfbench.config import load_bench
from nfbench.core.registry import plugin_names
from nfbench.datasets._base import PACKAGE, Counts, find_dataset
from nfbench.datasets._manifest import read_manifest
from nfbench.plan.plan import Plan
from tests.conftest import make_image_folder
from tests.in_process import run_experiment, run_job, run_snakemake
from tests.workflow.conftest import ROOT, environment

EXPERIMENTS = ROOT / "workflow" / "experiments"
TRIAL = '{"miniature": true, "data_root": "/nowhere"}'
MINIATURES = [name for name in plugin_names(PACKAGE) if find_dataset(name).has_miniature]


@pytest.fixture(scope="module")
def bench():
    return load_bench({"miniature": True, "data_root": "/nowhere"}, EXPERIMENTS)


@pytest.mark.parametrize("name", [path.stem for path in sorted(EXPERIMENTS.glob("*.yaml"))])
def test_every_experiment_has_its_cells_without_data(bench, name):
    experiment = bench.experiment(name)
    plan = Plan(bench)
    cells = plan.cells(name)
    assert bool(cells) == bool(experiment.grid)
    assert {bench.backbones[cell.backbone].weights for cell in cells} <= {"random"}
    assert {cell.seed for cell in cells} <= {0}
    for cell in cells:
        if find_dataset(bench.dataset(cell.dataset).dataset).has_miniature:
            assert plan.catalogue.root(cell.dataset).is_relative_to("results/miniature")


def test_rows_of_tables_follow_the_backbones_of_the_grid(bench):
    for experiment in bench.experiments.values():
        tags = {backbone.tag for block in experiment.grid for backbone in block.backbones}
        for table in experiment.tables.values():
            if table.kind in ("backbones", "methods"):
                assert {row.backbone.tag for row in table.rows if row.backbone} <= tags


def test_without_miniatures_nothing_changes(bench):
    usual = load_bench({}, EXPERIMENTS)
    assert {backbone.weights for backbone in usual.backbones.values()} == {"default", "random"}
    assert Plan(usual).catalogue.root("visa").as_posix() == "data/visa"
    assert usual.config.results_root == "results"


@pytest.fixture(scope="module")
def finished(new_checkout):
    """A checkout with the manifests of all miniatures, and the smoke test run on two of them."""
    checkout = new_checkout()
    values = yaml.safe_load((EXPERIMENTS / "smoke_datasets.yaml").read_text())
    named = {d: categories[0] for d, categories in values["grid"][0]["datasets"].items()}
    with chdir(checkout.folder):
        plan = load_plan(TRIAL)
        for dataset, category in named.items():
            run_job(plan.prepare(dataset, category))
    run_experiment(checkout.folder, "smoke_datasets", **json.loads(TRIAL), categories=["03", "all13"])
    return checkout


@pytest.mark.workflow
@pytest.mark.slow
def test_manifests_have_the_counts_of_the_miniatures(finished):
    images = finished.folder / "results/miniature/images"
    found = sorted((finished.folder / "results/miniature/manifests").glob("*/*.csv"))
    others = {
        name for name in MINIATURES if name == "folder" or name.startswith("real_iad_noisy")
    }  # no images of their own
    assert {path.parent.name.partition("-")[0] for path in found} == set(MINIATURES) - others
    for path in found:
        entries = read_manifest(path)
        name = path.parent.name.partition("-")[0]
        counts = find_dataset(name).miniature(images / name)[path.stem]  # which is there
        if name == "shanghaitech":  # every third of 52 frames
            counts = Counts(13 * 18, 12 * 9, 12 * 9)
        assert sum(entry.split == "train" for entry in entries) == counts.train
        assert sum(entry.label == 1 for entry in entries) == counts.test_anomalous
        assert sum(entry.split in ("train", "test") for entry in entries) == sum(counts)


@pytest.mark.workflow
@pytest.mark.slow
def test_results_say_that_they_are_of_a_trial(finished):
    table = finished.folder / "results/miniature/tables/smoke_datasets/smoke_datasets_pixel_aupro.csv"
    measured = pd.read_csv(table)
    assert set(measured.dataset) == {"btad", "shanghaitech-every3"}
    found = measured.set_index(["dataset", "backbone"])["mean"].dropna()
    assert found.between(0, 100).all()  # also with a mask that marks no pixel
    cached, online = (f"tf_efficientnet_lite0@64{kind}-random" for kind in ("", "-online"))
    assert abs(found["shanghaitech-every3", cached] - found["shanghaitech-every3", online]) < 0.5
    show = [sys.executable, "-m", "nfbench", "show", "smoke_datasets", "--config", '{"miniature": true}']
    done = subprocess.run(
        show, cwd=finished.folder, capture_output=True, text=True, check=False, env=environment()
    ).stdout
    assert "made-up images instead of its own" in " ".join(done.split())
    assert "RANDOM weights" in done
    assert "Epochs 1;" in " ".join(done.split())
    assert not (finished.folder / "results/tables").exists()


@pytest.mark.workflow
def test_rules_list_fetch_and_check(new_checkout):
    checkout = new_checkout()
    find_dataset("btad").miniature(checkout.folder / "data/btad")
    checkout.snakemake("results/sources.json", "results/checks/btad.json", "data/.nfbench/btad.json")
    report = json.loads((checkout.folder / "results/checks/btad.json").read_text())
    assert report["categories"]["02"]["test_anomalous"] == 12
    assert report["categories"]["02"]["official"]["test_anomalous"] == 200
    assert "btad" in {row["name"] for row in json.loads((checkout.folder / "results/sources.json").read_text())}
    printed = checkout.snakemake("data/.nfbench/lgg_mri.json", fails=True)
    assert "Kaggle asks for a login" in printed


@pytest.mark.workflow
def test_datasets_that_are_named_are_fetched_on_request_only(new_checkout):
    checkout = new_checkout()
    jobs = checkout.jobs("mvtec_local", "--config", "fetch=true", "categories=bottle,cable")
    assert (jobs["fetch_data"], jobs["prepare_data"]) == (1, 2)
    make_image_folder(checkout.folder / "data/mvtec_ad", "bottle")
    record = checkout.folder / "data/.nfbench/mvtec_ad.json"
    manifest = "results/manifests/mvtec_ad/bottle.csv"
    checkout.snakemake(manifest, str(record.relative_to(checkout.folder)))
    checkout.snakemake(manifest)  # it is of a dataset that was fetched from now on
    assert checkout.jobs(manifest, "--config", "fetch=true") == checkout.jobs(manifest) == {}
    record.unlink()
    shutil.rmtree(checkout.folder / "data/mvtec_ad")
    printed = run_snakemake(checkout.folder, "--dry-run", "mvtec_local", fails=True)
    assert "folder data/mvtec_ad does not exist" in printed
    assert "'nfbench data fetch mvtec_ad' downloads it" in printed
