"""profiles/slurm on a real Slurm: a run from images to tables, and trainings whose jobs meet every fault there is."""

import copy
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.slurm.cluster import Cluster, environment_of
from tests.workflow.conftest import Checkout, environment

pytestmark = pytest.mark.slurm

# this Slurm has no accounting, and its jobs take seconds
SLURM = [
    "--workflow-profile", "profiles/slurm", "--slurm-status-command", "squeue",
    "--slurm-init-seconds-before-status-checks", "12", "--latency-wait", "10",
]  # fmt: skip
LOCAL = ("aggregate_results", "build_table", "build_figure", "build_report", "all", "smoke")
FAULTS = """
title: Trainings that are disturbed
seeds: 4
datasets:
  synthetic-smoke: {dataset: synthetic, max_train: 12, max_test_normal: 4, max_test_anomalous: 8}
variants:
  fastflow-long: {method: fastflow, settings: {epochs: 150, batch_size: 4, flow_steps: 2, checkpoints: 2}}
grid:
  - methods: [fastflow-long]
    backbones:
      - {name: tf_efficientnet_lite0, input_size: 64, weights: random}
    datasets:
      synthetic-smoke: [fabric]
"""
CRASHED, OUT_OF_TIME, CANCELLED, UNSEEN = range(4)
METRICS = ("selections", "by_epoch", "parameters", "contour")


def test_from_images_to_tables(cluster, checkout, tell):
    """The quickstart on made-up images, with every rule as a job of Slurm but those that gather results."""
    arguments = ["--config", "miniature=true", "categories=washer", "device=cpu"]
    planned = checkout.jobs(*arguments)
    checkout.snakemake_apart(*SLURM, *arguments)
    results = checkout.folder / "results" / "miniature"
    assert "washer" in (results / "tables" / "quickstart" / "quickstart_pixel_auroc.csv").read_text()
    submitted = planned["total"] - sum(planned[rule] for rule in LOCAL)
    assert [job["JobState"] for job in cluster.finished()] == ["COMPLETED"] * submitted
    assert checkout.jobs(*arguments) == {}
    tell(expected=planned["evaluate_run"], found=len(list(results.rglob("run.json"))))


def test_training_and_scoring_as_one_job(cluster, checkout, tell):
    """The commented lines of the profile: each cell is one job of Slurm less."""
    profile = checkout.folder / "profiles" / "slurm" / "profile.yaml"
    commented = re.compile(r"^# (groups:|  - \w+=run)$", re.M)
    text, lines = commented.subn(r"\1", profile.read_text())
    assert lines == 3
    profile.write_text(text)
    before, arguments = len(cluster.finished()), ["smoke", "--config", "device=cpu"]
    planned = checkout.jobs(*arguments)
    checkout.snakemake_apart(*SLURM, *arguments)
    assert planned["train_flow"] == planned["score_run"] > 1
    submitted = planned["total"] - sum(planned.get(rule, 0) for rule in LOCAL) - planned["score_run"]
    assert [job["JobState"] for job in cluster.finished()[before:]] == ["COMPLETED"] * submitted
    assert checkout.jobs(*arguments) == {}
    tell(expected=planned["evaluate_run"], found=len(list(checkout.folder.rglob("run.json"))))


class Training:
    """The process that trains a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.run = next(folder.glob("results/runs/*/*/*/*/*")) / f"seed{seed}"
        self.process = psutil.Process(pid_of(folder, seed))
        found = environment_of(self.process)
        self.job, self.node = found["SLURM_JOB_ID"], found["SLURMD_NODENAME"]
        self.process.suspend()
        assert not (self.run / "training.json").exists(), "the training ended before it could be disturbed"


def pid_of(folder: Path, seed: int) -> int:
    """ID of the process that writes the log of a training; 0 before it starts."""
    for path in folder.glob(f"results/logs/train_flow/*/*/*/*/*/seed{seed}.log"):
        if found := re.match(r"\S+ \S+ INFO process (\d+) on ", path.read_text(errors="replace")):
            return int(found[1])
    return 0


def wait_for(condition, process: subprocess.Popen, seconds: float = 240):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        assert process.poll() is None, "Snakemake ended early"
        time.sleep(0.05)
    raise AssertionError("waited too long")


@pytest.fixture
def undisturbed(checkout, tmp_path_factory) -> Checkout:
    """The same trainings on this machine, without Slurm; ``checkout`` has the features that they are made of."""
    (checkout.folder / "workflow" / "experiments" / "faults.yaml").write_text(FAULTS)
    checkout.snakemake_apart("faults", "--until", "extract_features", "--config", "device=cpu")
    other = tmp_path_factory.mktemp("undisturbed") / "checkout"
    shutil.copytree(checkout.folder, other)
    whole = copy.copy(checkout)
    whole.folder = other
    whole.snakemake_apart("faults", "--until", "evaluate_run", "--config", "device=cpu")
    return whole


@pytest.fixture
def snakemake(cluster, checkout, undisturbed, tmp_path) -> Iterator[subprocess.Popen]:
    """The same trainings as jobs of Slurm, one of them with a time limit of a minute for its first try."""
    limits = f"train_flow:runtime=10 - 9 * (int(wildcards.seed) == {OUT_OF_TIME} and attempt < 2)"
    command = [
        sys.executable, "-m", "snakemake", *SLURM, "faults", "--until", "evaluate_run", "--config", "device=cpu",
        "--set-resources", limits, "train_flow:mem_mb=20000",
    ]  # fmt: skip
    variables = {**environment(), "NFBENCH_CHECKPOINT_SECONDS": "0"}
    with open(tmp_path / "snakemake.log", "w") as output:
        process = subprocess.Popen(command, cwd=checkout.folder, env=variables, stdout=output, stderr=subprocess.STDOUT)
    yield process
    process.kill()
    process.wait()


def test_trainings_that_are_disturbed_end_the_same(cluster: Cluster, snakemake, checkout, undisturbed, tell):
    """A crashed machine, a time limit, a cancelled job, and a machine that Slurm no longer sees.

    Each training is held once it has written a checkpoint, so that the faults meet all of them halfway.
    """
    waiting, trainings = set(range(4)), {}

    def held() -> bool:
        for seed in list(waiting):
            if list(checkout.folder.glob(f"results/runs/*/*/*/*/*/seed{seed}/.resume/*/state.pt")):
                trainings[seed] = Training(checkout.folder, seed)
                waiting.remove(seed)
        return not waiting

    wait_for(held, snakemake)
    assert len({training.node for training in trainings.values()}) == 4  # they are too large for two on one
    cluster.crash(trainings[CRASHED].node)
    cluster.ask("scancel", trainings[CANCELLED].job)
    unseen = trainings[UNSEEN]
    cluster.lose(unseen.node)
    second = wait_for(lambda: (found := pid_of(checkout.folder, UNSEEN)) != unseen.process.pid and found, snakemake)
    assert environment_of(psutil.Process(second))["SLURM_JOB_ID"] == unseen.job
    assert unseen.process.status() == psutil.STATUS_STOPPED
    unseen.process.resume()  # now both copies train
    snakemake.wait(900)
    unseen.process.wait(60)
    printed = (checkout.folder / "snakemake.log").read_text()
    assert snakemake.returncode == 0, printed[-5000:]
    ends = re.findall(r"SLURM status is: '(\w+)'", printed)
    assert sorted(ends) == ["CANCELLED", "TIMEOUT"]  # Slurm itself has started again what its machines have lost
    assert_same(undisturbed.folder, checkout.folder)
    tell(expected=4, found=len(list(checkout.folder.rglob("run.json"))))


def assert_same(whole: Path, disturbed: Path) -> None:
    """All runs are there with equal bytes, but for what has times in it."""
    root = Path("results/runs")
    files = [
        sorted(path.relative_to(f) for path in (f / root).rglob("*") if path.is_file()) for f in (whole, disturbed)
    ]
    assert files[0] == files[1]
    assert sum(path.name == "run.json" for path in files[0]) == 4
    for path in files[0]:
        if path.name.endswith(".safetensors"):
            assert (whole / path).read_bytes() == (disturbed / path).read_bytes(), path
        if path.name == "run.json":
            first, second = (json.loads((folder / path).read_text()) for folder in (whole, disturbed))
            assert {key: first[key] for key in METRICS} == {key: second[key] for key in METRICS}, path
