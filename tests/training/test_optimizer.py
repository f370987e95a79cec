"""Adam: bit-equal to torch's, and light."""

import subprocess
import sys

import pytest
import torch

from nfbench.training.optimizer import Adam


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_steps_are_those_of_torch(weight_decay):
    torch.manual_seed(0)
    ours, theirs = ([torch.nn.Parameter(torch.ones(5)), torch.nn.Parameter(torch.ones(2, 3))] for _ in range(2))
    mine = Adam(ours, 1e-3, weight_decay)
    peer = torch.optim.Adam(theirs, 1e-3, weight_decay=weight_decay)
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


def test_gradients_are_forgotten():
    parameter = torch.nn.Parameter(torch.ones(1))
    parameter.grad = torch.ones(1)
    Adam([parameter], 1e-3, 0).zero_grad()
    assert parameter.grad is None


def test_a_step_does_not_import_the_compiler():
    script = (
        "import sys, torch; from nfbench.training.optimizer import Adam; p = torch.nn.Parameter(torch.ones(2));"
        "o = Adam([p], 1e-3, 0); p.sum().backward(); o.step(); o.zero_grad(); assert 'torch._dynamo' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
