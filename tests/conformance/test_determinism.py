"""No method trains with operations that are not deterministic on a GPU, and few use slow deterministic ones."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nfbench.blocks import resampling
from tests.conformance.test_no_waits import train_watched
from tests.conformance.test_settings_and_splits import TRAINED

RANDOM = {
    "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "avg_pool3d_backward", "bincount", "cumsum",
    "grid_sampler_2d_backward", "histc", "kthvalue", "max_pool2d_with_indices_backward", "median.dim",
    "nll_loss2d_backward", "put_", "reflection_pad2d_backward", "scatter_reduce", "upsample_bicubic2d_backward",
    "upsample_linear1d_backward",
}  # fmt: skip
"""What adds by chance in another order, as torch lists it."""

SLOW = {"_unsafe_index_put", "index_add", "index_put", "scatter_add", "upsample_bilinear2d"}
"""What is sorted or gathered where it has to be deterministic; with a mark of operations in place left out."""

EXPECTED = {
    "ae_ssim": {"scatter_add"},  # of the weights of SSIM's window, a matrix of the side of a patch
    "bgad": {"index_put"},  # of the loss of a chunk's normal fibres, a number for each
    "hgad": {"index_put"},  # of the centres of each image's class
    "riad": {"scatter_add"},  # as of ae_ssim
    "simplenet": {"upsample_bilinear2d"},  # of features, without a gradient
    "uniad": {"upsample_bilinear2d"},  # the same
}


class Operations(TorchDispatchMode):
    """Collects names of operations."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        self.names |= {str(operation).removeprefix("aten."), operation.overloadpacket.__name__}
        return operation(*arguments, **(keywords or {}))


@pytest.mark.parametrize("name", TRAINED)
def test_trainings_can_be_repeated_on_a_gpu(name, tmp_path, monkeypatch):
    monkeypatch.setattr(resampling, "_is_repeatable", lambda _: False)  # as on a GPU
    operations = Operations()
    train_watched(name, tmp_path, operations, monkeypatch)
    found = {operation.removesuffix("_").removesuffix("_backward") for operation in operations.names}
    assert not operations.names & RANDOM
    assert found & SLOW == EXPECTED.get(name, set())


def test_such_operations_are_found():
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    with Operations() as operations:
        x.index_select(1, torch.tensor([2, 0])).sum().backward()
        torch.nn.functional.adaptive_avg_pool2d(x, 2).sum().backward()
        x.sum(1).cumsum(1)
    assert {"index_add", "_adaptive_avg_pool2d_backward", "cumsum"} <= operations.names
