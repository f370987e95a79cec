"""Models of anomalib through the adapter: what they are given, what they train, and that they go on where they stopped.

Networks have random weights, and no test fetches anything.
"""

import signal
import socket
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench.blocks.anomalib.models import MODELS
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.features.building import build_on
from nfbench.methods.anomalib import Anomalib, AnomalibSettings
from tests.methods.peer_models import backbone_of, build, images, run, settings_of

pytest.importorskip("anomalib", reason="anomalib is not installed")


class Interrupted(Exception):
    """Stands for a kill."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("model", ["stfpm", "cfa"])
def test_a_resumed_training_ends_bit_equal(model, tmp_path):
    whole = run(build(model), tmp_path / "whole")
    assert [row["epoch"] for row in whole.history] == [1, 2, 3, 4]
    assert list(whole.kept) == [2, 4]
    with pytest.raises(Interrupted):
        run(build(model), tmp_path / "killed", Interrupted)
    resumed = run(build(model), tmp_path / "killed")
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]
    for name, value in whole.kept[4].items():
        assert torch.equal(resumed.kept[4][name], value), name


def test_a_training_that_is_terminated_does_not_end_as_if_it_were_done(tmp_path):
    method, found, before = build("stfpm", epochs=1, batch_size=7), [], signal.getsignal(signal.SIGTERM)
    method.module.model.teacher_model.register_forward_hook(lambda *_: found.append(signal.getsignal(signal.SIGTERM)))
    run(method, tmp_path)
    assert set(found) == {before}
    assert signal.getsignal(signal.SIGTERM) == before


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


@torch.no_grad()
@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("padim", "model.feature_extractor"),
        ("cfa", "model.feature_extractor"),
        ("fastflow", "model.feature_extractor"),
        ("cflow", "model.encoder"),
        ("patchcore", "model.feature_extractor"),
        ("uflow", "model.feature_extractor.feature_extractor"),
    ],
)
def test_models_see_of_the_network_what_methods_here_see(model, path):
    method = build(model, 64).eval()
    x = torch.randn(2, 3, 64, 64)
    found = method.module.get_submodule(path)(x)
    expected = method.make_network().eval()(x)
    for ours, theirs in zip(expected, found.values() if isinstance(found, dict) else found, strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_padim_through_the_adapter_is_ours(tmp_path):
    """Both on one network; maps before they are blurred, as anomalib mirrors them without their border."""
    method = build("padim", 64)
    run(method, tmp_path)
    method.module.model.anomaly_map_generator.blur = torch.nn.Identity()
    network, given = method.make_network().eval(), torch.from_numpy(images(64).image).float()
    levels = network(method.images(Features([], given)))
    # anomalib adds 1e-5 to the diagonal on top of 0.01
    overrides = {"reduced_dimensions": 100, "regularization": 0.01001, "smoothing": 0}
    shapes = [LevelShape(*level.shape[1:]) for level in levels]
    ours = build_method("padim", shapes, resolve_settings("padim", overrides=overrides), (64, 64), 0)
    ours.channels.copy_(method.module.model.idx.sort().values)
    ours.prepare(lambda: [Features(levels)])
    found, expected = method.eval().score(Features([], given)), ours.score(Features(levels))
    torch.testing.assert_close(found.maps, expected.maps, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.images, expected.images, atol=1e-3, rtol=1e-3)


def test_textures_are_sorted_and_read(tmp_path):
    folder = tmp_path / "textures" / "below"
    folder.mkdir(parents=True)
    for number in (2, 0, 1):
        Image.new("RGB", (40, 40), (100 * number, 0, 255)).save(folder / f"{number}.PNG")
    (folder / "notes.txt").touch()
    method = build("glass", 32, textures=str(tmp_path / "textures"), epochs=1, options={"step": 1})
    augmentor = method.module.model.augmentor
    assert [path.name for path in augmentor.anomaly_source_paths] == ["0.PNG", "1.PNG", "2.PNG"]
    augmentor.probability, read = 1.0, []
    perlin = sys.modules[type(augmentor).__module__].io
    perlin.read_image, inner = lambda *found, **_: read.append(found[0]) or inner(*found, "RGB"), perlin.read_image
    result = run(method, tmp_path / "run")
    assert len(read) == 7
    assert np.isfinite(result.history[0]["loss"])


def test_ganomaly_scores_images_in_the_range_of_its_generator_and_makes_no_maps(tmp_path):
    method = build("ganomaly", 32, epochs=1, options={"n_features": 8})
    run(method, tmp_path)
    x = torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1).expand(3, 3, 32, 32)
    given = Features([], (x - method.mean) / method.std)
    torch.testing.assert_close(method.images(given)[:, 0, 0, 0], torch.tensor([-1.0, 0, 1]))
    assert not Anomalib.makes_maps(method.settings)
    assert Anomalib.makes_maps(settings_of("stfpm"))
    with torch.inference_mode():
        scores = method.eval().score(given)
    assert scores.maps is None
    assert scores.images.shape == (3,)


def test_each_row_is_a_choice_of_the_setting():
    assert MODELS.keys() == set(AnomalibSettings.model_fields["model"].annotation.__args__)


@pytest.mark.parametrize(
    ("model", "overrides", "message"),
    [
        ("padim", {"epochs": 2}, "'epochs' of model 'padim' must be 1"),
        ("draem", {"textures": None}, "model 'draem' needs 'textures', see peers"),
        ("stfpm", {"textures": "x"}, "model 'stfpm' takes no 'textures'"),
        ("stfpm", {"lr": 0.1}, "setting 'lr' of method 'anomalib' has no effect, because the method has its own"),
    ],
)
def test_settings_that_a_model_has_not_are_one_line(model, overrides, message):
    with pytest.raises(NfbenchError, match=message) as error:
        settings_of(model, **overrides)
    assert "\n" not in str(error.value)


def test_what_cannot_be_built_is_one_line(tmp_path):
    with pytest.raises(
        NfbenchError, match=r"model 'stfpm' .* needs a backbone such as 'resnet18\.tv_in1k' with 'frozen"
    ):
        build_on(BackboneConfig(name="image", input_size=32), "anomalib", settings_of("stfpm"), 0)
    with pytest.raises(NfbenchError, match="model 'draem' of method 'anomalib' needs the backbone 'image'"):
        build_on(backbone_of("stfpm", 32), "anomalib", settings_of("draem"), 0)
    with pytest.raises(NfbenchError, match=r"model 'uninet' .* only supports the backbone 'wide_resnet50_2\.tv_in1k'"):
        build_on(backbone_of("uninet", 32, "resnet18.tv_in1k"), "anomalib", settings_of("uninet"), 0)
    with pytest.raises(NfbenchError, match="needs images of at least 128 pixels, got 64; set 'input_size'"):
        build("supersimplenet", 64)
    with pytest.raises(NfbenchError, match="'options' of anomalib's Stfpm: unknown 'steps'; known are layers"):
        build("stfpm", options={"steps": 3})
    with pytest.raises(
        NfbenchError, match=r"needs parts of the backbone 'resnet18\.tv_in1k' that its 'levels' exclude"
    ):
        build_on(backbone_of("stfpm", 32, levels=(1, 2)), "anomalib", settings_of("stfpm"), 0)
    with pytest.raises(NfbenchError, match=r"setting 'textures' of anomalib's Draem: .* is not a folder with images"):
        build("draem", textures=str(tmp_path))


def test_without_anomalib_one_line_says_what_to_install(monkeypatch):
    message = r"needs anomalib 2\.7 or later.*: pip install 'nfbench\[peers\]'"
    monkeypatch.setitem(sys.modules, "anomalib", None)
    with pytest.raises(NfbenchError, match=message):
        build("stfpm")
    monkeypatch.undo()
    monkeypatch.setattr("nfbench.blocks.anomalib.building.version", lambda _: "2.6.0")
    with pytest.raises(NfbenchError, match=message):
        build("stfpm")


def test_dinomaly_learns_an_image_and_finds_what_is_pasted_on_it(tmp_path):
    """Its learning rate grows by step; by epoch it would be 0 in the first one."""
    method = build("dinomaly", 56, epochs=25, batch_size=2, checkpoints=1)
    usual = images(56, 1)
    result = run(method, tmp_path, features=Features([], np.repeat(usual.image, 2, axis=0)))
    assert [row["lr"] for row in result.history[:3]] == pytest.approx([0, 2e-3 / 99, 4e-3 / 99])
    assert result.history[-1]["loss"] < 0.5 * result.history[0]["loss"]
    normal = torch.from_numpy(usual.image).float()
    pasted = normal.clone()
    pasted[..., 14:28, 14:28] += 2
    with torch.inference_mode():
        maps = method.eval().score(Features([], torch.cat([normal, pasted]))).maps
    outside = torch.ones(56, 56, dtype=torch.bool)
    outside[7:35, 7:35] = False
    assert maps[1, 14:28, 14:28].max() > 2 * maps[1][outside].quantile(0.99)
    assert maps[1].max() > 2 * maps[0].max()
