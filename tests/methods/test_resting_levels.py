"""Levels at rest: moving on as with torch 1's gradients of zero, or standing still as without gradients."""

import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import Batch, LevelShape, build_method, resolve_settings
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import train
from nfbench.training.optimizer import Adam

SHAPES = [LevelShape(6, 8, 8), LevelShape(8, 4, 4)]
METHODS = ["bgad", "cflow", "hgad", "nfad", "sanflow"]
LR = 1e-2


def build(name, resting_levels, **overrides):
    chunks = {"fibre_batch": 64} if name in ("bgad", "cflow", "nfad") else {}
    small = {"coupling_blocks": 2, "condition_dim": 8, "lr": LR, **chunks, **overrides}
    settings = resolve_settings(name, overrides={"resting_levels": resting_levels, **small})
    return build_method(name, SHAPES, settings, (32, 32), 0, n_classes=2).train()


def batches(count):
    generator = torch.Generator().manual_seed(1)
    for _ in range(count):
        image, *levels = (torch.randn(4, *x, generator=generator).double() for x in ((3, 32, 32), *SHAPES))
        masks = torch.zeros(4, 32, 32)
        masks[0, :16, :16] = 1
        yield Batch(Features(levels, image, torch.tensor([0, 1, 0, 1])), masks, progress=0.5)


def adam_of_torch(method, resting_levels):
    """One Adam over all levels; the L2 penalty, which only HGAD has, is for the flows."""
    settings = method.settings
    trained = {name: parameter for name, parameter in method.named_parameters() if parameter.requires_grad}
    flows = [parameter for name, parameter in trained.items() if name.startswith("flow.")]
    others = [parameter for name, parameter in trained.items() if not name.startswith("flow.")]
    groups = [{"params": flows, "weight_decay": settings.weight_decay}, *([{"params": others}] if others else [])]
    optimizer = torch.optim.Adam(groups, settings.lr, settings.betas, settings.eps)
    forget = optimizer.zero_grad
    optimizer.zero_grad = lambda: forget(set_to_none=resting_levels == "still")
    return optimizer


def losses_of(method, optimizer, set_lr):
    """Losses of a training by clipped gradients, whose learning rate changes from batch to batch."""
    losses = []
    for number, batch in enumerate(batches(6)):
        set_lr(LR / (1 + number))
        for loss in method.losses(batch, torch.Generator().manual_seed(number)):
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(method.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.detach())
    return torch.stack(losses)


@pytest.mark.parametrize("resting_levels", ["still", "moving"])
@pytest.mark.parametrize("name", METHODS)
def test_steps_are_those_of_one_adam_of_torch_over_all_levels(name, resting_levels):
    ours, theirs = (build(name, resting_levels).double() for _ in range(2))
    peer = adam_of_torch(theirs, resting_levels)
    expected = losses_of(theirs, peer, lambda lr: [group.update(lr=lr) for group in peer.param_groups])
    adam = Adam(ours.optimizer_groups(), LR, ours.settings.betas, ours.settings.eps)
    losses = losses_of(ours, adam, lambda lr: setattr(adam, "lr", lr))
    adam.close()
    assert len(losses) >= 12
    torch.testing.assert_close(losses, expected, atol=1e-8, rtol=0)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-2 * LR, rtol=0)  # where gradients are of the size of eps


def test_levels_move_by_default():
    assert {resolve_settings(name).resting_levels for name in METHODS} == {"moving"}


def run(folder, resting_levels, killed_after=None):
    generator = torch.Generator().manual_seed(2)
    features = Features([torch.randn(12, *shape, generator=generator).numpy() for shape in SHAPES])
    method = build("cflow", resting_levels, epochs=4, batch_size=6)
    kept = []

    def on_kept(*_):
        kept.append(1)
        if len(kept) == killed_after:
            raise KeyboardInterrupt

    data = TrainingData(features, 0.2, 0, torch.device("cpu"))
    result = train(method, data, method.settings, SideFolder(folder, "f"), "cell", 0.0, on_kept)
    assert not any(flow._forward_pre_hooks for flow in method.flow)
    return result


def test_a_training_with_moving_levels_resumes_bit_equal(tmp_path):
    whole, still = run(tmp_path / "whole", "moving"), run(tmp_path / "still", "still")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", "moving", killed_after=3)
    resumed = run(tmp_path / "killed", "moving")
    assert resumed.kept.keys() == whole.kept.keys()
    for epoch, state in whole.kept.items():
        assert all(torch.equal(value, resumed.kept[epoch][key]) for key, value in state.items())
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    assert still.history[-1]["loss"] != whole.history[-1]["loss"]
