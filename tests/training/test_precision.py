"""The setting 'precision' affects only training steps; everything else is IEEE float32."""

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.core.device import tf32
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import train

SHAPES = [LevelShape(4, 4, 4)]


@pytest.fixture(autouse=True)
def ieee():
    """What is set for a GPU."""
    with tf32(allowed=False):
        yield


def run(folder, precision):
    """Run a short training; record whether TF32 and bf16 were allowed inside and outside its steps."""
    features = Features([np.random.default_rng(0).normal(size=(12, *SHAPES[0])).astype(np.float16)])
    settings = resolve_settings("fastflow", overrides={"epochs": 2, "batch_size": 4, "precision": precision})
    method = build_method("fastflow", SHAPES, settings, (8, 8), 0)
    allowed = {"steps": set(), "backward": set(), "beside": set()}

    def look(where):
        backends, bf16 = torch.backends, torch.is_autocast_enabled("cpu")
        allowed[where].add((backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, bf16))

    inner = method.encode

    def encode(levels):
        look("steps" if method.training else "beside")
        latents, log_det = inner(levels)
        if log_det.requires_grad:
            log_det.register_hook(lambda gradient: look("backward"))
        return latents, log_det

    method.encode = encode
    data = TrainingData(features, 0.2, 0, torch.device("cpu"))
    return train(method, data, settings, SideFolder(folder, "f"), "cell"), allowed


@pytest.mark.parametrize(
    ("precision", "steps", "backward"),
    [
        ("fp32", (False, False, False), (False, False, False)),
        ("tf32", (True, True, False), (True, True, False)),
        ("bf16", (False, False, True), (False, False, False)),
    ],
)
def test_precision_is_that_of_steps(tmp_path, precision, steps, backward):
    _, allowed = run(tmp_path, precision)
    assert allowed == {"steps": {steps}, "backward": {backward}, "beside": {(False, False, False)}}


def test_a_cpu_has_no_tf32(tmp_path):
    fp32, tf32 = (run(tmp_path / name, name)[0] for name in ("fp32", "tf32"))
    assert all(torch.equal(value, fp32.kept[2][name]) for name, value in tf32.kept[2].items())
