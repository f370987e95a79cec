"""Prefetched batches: the same batches, bounded in number, and without leftovers."""

import threading
import time

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.core.errors import NfbenchError
from nfbench.features.batches import Source
from nfbench.training.data import TrainingData

CPU = torch.device("cpu")
N = 24


class Drawn(Source):
    """An image is its number and its draw."""

    def __init__(self, broken=None):
        self.broken, self.asked = broken, []

    def __len__(self):
        return N

    def begin(self, indices, draws, pool):
        def draw(index, seed):
            self.asked.append(index)
            if index == self.broken:
                raise NfbenchError(f"image {index} is broken")
            return torch.tensor([[[[float(index), float(seed % 1000)]]]])

        tasks = [pool.submit(draw, index, seed) for index, seed in zip(indices.tolist(), draws.tolist(), strict=True)]
        return lambda: (Features([torch.cat([task.result() for task in tasks])]), None)


def data_of(source):
    return TrainingData(Features([np.zeros((N, 1, 1, 1))]), 0, 0, CPU, source)


def values(batches):
    return [batch.features.levels[0].flatten().tolist() for batch in batches]


def test_a_batch_is_drawn_while_the_one_before_is_used():
    source = Drawn()
    batches = data_of(source).batches(1, 4, False)
    first = next(batches).features.levels[0][:, 0, 0, 0].tolist()
    deadline = time.monotonic() + 10
    while len(source.asked) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(source.asked[:4]) == sorted(first)
    assert len(source.asked) >= 8
    assert len(source.asked) <= 4 * (2 + torch.get_num_threads() // 4)
    batches.close()


def test_an_epoch_that_was_left_changes_nothing_in_the_next():
    left, whole = data_of(Drawn()), data_of(Drawn())
    batches = left.batches(1, 5, False)
    next(batches)
    batches.close()
    assert values(left.batches(2, 5, False)) == values(whole.batches(2, 5, False))
    assert values(left.batches(1, 5, True)) == values(whole.batches(1, 5, False))[:-1]


def test_an_error_arrives_with_its_batch():
    data = data_of(Drawn(broken=7))
    order = [int(index) for batch in values(data_of(Drawn()).batches(1, 4, False)) for index in batch[::2]]
    before = order.index(7) // 4
    batches = data.batches(1, 4, False)
    for _ in range(before):
        next(batches)
    with pytest.raises(NfbenchError, match="image 7 is broken"):
        next(batches)


@pytest.mark.parametrize("leave", ["close", "error", "end"])
def test_threads_end_with_the_batches(leave):
    before, setting = set(threading.enumerate()), torch.get_num_threads()
    batches = data_of(Drawn(broken=3 if leave == "error" else None)).batches(1, 2, False)
    next(batches)
    if leave == "close":
        batches.close()
    elif leave == "end":
        list(batches)
    else:
        with pytest.raises(NfbenchError):
            list(batches)
    assert set(threading.enumerate()) == before
    assert torch.get_num_threads() == setting
