"""Kills, two runs at once, and full disks: finished results stay, and repeated jobs give the same results."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path

import pytest

from nfbench.plan.specs import TrainSpec
from nfbench.results.record import read_record
from nfbench.stages.train import train_flow
from tests.in_process import run_nfbench
from tests.workflow.conftest import Checkout, environment

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

NFBENCH = [sys.executable, "-m", "nfbench"]


def wait_for(condition, process, seconds=240):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return
        assert process.poll() is None, "the process ended before it could be killed"
        time.sleep(0.05)
    pytest.fail("waited too long")


def run(command, checkout):
    run_nfbench(checkout.folder, *command[len(NFBENCH) :])


def start(command, checkout):
    return subprocess.Popen(command, cwd=checkout.folder, env=environment(), start_new_session=True)


def kill_group(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def train_spec(finished: Checkout) -> TrainSpec:
    """A training that takes longer than the experiment's, in another folder."""
    (path, *_) = sorted((finished.folder / "results/runs").glob("*/*/fabric/fastflow-smoke/*/seed0/run.json"))
    settings = {"epochs": 40, "flow_steps": 2, "checkpoints": 3}
    return read_record(path).specs.train.model_copy(update={"settings": settings})


@pytest.fixture
def train_command(train_spec):
    def command(run: Path) -> list[str]:
        given = train_spec.model_copy(update={"run": str(run)}).to_json()
        where = ["--threads", "1", "--device", "cpu", "--checkpoint-seconds", "0"]
        return [*NFBENCH, "train_flow", "--spec", given, *where]

    return command


@pytest.fixture(scope="module")
def undisturbed(finished, train_spec, tmp_path_factory) -> Path:
    """The folder of the same training, which nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed") / "seed0"
    with chdir(finished.folder):
        train_flow(train_spec.model_copy(update={"run": str(folder)}), device="cpu", threads=1)
    return folder


@pytest.fixture
def extract_command(finished):
    """A command that extracts the training features of a category, into another file."""
    (path, *_) = sorted((finished.folder / "results/runs").glob("*/*/washer/fastflow-smoke/*/seed0/run.json"))
    spec = next(spec for spec in read_record(path).specs.extract if spec.view == "train")

    def command(features: Path) -> list[str]:
        given = spec.model_copy(update={"features": str(features)}).to_json()
        return [*NFBENCH, "extract_features", "--spec", given, "--threads", "2"]

    return command


def assert_same_training(found: Path, undisturbed: Path) -> None:
    for name in ("model.safetensors", "checkpoints.safetensors", "held_out.safetensors"):
        assert (found / name).read_bytes() == (undisturbed / name).read_bytes()
    assert sorted(path.name for path in found.iterdir()) == sorted(path.name for path in undisturbed.iterdir())


def test_killed_training_goes_on_and_ends_the_same(finished, train_command, undisturbed, tmp_path):
    killed = tmp_path / "killed"
    process = start(train_command(killed), finished)
    wait_for(lambda: list(killed.rglob("state.pt")), process)
    kill_group(process)
    assert not (killed / "model.safetensors").exists()
    run(train_command(killed), finished)
    assert_same_training(killed, undisturbed)


def test_two_copies_of_a_training_end_as_one(finished, train_command, undisturbed, tmp_path):
    """As if a cluster lost contact with a machine and started its job again elsewhere."""
    both = tmp_path / "both"
    first = start(train_command(both), finished)
    wait_for(lambda: list(both.rglob("state.pt")), first)
    first.send_signal(signal.SIGSTOP)
    second = start(train_command(both), finished)
    time.sleep(2)
    first.send_signal(signal.SIGCONT)
    assert (first.wait(), second.wait()) == (0, 0)
    assert_same_training(both, undisturbed)
    training = json.loads((both / "training.json").read_text())
    history = (both / "history.csv").read_text().splitlines()[1:]
    seconds = sum(float(row.rpartition(",")[2]) for row in history)
    rounding = 0.001 * (len(history) + 1)  # each is written in milliseconds
    assert -rounding <= training["seconds"]["train"] - seconds < 1


def test_killed_extraction_starts_over_and_ends_the_same(finished, extract_command, tmp_path):
    features = finished.folder / "results/features/tf_efficientnet_lite0@64-random/synthetic-smoke/washer/train"
    meta = tmp_path / "c" / "meta.json"
    process = start(extract_command(meta), finished)
    wait_for(lambda: meta.parent.exists() and any(meta.parent.iterdir()), process)
    kill_group(process)
    assert not meta.exists()
    run(extract_command(meta), finished)
    assert sorted(path.name for path in meta.parent.iterdir()) == sorted(path.name for path in features.iterdir())
    for level in ("level1.npy", "level2.npy", "level3.npy"):
        assert (meta.parent / level).read_bytes() == (features / level).read_bytes()


def test_second_run_at_once_is_refused(new_checkout):
    checkout, manifest = new_checkout(), "results/manifests/synthetic-smoke/washer.csv"
    lock = checkout.folder / ".snakemake" / "locks"
    process = subprocess.Popen(
        checkout.command(manifest), cwd=checkout.folder, env=environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: any(path.stat().st_size for path in lock.glob("*.output.lock")), process)
    process.send_signal(signal.SIGSTOP)
    printed = checkout.snakemake(manifest, fails=True)
    kill_group(process)
    assert "Directory cannot be locked" in printed


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here (needs root)")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_is_one_message_and_leaves_nothing(finished, small_disk, train_command, extract_command):
    commands = {"c": extract_command(small_disk / "c" / "meta.json"), "run": train_command(small_disk / "run")}
    for folder, command in commands.items():
        done = subprocess.run(
            command, cwd=finished.folder, capture_output=True, text=True, check=False, env=environment()
        )
        assert done.returncode == 1
        assert "disk" in done.stderr
        assert "full" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        left = {path.name for path in (small_disk / folder).rglob("*") if path.is_file()}
        assert left <= {"claim"}  # of the training that goes on when it is started again
