"""Before the first job: a GPU that is not there stops a run where jobs run here, and a small disk is a warning."""

import os

import pytest
import torch

from nfbench.core.errors import NfbenchError

MANIFEST = "results/manifests/synthetic-smoke/fabric.csv"
NO_GPU = "torch sees no GPU on"
pytestmark = [
    pytest.mark.workflow,
    pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
]


@pytest.fixture(scope="module")
def checkout(new_checkout):
    return new_checkout()


def test_cuda_without_a_gpu_is_one_message_before_the_first_job(checkout):
    printed = checkout.snakemake("smoke", "--config", "device=cuda", fails=True)
    assert printed.count(f"error: 'device' is cuda, but {NO_GPU}") == 1
    assert "Traceback" not in printed
    assert not (checkout.folder / "results").exists()


def test_a_disk_that_is_too_small_is_said_before_the_first_job(checkout, monkeypatch):
    """In the one process of all that is checked; the run goes on, here to a job that fails."""

    def fail(spec):
        raise NfbenchError("the first job")

    monkeypatch.setattr("nfbench.stages.prepare.prepare_data", fail)
    monkeypatch.setattr("nfbench.results.foresight.shutil.disk_usage", lambda _: type("Usage", (), {"free": 1})())
    printed = checkout.snakemake("smoke", fails=True)
    assert printed.count("warning: the disk is too small") == 1
    assert printed.index("warning: the disk is too small") < printed.index("error: the first job")


def test_jobs_that_need_no_gpu_run_without(checkout):
    assert NO_GPU not in checkout.snakemake(MANIFEST, "--config", "device=cuda")
    assert (checkout.folder / MANIFEST).exists()


def test_a_login_node_needs_no_gpu(checkout, tmp_path, monkeypatch):
    """The jobs are submitted, here to a Slurm that refuses them."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    for command in ("sbatch", "sinfo", "sacct", "squeue"):
        (tmp_path / command).write_text("#!/bin/sh\nexit 1\n")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    slurm = ("--executor", "slurm", "--jobs", "1", "--slurm-init-seconds-before-status-checks", "1")
    printed = checkout.snakemake("smoke", *slurm, "--config", "device=cuda", fails=True)
    assert NO_GPU not in printed
    assert "Job submission failed" in printed
