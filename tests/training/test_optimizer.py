"""Adam is bit-equal to torch's and cheap to import."""

import subprocess
import sys

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nfbench.blocks.method import ParameterGroup
from nfbench.training.optimizer import Adam


@pytest.mark.parametrize(
    ("weight_decay", "betas", "eps"), [(0.0, (0.9, 0.999), 1e-8), (1e-2, (0.9, 0.999), 1e-8), (1e-5, (0.8, 0.8), 1e-4)]
)
def test_steps_are_those_of_torch(weight_decay, betas, eps):
    torch.manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.ones(2, 3))] for _ in range(2))
    mine = Adam([ParameterGroup(ours, weight_decay=weight_decay)], 1e-3, betas, eps)
    peer = torch.optim.Adam(theirs, 1e-3, betas, eps, weight_decay, fused=True)
    for step in range(6):
        mine.lr = peer.param_groups[0]["lr"] = 1e-2 / (step + 1)
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        if step == 3:
            ours[1].grad = theirs[1].grad = None  # a parameter that took no part
        mine.step()
        peer.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_groups_have_their_own_rate_and_decay():
    torch.manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.ones(2, 3))] for _ in range(2))
    mine = Adam([ParameterGroup(ours[:1], weight_decay=1e-5), ParameterGroup(ours[1:], 0.5, 1e-2, True)], 2e-4)
    adam = torch.optim.Adam(theirs[:1], 2e-4, weight_decay=1e-5, fused=True)
    adamw = torch.optim.AdamW(theirs[1:], 1e-4, weight_decay=1e-2, fused=True)
    for _ in range(4):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in (mine, adam, adamw):
            optimizer.step()
        assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_steps_at_rest_are_the_same_for_all_parameters_at_once():
    torch.manual_seed(0)
    shapes = [(5,), (2, 3), ()]
    start = [torch.randn(shape) for shape in shapes]
    gradients = [torch.randn(shape) for shape in shapes]
    together, alone = (
        Adam([ParameterGroup([torch.nn.Parameter(value.clone()) for value in start])], 1e-2) for _ in "ab"
    )
    for optimizer in (together, alone):
        for parameter, gradient in zip(optimizer.parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()
    with torch.no_grad():
        together._coast([0, 1, 2], 1, 4, 1e-2)
        for index in range(3):
            alone._coast([index], 1, 4, 1e-2)
    for one, other in zip(together._pick(range(3)), alone._pick(range(3)), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Operations(TorchDispatchMode):
    """Counts operations, each of which is a call of a GPU."""

    count = 0

    def __torch_dispatch__(self, operation, types, arguments=(), keywords=None):
        self.count += 1
        return operation(*arguments, **(keywords or {}))


def test_a_gpu_takes_the_steps_at_rest_of_all_parameters_in_few_calls():
    """Parameters that are not on a CPU stand for those of a GPU."""
    parameters = [torch.nn.Parameter(torch.ones(4, device="meta")) for _ in range(50)]
    optimizer = Adam([ParameterGroup(parameters, used_by=torch.nn.Identity())], 1e-3)
    optimizer._taken, optimizer._resting = [3] * 50, [2] * 50
    with Operations() as operations:
        optimizer.catch_up()
    assert operations.count <= 6
    assert (optimizer._taken, optimizer._resting) == ([5] * 50, [0] * 50)


def test_gradients_are_forgotten():
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    Adam([ParameterGroup([parameter])], 1e-3).zero_grad()
    assert parameter.grad is None


def test_a_step_does_not_import_the_compiler():
    script = (
        "import sys, torch; from nfbench.blocks.method import ParameterGroup;"
        "from nfbench.training.optimizer import Adam; p = torch.nn.Parameter(torch.ones(2));"
        "o = Adam([ParameterGroup([p])], 1e-3); p.sum().backward(); o.step(); o.zero_grad();"
        "assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
