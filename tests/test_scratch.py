"""Arrays above a limit are in unnamed files and take no memory after it is freed."""

import errno
import gc
import os
from pathlib import Path

import numpy as np
import pytest

from nfbench.core import scratch
from nfbench.core.errors import NfbenchError

linux = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="looks at /proc")


def resident(folder):
    """KiB of memory that mapped files of a folder take, None without such files."""
    found, of_folder = None, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if line.split(" ", 1)[0].count("-"):
            of_folder = str(folder) in line
        elif of_folder and line.startswith("Rss:"):
            found = (found or 0) + int(line.split()[1])
    return found


def test_small_arrays_stay_in_memory(tmp_path):
    assert not isinstance(scratch.empty((8, 4), np.float32, tmp_path), np.memmap)


@linux
def test_large_ones_are_in_a_file_without_a_name_that_goes_with_them(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "LARGE", 1000)
    array = scratch.empty((1000, 1000), np.float32, tmp_path / "new")
    values = np.random.default_rng(0).random((1000, 1000), dtype=np.float32)
    array[:] = values
    assert resident(tmp_path) > 3000
    scratch.release(array)
    assert resident(tmp_path) == 0
    np.testing.assert_array_equal(array, values)
    assert not list((tmp_path / "new").iterdir())
    del array
    gc.collect()
    assert resident(tmp_path) is None


@linux
@pytest.mark.parametrize("function", [scratch.parts, scratch.walk])
def test_reading_takes_one_part_at_a_time(tmp_path, monkeypatch, function):
    monkeypatch.setattr(scratch, "_PART", 1 << 20)
    values = np.random.default_rng(0).random((1000, 4096), dtype=np.float32)
    array, found, largest = scratch.stored(values, tmp_path), [], 0
    for number, part in enumerate(function(array)):
        found.append(np.array(part))
        largest = max(largest, resident(tmp_path)) if number % 100 == 50 or function is scratch.parts else largest
    np.testing.assert_array_equal(np.concatenate(found) if function is scratch.parts else found, values)
    assert 0 < largest < 8000  # of 16,000; a system maps more pages than are read


def test_parts_are_of_about_equal_length(monkeypatch):
    monkeypatch.setattr(scratch, "_PART", 100)
    assert [len(part) for part in scratch.parts(np.zeros((21, 5), np.uint8))] == [11, 10]
    assert [len(part) for part in scratch.parts(np.zeros((2, 500), np.uint8))] == [1, 1]
    assert list(scratch.walk(np.zeros((0, 5)))) == []


def test_a_private_copy_of_a_file_keeps_its_changes(tmp_path):
    np.save(tmp_path / "maps.npy", np.zeros((2, 3)))
    array = np.load(tmp_path / "maps.npy", mmap_mode="c")
    array[1] = 7
    scratch.release(array)
    assert array[1].tolist() == [7, 7, 7]


def test_a_file_is_that_of_numpy(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_PART", 1000)
    array = scratch.stored(np.random.default_rng(0).random((37, 8, 9), dtype=np.float32), tmp_path)
    scratch.save(tmp_path / "ours.npy", array)
    np.save(tmp_path / "theirs.npy", array)
    assert (tmp_path / "ours.npy").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(scratch, "LARGE", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(NfbenchError, match="the disk is full"):
        scratch.empty((3, 3), np.float32, tmp_path)
