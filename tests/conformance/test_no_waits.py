"""No method waits for the device in its training steps, but for what is listed here.

On a GPU, steps are queued. Whoever asks for a value, or for a size that follows from values, waits until the device has
done all that is queued, and the device then waits for the next step. A CPU has no queue, but the same questions are
asked there: by functions of Python (``item``, ``bool(x)``, ``tolist``) and by operations of torch (``x[mask]``).
"""

import math
from collections import Counter

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from nfbench.training import loop
from nfbench.training.checkpoint import SideFolder
from nfbench.training.loop import train
from tests.conformance.test_methods import build
from tests.conformance.test_settings_and_splits import TRAINED, data_of

ASKS = {"item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "__contains__", "__array__"}
ASKS |= {"nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "equal", "allclose", "is_nonzero"}
ASKS |= {"bincount", "repeat_interleave", "tensor", "as_tensor", "from_numpy", "cuda", "pin_memory"}
ATEN = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "bincount"}
INDEXING = {"index", "index_put", "index_put_"}
OF_A_CPU = {"one_hot": {"_local_scalar_dense"}}
"""What torch asks on a CPU alone: whether all classes are in range."""

PER_BATCH = {"bgad": Counter(tolist=1)}
"""Waits of a batch: which chunks have normal fibres, and how many, decides on steps and quantiles."""


class Waits(TorchFunctionMode):
    """Counts functions of Python that ask for values."""

    def __init__(self):
        super().__init__()
        self.counts, self.operations = Counter(), Operations()

    def __torch_function__(self, function, types, arguments=(), keywords=None):
        name = getattr(function, "__name__", "")
        if name in ASKS or (name == "to" and other_device(*arguments, **(keywords or {}))):
            self.counts[name] += 1
            self.operations.known = ATEN
        self.operations.known |= OF_A_CPU.get(name, set())
        try:
            return function(*arguments, **(keywords or {}))
        finally:
            self.operations.known = set()

    def __enter__(self):
        self.operations.__enter__()
        return super().__enter__()

    def __exit__(self, *error):
        super().__exit__(*error)
        self.operations.__exit__(*error)


class Operations(TorchDispatchMode):
    """Counts operations whose size or control flow follows from values, unless a function was counted for them."""

    def __init__(self):
        super().__init__()
        self.counts, self.known = Counter(), set()

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        name = operation.overloadpacket.__name__
        masked = name in INDEXING and any(map(is_mask, arguments[1]))
        if (name in ATEN or masked) and name not in self.known:
            self.counts[name] += 1
        return operation(*arguments, **(keywords or {}))


def is_mask(place):
    return isinstance(place, torch.Tensor) and place.dtype in (torch.bool, torch.uint8)


def other_device(tensor, *where, device=None, **_):
    wanted = [place for place in (device, *where) if isinstance(place, str | torch.device)]
    return any(torch.device(place) != tensor.device for place in wanted)


def train_watched(name, folder, watcher, monkeypatch):
    """Two epochs of a method's tiny model under a mode of torch. Steps of each epoch, and the number of batches."""
    method = build(name, epochs=2, batch_size=7)
    data = data_of(method, 30, 0.0)
    batches = {epoch: list(data.batches(epoch, 7, drop_last=False)) for epoch in (1, 2)}
    monkeypatch.setattr(data, "batches", lambda epoch, *_: iter(batches[epoch]))
    steps, inner = Counter(), loop._train_epoch

    def watched(*arguments):
        optimizer, epoch = arguments[1], arguments[4]
        step = optimizer.step
        optimizer.step = lambda: (steps.update([epoch]), step())
        with watcher:
            result = inner(*arguments)
        optimizer.step = step
        return result

    monkeypatch.setattr(loop, "_train_epoch", watched)
    train(method, data, method.settings, SideFolder(folder, "waits"), name, math.inf)
    return steps, sum(map(len, batches.values()))


@pytest.mark.parametrize("name", TRAINED)
def test_steps_do_not_wait(name, tmp_path, monkeypatch):
    """The loop does not wait either, except for its check of the losses every few steps."""
    monkeypatch.setattr(loop, "LOOK_EVERY", 4)
    waits = Waits()
    steps, n_batches = train_watched(name, tmp_path, waits, monkeypatch)
    expected = Counter(tolist=sum(math.ceil(count / 4) for count in steps.values()))
    for wait, count in PER_BATCH.get(name, {}).items():
        expected[wait] += count * n_batches
    assert waits.counts == expected
    assert not waits.operations.counts


@pytest.mark.parametrize(
    "ask",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: x if x.any() else None,
        lambda x: [1, 2, 3][x.argmax()],
        lambda x: x.tolist(),
        lambda x: x.to("meta"),
        lambda x: x.cpu(),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.where(x > 0),
        lambda x: torch.tensor([1.0, 2.0]) + x.sum(),
    ],
)
def test_a_wait_is_noticed(ask):
    x = torch.tensor([-1.0, 2.0, 3.0])
    with Waits() as waits:
        ask(x)
    assert waits.counts.total() + waits.operations.counts.total() == 1


def test_what_needs_no_value_is_no_wait():
    x, rows = torch.randn(4, 3, requires_grad=True), torch.tensor([2, 0])
    with Waits() as waits:
        loss = torch.where(x[rows] > 0, x[rows], 0.0)[:, 1:].sum() + x.masked_fill(x > 1, 0).to(torch.float64).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_([x], 1.0)
        torch.nn.functional.one_hot(rows, 4)
    assert not waits.counts + waits.operations.counts
