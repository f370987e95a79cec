"""Two processes on one run, as when a cluster loses sight of a machine and starts its job a second time."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from nfbench.core.errors import NfbenchError
from nfbench.core.files import write_text
from nfbench.training.checkpoint import SideFolder
from tests.conftest import ROOT

CPU = torch.device("cpu")
MARKER = "training.json"

SAVER = """
import sys, time
from pathlib import Path
import torch
from nfbench.training.checkpoint import SideFolder

side, end = SideFolder(Path(sys.argv[1]), "f"), time.monotonic() + 2
state = {"model": {str(n): torch.zeros(1000) for n in range(20)}, "epoch": 1}
while time.monotonic() < end:
    side.save(state)
    side.load(torch.device("cpu"))
print("saved")
"""

PUBLISHER = """
import sys, time
from pathlib import Path
from nfbench.core.files import write_text
from nfbench.training.checkpoint import SideFolder

name, runs = sys.argv[1], [Path(path) for path in sys.argv[2:]]
for run in runs:
    side = SideFolder(run, "f")
    side.begin()
    write_text(run / f"ready-{name}", "")
    while len(list(run.glob("ready-*"))) < 2:
        pass
    with side.publish() as folder:
        for file in ("model.safetensors", "checkpoints.safetensors", "history.csv", "training.json"):
            write_text(folder / file, name)
"""


def start(script: str, *arguments: object) -> subprocess.Popen:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_checkpoints_are_written_while_a_copy_that_is_done_removes_them(tmp_path):
    saver = start(SAVER, tmp_path)
    side = SideFolder(tmp_path, "f")
    while saver.poll() is None:
        side.remove()
        time.sleep(0.02)
    printed, errors = saver.communicate()
    assert printed == "saved\n", errors
    side.remove()
    assert list(tmp_path.iterdir()) == []


def test_results_are_all_of_one_of_two_processes(tmp_path):
    runs = [tmp_path / str(number) for number in range(200)]
    copies = [start(PUBLISHER, name, *runs) for name in ("first", "second")]
    for copy in copies:
        _, errors = copy.communicate()
        assert copy.returncode == 0, errors
    for run in runs:
        files = sorted(path for path in run.iterdir() if not path.name.startswith("ready-"))
        assert [path.name for path in files] == [
            "checkpoints.safetensors", "history.csv", "model.safetensors", "training.json"
        ]  # fmt: skip
        assert len({path.read_text() for path in files}) == 1, run


def write(folder: Path, text: str) -> None:
    for file in ("model.safetensors", MARKER):
        write_text(folder / file, text)


def test_the_copy_that_ends_last_leaves_the_files_that_are_there(tmp_path):
    first, second = SideFolder(tmp_path, "f"), SideFolder(tmp_path, "f")
    first.begin()
    second.begin()
    with first.publish() as folder:
        write(folder, "first")
    with second.publish() as folder:
        write(folder, "second")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "model.safetensors": "first", MARKER: "first"
    }  # fmt: skip


def test_the_folder_of_a_copy_goes_while_it_writes(tmp_path):
    """The other one has just ended."""
    first, second = SideFolder(tmp_path, "f"), SideFolder(tmp_path, "f")
    with second.publish() as folder:
        write(folder, "second")
        with first.publish() as other:
            write(other, "first")
        write_text(folder / "history.csv", "second")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"first"}


def test_a_later_training_replaces_the_results(tmp_path):
    for text in ("first", "second"):
        side = SideFolder(tmp_path, "f")
        side.begin()
        with side.publish() as folder:
            write(folder, text)
    assert {path.read_text() for path in tmp_path.iterdir()} == {"second"}


def test_results_that_were_half_published_are_made_again(tmp_path):
    """The process was killed between two of its files."""
    side = SideFolder(tmp_path, "f")
    write(side.folder / "finished", "killed")
    side.begin()
    with side.publish() as folder:
        write(folder, "whole")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"whole"}


def test_a_failure_is_not_taken_for_another_copy(tmp_path):
    side = SideFolder(tmp_path, "f")

    def fail():
        with side.publish() as folder:
            write(folder, "half")
            raise NfbenchError("the disk is full")

    with pytest.raises(NfbenchError, match="the disk is full"):
        fail()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_results_that_another_process_discards_are_an_error(tmp_path):
    side = SideFolder(tmp_path, "f")
    with pytest.raises(NfbenchError, match="another process has begun this training anew"), side.publish() as folder:
        write_text(folder / "model.safetensors", "x")  # and no marker comes to the run's folder
