"""Two processes on one run, as if a cluster lost contact with a machine and started its job again."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nfbench.core.errors import NfbenchError
from nfbench.core.files import write_text
from nfbench.training.checkpoint import SideFolder
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

MARKER = "training.json"

SAVER = """
import sys, time
from pathlib import Path
import torch
from nfbench.training.checkpoint import SideFolder

side, end = SideFolder(Path(sys.argv[1]), "f"), time.monotonic() + 2
state = {"model": {str(n): torch.zeros(1000) for n in range(20)}, "epoch": 1, "kept": {}}
while time.monotonic() < end:
    side.save(state)
    side.load()
print("saved")
"""

PUBLISHER = """
import sys, time
from pathlib import Path
from nfbench.core.files import write_text
from nfbench.plan.paths import TRAINED
from nfbench.training.checkpoint import SideFolder

name, runs = sys.argv[1], [Path(path) for path in sys.argv[2:]]
for run in runs:
    side = SideFolder(run, "f")
    side.begin()
    write_text(run / f"ready-{name}", "")
    while len(list(run.glob("ready-*"))) < 2:
        pass
    with side.publish() as folder:
        for file in TRAINED:
            write_text(folder / file, '{"fingerprint": "f", "by": "%s"}' % name)
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
            "checkpoints.safetensors", "held_out.safetensors", "history.csv", "model.safetensors", "training.json"
        ]  # fmt: skip
        assert len({path.read_text() for path in files}) == 1, run


def content(by: str, fingerprint: str = "f") -> str:
    return json.dumps({"fingerprint": fingerprint, "by": by})


def write(folder: Path, by: str, fingerprint: str = "f") -> None:
    for file in ("model.safetensors", MARKER):
        write_text(folder / file, content(by, fingerprint))


def test_the_copy_that_ends_last_leaves_the_files_that_are_there(tmp_path):
    first, second = SideFolder(tmp_path, "f"), SideFolder(tmp_path, "f")
    first.begin()
    second.begin()
    with first.publish() as folder:
        write(folder, "first")
    with second.publish() as folder:
        write(folder, "second")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "model.safetensors": content("first"), MARKER: content("first")
    }  # fmt: skip


def test_the_folder_of_a_copy_goes_while_it_writes(tmp_path):
    """The other one has just ended."""
    first, second = SideFolder(tmp_path, "f"), SideFolder(tmp_path, "f")
    with second.publish() as folder:
        write(folder, "second")
        with first.publish() as other:
            write(other, "first")
        write_text(folder / "history.csv", "second")
    assert {path.read_text() for path in tmp_path.iterdir()} == {content("first")}


def test_a_later_training_replaces_the_results(tmp_path):
    for text in ("first", "second"):
        side = SideFolder(tmp_path, "f")
        side.begin()
        with side.publish() as folder:
            write(folder, text)
    assert {path.read_text() for path in tmp_path.iterdir()} == {content("second")}


def test_results_that_were_half_published_are_made_again(tmp_path):
    """The process was killed between two of its files."""
    side = SideFolder(tmp_path, "f")
    write(side.folder / "finished", "killed")
    side.begin()
    with side.publish() as folder:
        write(folder, "whole")
    assert {path.read_text() for path in tmp_path.iterdir()} == {content("whole")}


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
    with pytest.raises(NfbenchError, match="another process has restarted this training"), side.publish() as folder:
        write_text(folder / "model.safetensors", "x")  # and no marker comes to the run's folder


def files_of(run: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in run.iterdir() if path.is_file()}


@pytest.fixture
def two(tmp_path):
    """Two trainings with other settings in one folder, of which the second began last."""
    sides = [SideFolder(tmp_path, name) for name in ("old", "new")]
    for side in sides:
        side.begin()
    return sides


def publish(side: SideFolder) -> None:
    with side.publish() as folder:
        write(folder, side.fingerprint, side.fingerprint)


@pytest.mark.parametrize("newer_ends_first", [False, True])
def test_of_two_trainings_with_other_settings_the_folder_is_that_of_the_later_one(two, tmp_path, newer_ends_first):
    older, newer = two
    if newer_ends_first:
        publish(newer)
    with pytest.raises(NfbenchError, match=r"other settings, images or code was started in this folder later"):
        publish(older)
    if not newer_ends_first:
        publish(newer)
    assert set(files_of(tmp_path).values()) == {content("new", "new")}
    assert not (tmp_path / ".resume").exists() or newer_ends_first


def test_a_training_replaces_what_an_older_one_published_after_it_began(tmp_path):
    """The older one had looked at the folder just before."""
    newer = SideFolder(tmp_path, "new")
    newer.begin()
    write(tmp_path, "old", "old")
    publish(newer)
    assert set(files_of(tmp_path).values()) == {content("new", "new")}


@pytest.mark.parametrize("newer_has_ended", [False, True])
def test_a_training_that_lost_its_folder_ends_at_its_next_checkpoint(two, newer_has_ended):
    older, newer = two
    older_files = older.folder
    if newer_has_ended:
        publish(newer)
    with pytest.raises(NfbenchError, match="run it again"):
        older.save({"epoch": 1, "kept": {}})
    assert not older_files.exists()


def test_a_training_that_is_begun_again_takes_its_folder_back(two, tmp_path):
    older, newer = two
    older.begin()
    publish(older)
    with pytest.raises(NfbenchError, match="run it again"):
        publish(newer)
    assert set(files_of(tmp_path).values()) == {content("old", "old")}
