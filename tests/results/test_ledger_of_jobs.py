"""Jobs before a cell: a failed search, union, class or pseudo-anomaly is distinguished from one not started."""

import os
import socket
from pathlib import Path

import pytest
import yaml

from nfbench.cli.load import load_plan
from nfbench.stages.gather import stock_of

LITE, RESNET = "tf_efficientnet_lite0", "resnet18.tv_in1k"
STUDY = "one-class/mvtec_ad/bottle/searched"
UNION = {"joined": {"union": {"mvtec_ad": ["bottle"], "visa": ["pcb1"]}}}


@pytest.fixture
def write_experiment(tmp_path, monkeypatch):
    """Write an experiment ``e`` of one block, on features of ResNet-18."""
    monkeypatch.chdir(tmp_path)

    def write(method, variant=None, dataset="mvtec_ad", categories=("bottle",), setting="one-class"):
        block = {"methods": [method], "setting": setting, "datasets": {dataset: categories}, "backbones": [RESNET]}
        experiment = {
            "title": "E",
            "grid": [block],
            "datasets": UNION,
            "variants": {method: variant} if variant else {},
        }
        Path("workflow/experiments").mkdir(parents=True)
        Path("workflow/experiments/e.yaml").write_text(yaml.safe_dump(experiment))
        Path("config.yaml").write_text("experiment: e\n")

    return write


@pytest.fixture
def search(write_experiment):
    """A variant that is searched for on two backbones, whose features of training images are there."""
    searched = {"method": "fastflow", "search": {"backbones": [RESNET, LITE], "objective": "validation", "workers": 2}}
    write_experiment("searched", searched)
    for backbone in (RESNET, LITE):
        log(f"extract_features/{backbone}@256/mvtec_ad/bottle/train", minutes=15)


def log(path, end="INFO finished", minutes=0, pid=1):
    """Write the log of a job whose last line is that many minutes old."""
    file = Path("results/logs") / f"{path}.log"
    file.parent.mkdir(parents=True, exist_ok=True)
    start = f"2026-01-01 00:00:00,000 INFO process {pid} on {socket.gethostname()}: nfbench x\n"
    file.write_text(f"{start}2026-01-01 00:00:01,000 {end}\n")
    written = file.stat().st_mtime - 60 * minutes
    os.utime(file, (written, written))


def told():
    """Status and reason of each cell that ought to be done, by category."""
    accounts = [account for account in stock_of(load_plan(), "e").accounts if account.status != "skipped"]
    return {account.cell.category: (account.status, account.reason) for account in accounts}


@pytest.mark.parametrize("rule", ["create_study", "search_hyperparameters", "summarize_study"])
def test_a_search_that_failed_is_a_failure_of_its_cells(search, rule):
    worker = "/worker1" if rule == "search_hyperparameters" else ""
    log(f"{rule}/{STUDY}{worker}", "ERROR no trial ended")
    assert told() == {"bottle": ("failed", "no trial ended")}


def test_a_worker_that_failed_is_told_whatever_the_others_did_since(search):
    log(f"create_study/{STUDY}", minutes=10)
    log(f"search_hyperparameters/{STUDY}/worker1", "ERROR out of memory", minutes=9)
    log(f"search_hyperparameters/{STUDY}/worker0", minutes=1)
    assert told() == {"bottle": ("failed", "out of memory")}


def test_a_search_that_runs_is_shown(search):
    log(f"create_study/{STUDY}", minutes=10)
    log(f"search_hyperparameters/{STUDY}/worker0", "INFO trial 3 of 30", pid=os.getpid())
    assert told() == {"bottle": ("running", "search_hyperparameters: trial 3 of 30")}


def test_a_search_waits_for_the_features_of_all_its_backbones(search):
    log(f"extract_features/{LITE}@256/mvtec_ad/bottle/test", "ERROR disk is full", minutes=20)
    assert told() == {"bottle": ("failed", "disk is full")}


@pytest.mark.parametrize(
    ("job", "reason"),
    [(f"create_study/{STUDY}", "its search has not started yet"),
     (f"search_hyperparameters/{STUDY}/worker0", "its search is not finished yet"),
     (f"summarize_study/{STUDY}", "not trained yet")],
)  # fmt: skip
def test_cells_between_two_jobs_of_a_search_are_missing(search, job, reason):
    log(job)
    assert told() == {"bottle": ("missing", reason)}


@pytest.mark.parametrize("job", ["prepare_data", f"extract_features/{RESNET}@256"])
def test_images_of_a_union_are_those_of_its_datasets(write_experiment, job):
    write_experiment("fastflow", dataset="joined", categories="available")
    log(f"{job}/visa/pcb1{'/test' if 'extract' in job else ''}", "ERROR no such file")
    assert told() == {"bottle": ("missing", "not run yet"), "pcb1": ("failed", "no such file")}


def test_a_unified_training_waits_for_all_its_classes(write_experiment):
    write_experiment("fastflow", dataset="joined", categories="available", setting="unified")
    log(f"extract_features/{RESNET}@256/visa/pcb1/train", "ERROR disk is full", minutes=5)
    log(f"extract_features/{RESNET}@256/mvtec_ad/bottle/train")
    assert told() == dict.fromkeys(("bottle", "pcb1"), ("failed", "disk is full"))


def test_a_unified_training_does_not_wait_for_test_images_of_other_classes(write_experiment):
    write_experiment("fastflow", dataset="joined", categories="available", setting="unified")
    log(f"extract_features/{RESNET}@256/visa/pcb1/test", "ERROR disk is full")
    assert told() == {"bottle": ("missing", "not run yet"), "pcb1": ("failed", "disk is full")}


def test_pseudo_anomalies_that_failed_are_a_failure_of_their_cells(write_experiment):
    write_experiment("blended", {"method": "nfad", "anomalies": {"generator": "blend", "views": 2}})
    log(f"extract_features/{RESNET}@256/mvtec_ad/bottle/pseudo-blend-k2", "ERROR no foreground", minutes=5)
    log(f"extract_features/{RESNET}@256/mvtec_ad/bottle/train")
    assert told() == {"bottle": ("failed", "no foreground")}


def test_a_failure_is_forgotten_once_a_job_before_it_was_done_again(write_experiment):
    write_experiment("fastflow")
    run = f"one-class/mvtec_ad/bottle/fastflow/{RESNET}@256/seed0"
    log(f"train_flow/{run}", "ERROR loss is NaN", minutes=5)
    log(f"extract_features/{RESNET}@256/mvtec_ad/bottle/test")  # of which the training knows nothing
    assert told() == {"bottle": ("failed", "loss is NaN")}
    log("prepare_data/mvtec_ad/bottle")
    log(f"extract_features/{RESNET}@256/mvtec_ad/bottle/train")
    assert told() == {"bottle": ("missing", "not trained yet")}
