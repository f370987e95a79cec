"""Losses are checked every few steps; a diverged loss is reported as if every step had been checked."""

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.training import loop
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import LOOK_EVERY, Diverged, train

SHAPES = [LevelShape(4, 4, 4)]
STEPS = 200


def run(folder, spoil=None):
    """Train an epoch of ``STEPS`` steps; ``spoil`` changes losses by the number of their step. Result, and calls."""
    features = Features([np.random.default_rng(0).normal(size=(STEPS, *SHAPES[0])).astype(np.float16)])
    overrides = {"epochs": 1, "batch_size": 1, "flow_steps": 1, "val_fraction": 0}
    settings = resolve_settings("fastflow", overrides=overrides)
    method = build_method("fastflow", SHAPES, settings, (8, 8), 0)
    calls = []

    def loss(features):
        calls.append(1)
        found = type(method).loss(method, features)
        return spoil(len(calls), found) if spoil else found

    method.loss = loss
    data = TrainingData(features, 0.0, 0, torch.device("cpu"))
    try:
        result = train(method, data, settings, SideFolder(folder, "f"), "cell")
    except Diverged as error:
        return error, len(calls)
    return result, len(calls)


@pytest.mark.parametrize("every", [1, 7, STEPS, STEPS + 1])
def test_history_does_not_depend_on_when_losses_are_looked_at(tmp_path, monkeypatch, every):
    usual, _ = run(tmp_path / "usual")
    monkeypatch.setattr(loop, "LOOK_EVERY", every)
    found, steps = run(tmp_path / "found")
    assert steps == STEPS
    assert found.history[0]["loss"] == usual.history[0]["loss"]
    assert all(torch.equal(value, usual.kept[1][name]) for name, value in found.kept[1].items())


@pytest.mark.parametrize("at", [1, LOOK_EVERY, LOOK_EVERY + 1, STEPS])
@pytest.mark.parametrize(("value", "said"), [(float("nan"), "nan"), (float("-inf"), "-inf"), (64 * 2e3, "2e+03")])
def test_the_first_lost_loss_is_named(tmp_path, at, value, said):
    error, steps = run(tmp_path, lambda number, loss: loss * 0 + value if number == at else loss)
    assert f"the loss is {said} in epoch 1, batch {at};" in str(error)
    assert at <= steps <= min(STEPS, -(-at // LOOK_EVERY) * LOOK_EVERY)


def test_a_lost_loss_is_the_reason_for_errors_of_the_steps_after_it(tmp_path):
    """Such as those of distributions that check their arguments."""

    def spoil(number, loss):
        if number == 5:
            raise ValueError("Expected parameter loc to satisfy the constraint Real()")
        return loss * float("nan") if number == 3 else loss

    error, _ = run(tmp_path, spoil)
    assert "the loss is nan in epoch 1, batch 3;" in str(error)
    assert isinstance(error.__context__, ValueError)


def test_other_errors_stay_what_they_are(tmp_path):
    def spoil(number, loss):
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        run(tmp_path, spoil)
