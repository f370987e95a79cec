"""Commands that run in the test process print and raise the same as in their own process."""

import json
import re

import pytest
import yaml

from nfbench.core.errors import NfbenchError
from tests.in_process import DRY_RUN, count_jobs, planned_jobs, run_nfbench, run_snakemake
from tests.workflow.conftest import Checkout

pytestmark = pytest.mark.slow


def test_dry_runs_see_each_change_and_the_same_as_a_process(tmp_path):
    checkout = Checkout(tmp_path)
    planned = planned_jobs(tmp_path, "smoke")
    assert planned == count_jobs(checkout.snakemake_apart(*DRY_RUN, "smoke"))
    path = tmp_path / "workflow" / "experiments" / "smoke.yaml"
    values = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**values, "seeds": values.get("seeds", 1) + 1}))
    assert planned_jobs(tmp_path, "smoke")["train_flow"] > planned["train_flow"]
    assert "nonsense" in run_snakemake(tmp_path, "--cores", "1", "--dry-run", "nonsense", fails=True)


def test_a_job_leaves_what_it_leaves_as_a_process(tmp_path):
    checkout, left = Checkout(tmp_path), []
    for run in (checkout.snakemake, checkout.snakemake_apart):
        run("results/sources.json", "--force")
        log = (tmp_path / "results/logs/list_data/sources.log").read_text()
        (metadata,) = (json.loads(path.read_text()) for path in (tmp_path / ".snakemake/metadata").iterdir())
        known = {key: value for key, value in metadata.items() if key not in ("starttime", "endtime", "job_hash")}
        same = re.sub(r"^\S+ \S+ |(?<=process )\d+", "", log, flags=re.M)  # but for times and process
        left.append(((tmp_path / "results/sources.json").read_text(), same, known))
    assert left[0] == left[1]
    assert left[0][1].endswith("INFO finished\n")


def test_errors_and_failures_are_raised(tmp_path):
    with pytest.raises(NfbenchError, match="unknown method 'uflw'"):
        run_nfbench(tmp_path, "describe", "uflw", "--backbone", "resnet18.a1_in1k")
    with pytest.raises(AssertionError, match="No such option"):
        run_nfbench(tmp_path, "describe", "--nonsense")
    printed = Checkout(tmp_path).snakemake("results/checks/btad.json", fails=True)
    assert "error: folder data/btad does not exist" in printed
