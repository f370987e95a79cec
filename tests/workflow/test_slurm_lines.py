"""What Slurm is asked for by profiles/slurm, where there is no Slurm: its commands are played by a stub."""

import os
import shlex
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
import yaml

from nfbench.cli.load import load_plan
from nfbench.core.seals import write_sealed
from nfbench.plan import paths
from nfbench.plan.memory import memory_mb
from tests.workflow import slurm_stub
from tests.workflow.conftest import environment

pytestmark = pytest.mark.workflow
pytest.importorskip("snakemake_executor_plugin_slurm")

TAG = "tf_efficientnet_lite0@64-random"
RUN = f"results/runs/one-class/synthetic-smoke/fabric/fastflow-smoke/{TAG}/seed0"
TRAINED = [f"{RUN}/{name}" for name in paths.TRAINED]
BENCHMARK = f"{RUN}.tsv".replace("/runs/", "/benchmarks/train_flow/")
FEATURES = f"results/features/{TAG}/synthetic-smoke/fabric/train/meta.json"
MANIFEST = "results/manifests/synthetic-smoke/fabric.csv"


class Played:
    """A checkout with a stub of Slurm before anything else on the path."""

    def __init__(self, checkout, folder: Path) -> None:
        self.checkout, self.folder = checkout, folder
        (folder / "bin").mkdir()
        for command in slurm_stub.COMMANDS:
            path = folder / "bin" / command
            path.write_text(f'#!/bin/sh\nexec {sys.executable} {slurm_stub.__file__} {command} "$@"\n')
            path.chmod(0o755)

    def submit(self, target: str, states: str, outputs: list[str], *arguments: str) -> tuple[int, str, list[dict]]:
        """Exit status, what was printed, and the options of each job that was submitted."""
        (self.folder / "states").write_text(states)
        (self.folder / "outputs").write_text(" ".join(outputs))
        path = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        command = [
            "timeout", "-k", "5", "400", sys.executable, "-m", "snakemake", target,
            "--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "1",
            "--latency-wait", "1", *arguments,
        ]  # fmt: skip
        variables = {**environment(), "PATH": path, "SLURM_STUB": str(self.folder)}
        done = subprocess.run(
            command, cwd=self.checkout.folder, capture_output=True, text=True, check=False, env=variables
        )
        submitted = self.folder / "submitted.txt"
        assert submitted.exists(), done.stdout + done.stderr
        return done.returncode, done.stdout + done.stderr, [asked(line) for line in submitted.read_text().splitlines()]


def asked(line: str) -> dict[str, str]:
    """Options of an sbatch line by name."""
    words, found = shlex.split(line), {}
    for word, after in zip(words, [*words[1:], ""], strict=True):
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            found[name] = value if equals else after
    return found


def prepared(folder):
    """Stand in for the manifest and the features of a training; return the MB that it asks for."""
    with chdir(folder):
        plan = load_plan()
        cell = next(c for c in plan.cells("smoke") if (c.category, c.method) == ("fabric", "fastflow-smoke"))
        features = plan.extract(cell.backbone, cell.dataset, cell.category, "train").spec
        for path in (MANIFEST, FEATURES):
            Path(path).parent.mkdir(parents=True)
        Path(MANIFEST).touch()
        write_sealed(FEATURES, {"spec": features.model_dump(mode="json")})
        return memory_mb(plan.train(cell).spec, 0)


@pytest.fixture
def played(new_checkout, tmp_path):
    return Played(new_checkout(), tmp_path)


def test_a_training_that_fails_is_submitted_again_with_more(played):
    memory = prepared(played.checkout.folder)
    states = "REFUSED TIMEOUT COMPLETED"
    status, printed, jobs = played.submit(TRAINED[0], states, [*TRAINED, BENCHMARK], "--config", "device=cuda")
    assert status == 0, printed
    assert printed.count("Trying to restart job") == 2
    assert "SLURM status is: 'TIMEOUT'" in printed
    assert [(job["-t"], job["--mem"]) for job in jobs] == [
        ("480", str(memory)),
        ("960", str(2 * memory)),
        ("1440", str(4 * memory)),
    ]
    for job in jobs:
        assert (job["-p"], job["--gpus"], job["--cpus-per-task"]) == ("gpu", "1", "1")
        assert job["-D"] == str(played.checkout.folder)
        assert "-A" not in job
        assert "train_flow:setting=one-class" in job["--wrap"]
    assert [f"--attempt {number}" in job["--wrap"] for number, job in enumerate(jobs, start=1)] == [True] * 3


def test_a_job_that_fails_each_time_is_an_error(played):
    """And one without a GPU goes to the other partition; the profile's lines for partition and account count."""
    profile = played.checkout.folder / "profiles" / "slurm" / "profile.yaml"
    text = profile.read_text().replace("slurm_partition: main", "slurm_partition: long\n  slurm_extra: \"'--nice=5'\"")
    profile.write_text(text)
    status, printed, jobs = played.submit(MANIFEST, "REFUSED " * 3, [])
    assert status == 1
    assert printed.count("Trying to restart job") == 2
    assert [(job["-p"], job["-t"], job["--mem"], job["--nice"]) for job in jobs] == [
        ("long", "120", "1000", "5"), ("long", "240", "2000", "5"), ("long", "480", "4000", "5"),
    ]  # fmt: skip
    assert not any("--gpus" in job for job in jobs)


def test_the_profile_sets_what_its_comments_promise(played):
    """Lines that a user takes the comment sign from."""
    profile = played.checkout.folder / "profiles" / "slurm" / "profile.yaml"
    text = profile.read_text()
    for line in ("runtime: 1440", "mem_mb: min(16000 * attempt, 30000)", "slurm_account: my_account"):
        assert f"# {line}\n" in text
        text = text.replace(f"# {line}\n", f"{line}\n")
    profile.write_text(text)
    prepared(played.checkout.folder)
    status, printed, jobs = played.submit(
        TRAINED[0], "REFUSED COMPLETED", [*TRAINED, BENCHMARK], "--config", "device=cpu"
    )
    assert status == 0, printed
    assert [(job["-t"], job["--mem"], job["-A"]) for job in jobs] == [
        ("1440", "16000", "my_account"), ("1440", "30000", "my_account")
    ]  # fmt: skip
    assert not any("--gpus" in job for job in jobs)


def test_an_option_replaces_a_whole_block_of_the_profile(played):
    """As docs/cluster.md warns: the partition of trainings is gone with the rest of ``set-resources``."""
    memory = prepared(played.checkout.folder)
    options = ["--retries", "0", "--set-resources", "train_flow:runtime=60"]
    status, _, (job,) = played.submit(TRAINED[0], "REFUSED", [], *options)
    assert status == 1
    assert (job["-p"], job["-t"], job["--mem"]) == ("main", "60", str(memory))


def test_the_profile_plans_the_same_jobs_without_a_cluster(new_checkout):
    checkout = new_checkout()
    here = checkout.jobs("smoke", "--config", "device=cuda")
    assert checkout.jobs("smoke", "--config", "device=cuda", "--workflow-profile", "profiles/slurm") == here


def test_the_profile_does_not_limit_the_gpus_of_a_cluster(repository):
    """A line that profiles/default needs: with it, one job at a time would take a GPU of all that a cluster has."""
    assert "gpu=1" in (repository / "profiles" / "default" / "profile.yaml").read_text()
    assert (
        not {"resources", "cores"}
        & yaml.safe_load((repository / "profiles" / "slurm" / "profile.yaml").read_text()).keys()
    )
