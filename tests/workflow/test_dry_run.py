"""The grid as Snakemake sees it, and errors before any job runs."""

import os
import re
from pathlib import Path

import pytest

from nfbench.cli.load import load_plan
from tests.conftest import ROOT
from tests.in_process import run_snakemake

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def checkout(new_checkout):
    return new_checkout()


@pytest.fixture
def mvtec_folder(tmp_path):
    for category in ("bottle", "screw", "not_a_category"):
        (tmp_path / "mvtec_ad" / category / "train" / "good").mkdir(parents=True)
    return tmp_path


def test_jobs_of_the_embedded_default(checkout):
    # 4 categories, 2 methods, 2 seeds
    assert checkout.jobs() == {
        "prepare_data": 4, "extract_features": 8, "train_flow": 16, "score_run": 16, "evaluate_run": 16,
        "aggregate_results": 1, "build_table": 3, "build_figure": 3, "build_report": 1, "all": 1, "total": 69,
    }  # fmt: skip


@pytest.mark.parametrize("profile", ["default", "ci"])
def test_jobs_of_the_smoke_test(checkout, profile):
    assert checkout.jobs("smoke", "--workflow-profile", f"profiles/{profile}") == {
        "prepare_data": 2, "extract_features": 4, "train_flow": 4, "score_run": 4, "evaluate_run": 4,
        "aggregate_results": 1, "build_table": 3, "build_figure": 6, "build_report": 1, "smoke": 1, "total": 30,
    }  # fmt: skip


def test_mvtec_local_takes_the_categories_it_finds(checkout, mvtec_folder):
    jobs = checkout.jobs("mvtec_local", "--config", f"data_root={mvtec_folder}", "seeds=3")
    assert jobs["prepare_data"] == 2
    assert jobs["train_flow"] == jobs["score_run"] == jobs["evaluate_run"] == 2 * 2 * 3
    jobs = checkout.jobs("mvtec_local", "--config", f"data_root={mvtec_folder}", "categories=screw")
    assert jobs["train_flow"] == 1 * 2 * 3


def test_the_ledger_reads_the_logs_of_these_jobs(checkout, monkeypatch):
    monkeypatch.chdir(checkout.folder)
    experiments = ("smoke_search", "smoke_unified", "smoke_anomalies")
    printed = run_snakemake(checkout.folder, "--dry-run", "--printshellcmds", *experiments)
    logs = set(re.findall(r"--log (\S+)", printed))
    plan = load_plan()
    cells = [cell for name in experiments for cell in plan.cells(name)]
    known = {str(job.log) for cell in cells for job in plan.evaluate(cell).chain()}
    after = ("aggregate_results", "build_table", "build_figure", "build_report")
    assert known == {log for log in logs if Path(log).parts[2] not in after}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "sees=3"], "config.yaml: unknown key 'sees'; did you mean 'seeds'?"),
        (["--config", "device=gpu"], "'device': Input should be 'auto', 'cpu' or 'cuda'"),
        (["mvtec_local", "--config", "data_root=/nowhere"], "folder /nowhere/mvtec_ad does not exist; set 'data_root'"),
        (["smoke", "--config", "categories=fabrik"], "no category 'fabrik'; did you mean 'fabric'?"),
        (["--config", "experiment=quikstart"], "unknown experiment 'quikstart'; did you mean 'quickstart'?"),
    ],
)
def test_wrong_input_is_one_message(checkout, arguments, message):
    printed = run_snakemake(checkout.folder, "--dry-run", *arguments, fails=True)
    assert printed.count(message) == 1
    assert "Traceback (most recent call last)" not in printed


def test_wrong_setting_of_a_variant_stops_before_the_first_job(new_checkout):
    checkout = new_checkout()
    path = checkout.folder / "workflow" / "experiments" / "smoke.yaml"
    path.write_text(path.read_text().replace("epochs: 2", "epoch: 2"))
    printed = checkout.snakemake("smoke", fails=True)
    assert "error: variant 'fastflow-smoke': setting 'epoch' of method 'fastflow'" in printed
    assert "did you mean 'epochs'?" in printed
    assert not os.path.exists(checkout.folder / "results")


def test_missing_config_file_is_one_message(new_checkout):
    checkout = new_checkout()
    (checkout.folder / "config.yaml").unlink()
    assert "config.yaml" in run_snakemake(checkout.folder, "--dry-run", fails=True)


def test_evaluations_take_no_gpu():
    """A dry run prints messages instead of resources."""
    text = "".join(path.read_text() for path in (ROOT / "workflow" / "rules").glob("*.smk"))
    rules = re.split(r"^(?:local)?rule (\w+):$", text, flags=re.M)[1:]
    takes = {name for name, body in zip(rules[::2], rules[1::2], strict=True) if "gpu=GPUS" in body}
    assert takes == {"extract_features", "train_flow", "score_run", "search_hyperparameters"}
