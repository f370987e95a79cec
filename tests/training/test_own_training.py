"""Methods with their own optimizer, schedule or loop also support seeds, kept epochs and resuming."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, Method, Scores, resolve_settings
from nfbench.blocks.settings import MethodSettings
from nfbench.methods.fastflow import FastFlow
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import train

SHAPES = [LevelShape(8, 4, 4), LevelShape(12, 2, 2)]
CPU = torch.device("cpu")


class Interrupted(Exception):
    """Stands for a kill."""


class ByMomentum(FastFlow):
    """SGD with a lower rate for the normalization; rates are divided by 10 halfway."""

    def own_optimizer(self):
        groups = [{"params": self.flow.parameters()}, {"params": self.normalization.parameters(), "lr": 1e-6}]
        return torch.optim.SGD(groups, 1e-5, momentum=0.9)

    def own_schedule(self, progress):
        return 1 if progress < 0.5 else 0.1


class Centre(Method):
    """Finds the mean of the features by a loop of its own, from a random start."""

    title = "Centre"
    settings_type = MethodSettings

    def build(self, generator):
        self.register_buffer("centre", torch.randn(self.shapes[0].channels, generator=generator))
        self.stop_after = math.inf

    def prepare(self, passes):
        centre = nn.Parameter(self.centre.clone())
        optimizer = torch.optim.SGD([centre], 0.2)
        noise = passes.generator("noise")
        self.steps = 0
        for epoch in range(5):
            for features in passes.shuffled(epoch, batch_size=4):
                x = features.levels[0]
                optimizer.zero_grad()
                noisy = x + 0.01 * torch.randn(x.shape, generator=noise)
                (noisy - centre[:, None, None]).square().mean((0, 2, 3)).sum().backward()
                optimizer.step()
                self.steps += 1
                if self.steps > self.stop_after:
                    raise Interrupted
        self.centre.copy_(centre.detach())

    def score(self, features):
        return Scores(None, (features.levels[0].mean((2, 3)) - self.centre).square().sum(1))

    def parameter_groups(self):
        return {}


def features_of(count=20):
    rng = np.random.default_rng(0)
    return Features([(2 + rng.normal(size=(count, *shape))).astype(np.float16) for shape in SHAPES])


def run(method, folder, **options):
    data = TrainingData(features_of(), method.settings.val_fraction, 0, CPU)
    return train(method, data, method.settings, SideFolder(folder, "f"), "cell", 0.0, **options)


def by_momentum(seed=0):
    settings = resolve_settings("fastflow", overrides={"epochs": 6, "batch_size": 5, "flow_steps": 2, "checkpoints": 3})
    return ByMomentum(SHAPES, settings, (16, 16), torch.Generator().manual_seed(seed))


def test_the_optimizer_and_its_schedule_are_the_method_s(tmp_path):
    torch.manual_seed(0)
    method = by_momentum()
    before = {name: value.clone() for name, value in method.named_parameters()}
    result = run(method, tmp_path)
    lr = method.settings.lr
    assert [row["lr"] for row in result.history] == pytest.approx([lr] * 3 + [0.1 * lr] * 3)
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    assert list(result.kept) == [2, 4, 6]
    assert all((value != before[name]).any() for name, value in method.flow.named_parameters(prefix="flow"))


def test_groups_keep_the_ratio_of_their_rates(tmp_path):
    torch.manual_seed(0)
    method, seen = by_momentum(), []
    make = method.own_optimizer

    def watched():
        optimizer = make()
        step = optimizer.step
        optimizer.step = lambda: (seen.append([group["lr"] for group in optimizer.param_groups]), step())[1]
        return optimizer

    method.own_optimizer = watched
    run(method, tmp_path)
    assert [other / first for first, other in seen] == pytest.approx([0.1] * len(seen))


def test_a_training_with_its_own_optimizer_resumes_bit_equal(tmp_path):
    def build():
        torch.manual_seed(0)
        return by_momentum()

    whole = run(build(), tmp_path / "whole")

    def stop(model, epoch, log_likelihood):
        if epoch == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(build(), tmp_path / "killed", on_kept=stop)
    resumed = run(build(), tmp_path / "killed")
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    for name, value in whole.kept[6].items():
        assert torch.equal(resumed.kept[6][name], value), name


def centre(seed=0):
    return Centre(SHAPES, MethodSettings(), (16, 16), torch.Generator().manual_seed(seed))


def test_a_loop_of_its_own_is_repeatable_and_starts_again_where_it_was_interrupted(tmp_path):
    first = run(centre(), tmp_path / "first")
    assert first.history == []
    assert list(first.kept) == [0]
    assert first.seconds > 0
    assert (first.kept[0]["centre"] - 2).abs().max() < 1
    killed = centre()
    killed.stop_after = 12
    with pytest.raises(Interrupted):
        run(killed, tmp_path / "second")
    again = centre()
    second = run(again, tmp_path / "second")
    assert again.steps == 25  # 18 images in batches of 4, five times: all of them again
    assert torch.equal(first.kept[0]["centre"], second.kept[0]["centre"])
