"""GPU slots are exclusive among real processes and are freed however their holder ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nfbench.core.device import pick_device
from nfbench.core.errors import NfbenchError
from nfbench.core.slots import take_slot, visible_gpus

JOB = """
import logging, os, sys
from nfbench.core.slots import take_slot, visible_gpus
logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
take_slot(visible_gpus(), poll_seconds=0.05)
print("on", os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
"""
LONG_JOB = JOB + "sys.stdin.read()"
BRIEF_JOB = (
    JOB
    + """
import tempfile, time
busy = os.path.join(tempfile.gettempdir(), "busy-" + os.environ["CUDA_VISIBLE_DEVICES"])
os.close(os.open(busy, os.O_CREAT | os.O_EXCL))  # fails where another job is on this GPU
time.sleep(0.2)
os.unlink(busy)
"""
)


class Jobs:
    """Processes that take a slot, say so, and keep it until they are told to end."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path, self.started = tmp_path, []

    def start(self, gpus: str, script: str = LONG_JOB, **variables: str) -> subprocess.Popen:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        names = {**kept, "CUDA_VISIBLE_DEVICES": gpus, "TMPDIR": str(self.tmp_path), **variables}
        job = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=names
        )
        self.started.append(job)
        return job

    def take(self, gpus: str, **variables: str) -> str:
        """Start a job that need not wait; return its GPU."""
        return gpu_of(self.start(gpus, **variables))


def gpu_of(job: subprocess.Popen) -> str:
    line = job.stdout.readline()
    assert line.startswith("on "), line
    return line.split()[1]


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    jobs = Jobs(tmp_path)
    yield jobs
    for job in jobs.started:
        job.kill()
        job.wait()
        job.stdin.close()
        job.stdout.close()


def test_every_job_has_a_gpu_of_its_own(jobs):
    started = [jobs.start("0,1,2") for _ in range(3)]
    assert {gpu_of(job) for job in started} == {"0", "1", "2"}


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_the_next_job_gets_the_slot_of_one_that_ended(jobs, end):
    holders = [jobs.start("0,1") for _ in range(2)]
    gpus = [gpu_of(job) for job in holders]
    waiting = jobs.start("0,1")
    message = waiting.stdout.readline()
    assert "all 2 slots of the GPUs 0, 1 are taken by other jobs" in message
    assert str(jobs.tmp_path) in message
    if end is None:
        holders[1].stdin.close()
    else:
        holders[1].send_signal(end)
    assert gpu_of(waiting) == gpus[1]


def test_more_jobs_than_slots_all_get_their_turn_and_never_share(jobs):
    holders = [jobs.start("0,1") for _ in range(2)]
    assert {gpu_of(job) for job in holders} == {"0", "1"}
    waiting = [jobs.start("0,1", script=BRIEF_JOB) for _ in range(5)]
    assert all("all 2 slots" in job.stdout.readline() for job in waiting)
    for job in holders:
        job.stdin.close()
    printed = [job.communicate()[0].splitlines() for job in waiting]
    assert [job.returncode for job in waiting] == [0] * 5
    assert {len(lines) for lines in printed} == {1}  # who waits says so once
    assert {lines[0] for lines in printed} <= {"on 0", "on 1"}


@pytest.mark.parametrize(
    "names",
    ["2,3", "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77,GPU-c6d4f1fa-42e4-7decb7cfd57f", "MIG-GPU-1/1/0,MIG-GPU-1/2/0"],
)
def test_only_gpus_that_are_visible_are_taken(jobs, names):
    assert {jobs.take(names), jobs.take(names)} == set(names.split(","))


def test_lists_that_overlap_do_not_meet(jobs):
    assert [jobs.take("1,2"), jobs.take("1,2,3"), jobs.take("1,2,3")] == ["1", "2", "3"]


def test_several_jobs_of_a_gpu_take_empty_ones_first(jobs):
    taken = [jobs.take("0,1", NFBENCH_JOBS_PER_GPU="2") for _ in range(4)]
    assert taken == ["0", "1", "0", "1"]
    assert "all 4 slots" in jobs.start("0,1", NFBENCH_JOBS_PER_GPU="2").stdout.readline()


def test_allocations_of_slurm_have_gpus_of_their_own(jobs):
    assert jobs.take("0,1", SLURM_JOB_ID="7") == jobs.take("0,1", SLURM_JOB_ID="8") == "0"
    assert jobs.take("0,1", SLURM_JOB_ID="8") == "1"


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """This process, with a folder of its own for locks; returns that folder."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # so that what a test sets is undone
    return tmp_path


@pytest.mark.parametrize(
    ("named", "gpus"),
    [
        (None, ["0", "1", "2"]), ("1,2", ["1", "2"]), ("0, 1", ["0", "1"]), ("2,-1,1", ["2"]), ("", []), ("-1", []),
        ("NoDevFiles", []), ("MIG-41b35ac4", ["MIG-41b35ac4"]), ("1,1", ["1"]),
    ],
)  # fmt: skip
def test_visible_gpus(tmp_path, monkeypatch, named, gpus):
    for name in ("nvidia0", "nvidia1", "nvidia5", "nvidiactl", "nvidia-uvm", "null"):  # a container may lack some
        (tmp_path / name).touch()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert visible_gpus(tmp_path) == gpus


@pytest.mark.parametrize("gpus", [[], ["0"]])
def test_without_a_choice_nothing_happens(alone, gpus):
    take_slot(gpus)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert list(alone.iterdir()) == []


@pytest.mark.parametrize("value", ["0", "two", "-1", "1.5", ""])
def test_a_wrong_number_of_jobs_is_named(alone, monkeypatch, value):
    monkeypatch.setenv("NFBENCH_JOBS_PER_GPU", value)
    with pytest.raises(NfbenchError, match=f"NFBENCH_JOBS_PER_GPU is '{value}'; expected"):
        take_slot(["0", "1"])


def test_a_job_takes_its_slot_before_torch_looks_for_gpus(alone, monkeypatch):
    seen = []

    def is_available() -> bool:
        seen.append(os.environ["CUDA_VISIBLE_DEVICES"])
        return False

    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    assert pick_device("auto").type == "cpu"
    assert pick_device("auto").type == "cpu"  # once more in the same process: it keeps its slot
    assert set(seen) == {"4"}


def test_nothing_is_taken_where_no_gpu_will_be_used(alone, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    pick_device("cpu")
    monkeypatch.setattr(torch.version, "cuda", None)
    pick_device("auto")
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5"
    assert list(alone.iterdir()) == []
