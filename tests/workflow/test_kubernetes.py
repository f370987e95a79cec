"""profiles/kubernetes, as far as it goes without a cluster: what its pods would do, and that they share it out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import environment

pytestmark = pytest.mark.workflow


@pytest.fixture
def job(repository):
    return yaml.safe_load((repository / "profiles" / "kubernetes" / "job.yaml").read_text())


def container(job: dict) -> dict:
    (found,) = job["spec"]["template"]["spec"]["containers"]
    return found


def test_each_pod_makes_the_files_of_its_category(new_checkout, job):
    """The shell script of the pods, with the smoke test's categories, in a dry run."""
    checkout = new_checkout()
    script = container(job)["args"][0].replace("(bottle cable)", "(fabric washer)")
    script = script.replace("experiment=mvtec_local", "experiment=smoke").replace("snakemake", "snakemake --dry-run", 1)
    pods = []
    for index in range(job["spec"]["completions"]):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        variables = {**environment(), "JOB_COMPLETION_INDEX": str(index), "PATH": path}
        done = subprocess.run(
            [*container(job)["command"], script],
            cwd=checkout.folder, capture_output=True, text=True, check=False, env=variables,
        )  # fmt: skip
        printed = done.stdout + done.stderr
        assert done.returncode == 0, printed
        pods.append(
            {name for files in re.findall("Missing output files: ([^;\n]+)", printed) for name in files.split(", ")}
        )
    first, second = pods
    assert first
    assert not first & second
    assert all("/fabric/" in name or name.endswith("/fabric.csv") for name in first)
    assert all("/washer/" in name or name.endswith("/washer.csv") for name in second)
    whole = checkout.jobs("smoke", "--until", "evaluate_run")
    assert len([name for name in first | second if name.endswith("run.json")]) == whole["evaluate_run"]


def test_the_job_is_whole(job, repository):
    """A pod for each category, a volume for each mount, and no more GPUs promised to Snakemake than a pod has."""
    one = container(job)
    (listed,) = [line for line in one["args"][0].splitlines() if line.startswith("categories=")]
    assert len(listed.partition("=")[2].strip("()").split()) == job["spec"]["completions"]
    volumes = {volume["name"] for volume in job["spec"]["template"]["spec"]["volumes"]}
    assert {mount["name"] for mount in one["volumeMounts"]} == volumes
    profile = yaml.safe_load((repository / "profiles" / "kubernetes" / "profile.yaml").read_text())
    assert profile["resources"] == [f"gpu={one['resources']['limits']['nvidia.com/gpu']}"]
