"""Stacked arrays against one array of all rows, and what they leave in memory."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nfbench.blocks.features import Features
from nfbench.features.batches import read_batch
from nfbench.features.stacked import StackedArrays
from nfbench.training.data import TrainingData

CPU = torch.device("cpu")


def write(folder, lengths, shape=(3, 2), seed=0):
    rng = np.random.default_rng(seed)
    arrays = []
    for number, length in enumerate(lengths):
        path = folder / f"{number}.npy"
        np.save(path, rng.normal(size=(length, *shape)).astype(np.float16))
        arrays.append(np.load(path, mmap_mode="r"))
    return arrays


@settings(max_examples=50)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data())
def test_rows_are_those_of_the_joined_array(lengths, data):
    arrays = [np.arange(10.0 * number, 10 * number + length)[:, None] for number, length in enumerate(lengths)]
    stacked, joined = StackedArrays(arrays), np.concatenate(arrays)
    rows = np.array(data.draw(st.lists(st.integers(0, len(joined) - 1), min_size=1, max_size=8)))
    assert len(stacked) == len(joined)
    np.testing.assert_array_equal(stacked[rows], joined[rows])


def test_memory_mapped_arrays_and_their_views(tmp_path):
    arrays = write(tmp_path, [4, 2, 3])
    rows = np.array([8, 0, 4, 4, 5])
    np.testing.assert_array_equal(StackedArrays(arrays)[rows], np.concatenate(arrays)[rows])
    flat = [array.reshape(-1, 2) for array in arrays]
    np.testing.assert_array_equal(StackedArrays(flat)[np.array([0, 13, 26])], np.concatenate(flat)[[0, 13, 26]])


def test_training_batches_are_those_of_the_joined_array(tmp_path):
    arrays = write(tmp_path, [7, 5], (2, 2, 2))
    stacked = TrainingData(Features([StackedArrays(arrays)]), 0.2, 0, CPU)
    joined = TrainingData(Features([np.concatenate(arrays)]), 0.2, 0, CPU)
    for one, other in zip(stacked.batches(1, 4, False), joined.batches(1, 4, False), strict=True):
        assert torch.equal(one.features.levels[0], other.features.levels[0])
    for one, other in zip(stacked.passes(), joined.passes(), strict=True):
        assert torch.equal(one.levels[0], other.levels[0])


def test_what_was_read_does_not_stay_in_memory(tmp_path):
    """All rows of 100 MB are read, batch by batch; memory-mapped pages would count as resident."""
    status = Path("/proc/self/status")
    if not status.exists():
        pytest.skip("resident memory cannot be read on this system")
    stacked = Features([StackedArrays(write(tmp_path, [50] * 4, (512, 512)))])

    def resident():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))

    read_batch(stacked, torch.arange(8), CPU)
    before = resident()
    for rows in torch.arange(200).split(8):
        read_batch(stacked, rows, CPU)
    assert resident() - before < 40_000
