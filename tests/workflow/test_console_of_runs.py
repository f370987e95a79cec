"""The console in real runs of Snakemake: what a job, a failure, and a run with details print."""

import pytest

from tests.conftest import make_image_folder

pytestmark = pytest.mark.workflow


def test_a_job_is_one_line_and_the_log_of_the_run_keeps_the_rest(new_checkout):
    checkout = new_checkout()
    printed = checkout.snakemake("results/sources.json")
    assert "1 job: 1 list_data" in printed
    assert "[1/1] List the datasets that can be downloaded (" in printed
    assert "Select jobs" not in printed
    (log,) = (checkout.folder / ".snakemake" / "log").iterdir()
    assert "Finished jobid" in log.read_text()


def test_details_and_dry_runs_print_as_snakemake_does(new_checkout):
    checkout = new_checkout()
    assert "Building DAG of jobs" in checkout.snakemake("--dry-run", "results/sources.json")
    printed = checkout.snakemake("--printshellcmds", "results/sources.json")
    assert "data list --data-root" in printed
    assert "Finished jobid" in printed


def test_a_failure_names_the_job_its_error_and_how_to_continue(new_checkout):
    checkout = new_checkout()
    make_image_folder(checkout.folder / "data" / "my_parts", "gear")
    image = next((checkout.folder / "data/my_parts/gear/train/good").iterdir())
    image.write_bytes(b"no image")
    own = "datasets={my_parts: {root: data/my_parts}}"
    printed = checkout.snakemake("results/manifests/my_parts/gear.csv", "--config", own, fails=True)
    lines = printed.splitlines()
    failed = next(number for number, line in enumerate(lines) if line.startswith("FAILED  "))
    assert "Check the images of my_parts, gear" in lines[failed]
    assert lines[failed + 1] == "  results/logs/prepare_data/my_parts/gear.log:"
    assert image.name in lines[failed + 2]
    assert "Fix the cause and run the same command again" in printed
    assert "Traceback" not in printed
    assert "CalledProcessError" not in printed
    assert "--spec" not in printed
