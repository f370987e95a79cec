"""Estimates before a run match the files that it writes."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from nfbench.cli.load import load, load_plan
from nfbench.plan.plan import Plan
from nfbench.plan.specs import ExtractSpec, TrainSpec
from nfbench.plan.supposed import SupposedPlan, count_images, images_of_view
from nfbench.results.foresight import foresee
from nfbench.results.sizes import features_size, model_size
from tests.conftest import ROOT, make_image_folder
from tests.in_process import run_job, run_nfbench

BACKBONE = {"name": "tf_efficientnet_lite0", "input_size": 32, "weights": "random"}
VARIANTS = {
    "flow": {"method": "fastflow", "settings": {"epochs": 3, "batch_size": 3, "flow_steps": 1, "checkpoints": 2}},
    "gaussian": {"method": "padim", "settings": {"reduced_dimensions": 40}},
    "bank": {"method": "patchcore", "settings": {"coreset_ratio": 0.3}},
}


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An experiment on a folder of images: a method of each kind."""
    make_image_folder(tmp_path / "images", "part")
    (tmp_path / "workflow/experiments").mkdir(parents=True)
    (tmp_path / "config.yaml").write_text("experiment: own\n")
    experiment = {
        "title": "T",
        "datasets": {"mine": {"root": "images"}},
        "variants": VARIANTS,
        "grid": [{"methods": list(VARIANTS), "backbones": [BACKBONE], "datasets": {"mine": ["part"]}}],
        "tables": {"numbers": {"title": "T", "metric": "image_auroc"}},
    }
    (tmp_path / "workflow/experiments/own.yaml").write_text(json.dumps(experiment))
    monkeypatch.chdir(tmp_path)
    return SupposedPlan(load_plan())


def payload(path: Path) -> int:
    """Bytes of a file without its header."""
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r").nbytes
    return path.stat().st_size - 8 - int.from_bytes(path.read_bytes()[:8], "little")


def test_bytes_are_those_that_are_written(own):
    before, seen = foresee(own, ["own"]), set()
    assert before.stages["train_flow"].to_run == 3
    features = models = 0
    for job in own.aggregate("own").chain():
        if job.log in seen:
            continue
        seen.add(job.log)
        images = count_images(next(one for one in job.chain() if one.stage == "prepare_data").spec)
        if isinstance(job.spec, ExtractSpec):
            run_job(job)
            found = sum(map(payload, Path(job.spec.features).parent.glob("*.npy")))
            assert found == features_size(job.spec, images_of_view(job.spec, images))
            features += found
        elif isinstance(job.spec, TrainSpec):
            run_job(job)
            files = (Path(job.spec.run, name) for name in ("model.safetensors", "checkpoints.safetensors"))
            found, size = sum(map(payload, files)), model_size(job.spec, images.counts.train)
            assert found == size.published
            models += found
        elif job.stage == "prepare_data":
            run_job(job)
    assert (before.disk.features, before.disk.kept) == (features, models)
    after = foresee(SupposedPlan(load_plan()), ["own"])
    assert after.stages["train_flow"].done == 3
    assert after.disk.there >= features + models


def test_the_page_says_what_is_done_and_needed(own):
    page = run_nfbench(Path(), "plan", "--no-calibration")
    assert "train_flow" in page
    assert "1 categories by the files on disk" in page
    assert "warning" not in page


def test_a_disk_that_is_too_small_is_one_line_with_what_to_set(own, monkeypatch):
    monkeypatch.setattr("nfbench.results.foresight.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1})())
    (line,) = run_nfbench(Path(), "check_start", "own").splitlines()
    assert line.startswith("warning: the disk is too small")
    assert "keep_models" in line
    assert not run_nfbench(Path(), "check_start").splitlines()


def test_the_model_of_a_unified_experiment_is_not_offered_for_deletion(own, monkeypatch):
    path = Path("workflow/experiments/own.yaml")
    experiment = json.loads(path.read_text())
    experiment["grid"][0] |= {"setting": "unified", "methods": ["flow"]}
    path.write_text(json.dumps(experiment))
    monkeypatch.setattr("nfbench.results.foresight.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1})())
    (line,) = run_nfbench(Path(), "check_start", "own").splitlines()
    assert "keep_models" not in line
    assert "fewer 'seeds'" in line


def test_times_are_calibrated_where_no_job_has_finished(own):
    page = run_nfbench(Path(), "plan")
    (line,) = (line for line in page.splitlines() if line.strip().startswith("train_flow"))
    assert "calibration (1)" in line
    assert "unknown (2)" in line


@pytest.mark.parametrize("experiment", ["uflow_table1", "uflow_table2"])
def test_the_first_table_fits_a_disk_of_120_gb_without_its_dataset(experiment, tmp_path):
    bench = load(json.dumps({"seeds": 3, "data_root": str(tmp_path), "results_root": str(tmp_path)}), ROOT)
    found = foresee(SupposedPlan(Plan(bench)), [experiment])
    assert found.absent == ["mvtec_ad"]
    assert found.kept == ["none"]
    assert found.disk.peak < 120e9


@pytest.mark.parametrize(("at_once", "smaller"), [(1, True), (8, False)])
def test_features_that_do_not_stay_are_foreseen_for_those_categories_that_share_a_disk(own, at_once, smaller):
    """Of one training at a time: those of two categories, and all of a model of all categories."""
    names = ["one", "two", "three", "part"]
    for name in names[:3]:
        make_image_folder(Path("images"), name)
    path = Path("workflow/experiments/own.yaml")
    experiment = json.loads(path.read_text())
    experiment["grid"][0]["datasets"] = {"mine": names}

    def disk(**config):
        path.write_text(json.dumps(experiment))
        return foresee(SupposedPlan(load_plan(json.dumps(config))), ["own"], at_once).disk

    kept, passing = disk(), disk(keep_features=False)
    assert passing.features == kept.features - kept.passing
    assert passing.features == (kept.features / 2 if smaller else kept.features)
    assert passing.peak == kept.peak - kept.passing
    experiment["grid"][0] |= {"setting": "unified", "methods": ["flow"]}
    assert disk(keep_features=False).features == disk().features == kept.features


@pytest.mark.slow
def test_the_experiments_of_all_papers_one_after_the_other_fit_300_gb(tmp_path):
    """With a disk of their own from the first to the last: features go, models stay where experiments say so.

    Benchmarks of datasets and of backbones are no paper's experiments.
    """
    config = {"data_root": str(tmp_path), "results_root": str(tmp_path), "keep_features": False}
    bench = load(json.dumps(config), ROOT)
    others = "^smoke|_local$|^quickstart$|^own_images$|^flows_on_backbones$|^mvtec_ad2$|^mvtec_loco$|^real_iad$"
    papers = [name for name in bench.experiments if not re.search(others, name)]
    disk = foresee(SupposedPlan(Plan(bench)), papers).disk
    assert len(papers) >= 25
    assert disk.peak < 300e9 < disk.all_models
