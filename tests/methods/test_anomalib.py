"""Models of anomalib through the adapter: what they are given, what they train, and that they go on where they stopped.

Networks have random weights, and no test fetches anything.
"""

import socket
import sys

import numpy as np
import pytest
import torch

from nfbench.blocks.anomalib.models import MODELS
from nfbench.blocks.features import Features
from nfbench.blocks.method import resolve_settings
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.features.building import build_on
from nfbench.methods.anomalib import AnomalibSettings
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import train

pytest.importorskip("anomalib", reason="anomalib is not installed")

CPU = torch.device("cpu")
SMALL = {"epochs": 4, "batch_size": 3, "checkpoints": 2}


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def backbone_of(model, side, **keys):
    row = MODELS[model]
    if not row.network:
        return BackboneConfig(name="image", input_size=side)
    name = "vit_small_patch14_dinov2.lvd142m" if row.network == "vit" else "resnet18.tv_in1k"
    return BackboneConfig(name=name, input_size=side, frozen=False, weights="random", **keys)


def settings_of(model, **overrides):
    needed = {"textures": "noise"} if MODELS[model].needs else {}
    short = {"epochs": 1} if MODELS[model].fitted else {}
    return resolve_settings("anomalib", overrides={"model": model, **SMALL, **short, **needed, **overrides})


def build(model, side=32, seed=0, **overrides):
    return build_on(backbone_of(model, side), "anomalib", settings_of(model, **overrides), seed)


def images(side, count=7):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, 3, 1, 1)) + 0.3 * rng.normal(size=(count, 3, side, side))
    return Features([], values.clip(-2, 2).astype(np.float16))


def run(method, folder, stop=None):
    def on_kept(model, epoch, log_likelihood):
        if epoch == stop:
            raise Interrupted

    data = TrainingData(images(method.map_size[0]), method.settings.val_fraction, 0, CPU)
    return train(method, data, method.settings, SideFolder(folder, "f"), "cell", 0.0, on_kept)


@pytest.mark.parametrize("model", ["stfpm", "cfa"])
def test_a_resumed_training_ends_bit_equal(model, tmp_path):
    whole = run(build(model), tmp_path / "whole")
    assert [row["epoch"] for row in whole.history] == [1, 2, 3, 4]
    assert list(whole.kept) == [2, 4]
    with pytest.raises(Interrupted):
        run(build(model), tmp_path / "killed", stop=4)
    resumed = run(build(model), tmp_path / "killed")
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    for name, value in whole.kept[4].items():
        assert torch.equal(resumed.kept[4][name], value), name


def test_images_come_once_normalized_and_the_teacher_stays_as_it_was(tmp_path):
    method, seen = build("stfpm", epochs=1, batch_size=7), []
    teacher = {name: value.clone() for name, value in method.module.model.teacher_model.state_dict().items()}
    method.module.model.teacher_model.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    run(method, tmp_path)
    given = torch.from_numpy(images(32).image).float()
    assert len(seen) == 1
    pixels = (given * method.std + method.mean).clamp(0, 1)
    expected = (pixels - method.to_mean) / method.to_std
    torch.testing.assert_close(seen[0].flatten(1).sum(1).sort().values, expected.flatten(1).sum(1).sort().values)
    for name, value in method.module.model.teacher_model.state_dict().items():
        assert torch.equal(value, teacher[name]), name


def test_global_random_states_are_left_as_they_were(tmp_path):
    method = build("padim")
    before = torch.random.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    run(method, tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


def test_each_row_is_a_choice_of_the_setting():
    assert MODELS.keys() == set(AnomalibSettings.model_fields["model"].annotation.__args__)


@pytest.mark.parametrize(
    ("model", "overrides", "message"),
    [
        ("padim", {"epochs": 2}, "'epochs' of model 'padim' is 1"),
        ("draem", {"textures": None}, "model 'draem' needs 'textures', a folder of images, or 'noise'"),
        ("stfpm", {"textures": "x"}, "model 'stfpm' takes no 'textures'"),
        ("stfpm", {"lr": 0.1}, "setting 'lr' of method 'anomalib' has no effect, since its training is its own"),
    ],
)
def test_settings_that_a_model_has_not_are_one_line(model, overrides, message):
    with pytest.raises(NfbenchError, match=message) as error:
        settings_of(model, **overrides)
    assert "\n" not in str(error.value)


def test_what_cannot_be_built_is_one_line(tmp_path):
    with pytest.raises(
        NfbenchError, match=r"model 'stfpm' .* takes a backbone such as 'resnet18\.tv_in1k' with 'frozen"
    ):
        build_on(BackboneConfig(name="image", input_size=32), "anomalib", settings_of("stfpm"), 0)
    with pytest.raises(NfbenchError, match="model 'draem' of method 'anomalib' takes the backbone 'image'"):
        build_on(backbone_of("stfpm", 32), "anomalib", settings_of("draem"), 0)
    with pytest.raises(NfbenchError, match="takes images of 128 pixels and more, not of 64; set 'input_size'"):
        build("supersimplenet", 64)
    with pytest.raises(NfbenchError, match="'options' of anomalib's Stfpm: it has no 'steps'; it has layers"):
        build("stfpm", options={"steps": 3})
    with pytest.raises(NfbenchError, match=r"takes more of the backbone 'resnet18\.tv_in1k' than its 'levels' leave"):
        build_on(backbone_of("stfpm", 32, levels=(1, 2)), "anomalib", settings_of("stfpm"), 0)
    with pytest.raises(NfbenchError, match=r"setting 'textures' of anomalib's Draem: .* is no folder with images"):
        build("draem", textures=str(tmp_path))


def test_without_anomalib_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "anomalib.models.image", None)
    with pytest.raises(NfbenchError, match=r"needs anomalib 2\.7 or later .*; run 'pip install nfbench\[peers\]'"):
        build("stfpm")
