"""Each of anomalib's models as its row describes it: what is trained, and how, without values; and the docs' table."""

import socket
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench.blocks.anomalib.models import MODELS
from nfbench.blocks.anomalib.page import deviations, table
from nfbench.blocks.features import Features
from nfbench.blocks.method import count_parameters
from tests.conftest import ROOT
from tests.methods.peer_models import build, counted

pytest.importorskip("anomalib", reason="anomalib is not installed")

SIDES = {"supersimplenet": 128, "patchflow": 128, "efficient_ad": 256}
WIDE, BASE = "wide_resnet50_2.tv_in1k", "vit_base_patch14_reg4_dinov2.lvd142m"
COUNTS = {
    "stfpm": ("", 2_782_784),
    "reverse_distillation": (WIDE, 64_139_776),
    "cfa": (WIDE, 3_216_640),
    "draem": ("", 97_422_725),
    "supersimplenet": (WIDE, 8_856_835),
    "glass": (WIDE, 1_576_960 + 2_360_832),
    "ganomaly": ("", 143_950_208 + 44_739_328),
    "dinomaly": (BASE, 61_390_848),
    "inp_former": (BASE, 68_483_424),
    "l2bt": (BASE, 3_543_552),
}
"""Trained parameters at the papers' networks and 256 pixels."""


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def outside(tmp_path, monkeypatch):
    (tmp_path / "kind").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "kind" / "0.png")
    return str(tmp_path)


def described(model, outside, side=0, name=""):
    files = {"outside": outside} if "outside" in MODELS[model].needs else {}
    row = MODELS[model]
    return counted(model, side or SIDES.get(model, 56 if row.multiple == 14 else 64), name, **files)


def schedules(module):
    """What the module's optimizers and schedules are, for 10 epochs of 20 steps."""
    data = SimpleNamespace(train_dataloader=lambda: range(20))
    module.__dict__["_trainer"] = SimpleNamespace(max_epochs=10, max_steps=-1, datamodule=data)
    return module.configure_optimizers()


def optimizers(found):
    if found is None:
        return []
    if isinstance(found, dict):
        return [found["optimizer"]]
    found = found[0] if isinstance(found, tuple | list) and isinstance(found[0], list) else found
    return list(found) if isinstance(found, tuple | list) else [found]


@pytest.mark.parametrize("model", MODELS)
def test_parts_are_what_the_optimizers_hold(model, outside):
    method = described(model, outside)
    groups = [group for optimizer in optimizers(schedules(method.module)) for group in optimizer.param_groups]
    held = {id(parameter) for group in groups for parameter in group["params"] if parameter.requires_grad}
    assert held == {id(parameter) for group in method.parameter_groups().values() for parameter in group}
    assert bool(held) != MODELS[model].fitted


@pytest.mark.parametrize("model", COUNTS)
def test_parameters_at_the_papers_networks(model, outside):
    name, count = COUNTS[model]
    method = described(model, outside, 252 if MODELS[model].multiple == 14 else 256, name)
    assert count_parameters(method)["total"] == count


@pytest.mark.parametrize("model", [model for model, row in MODELS.items() if row.by_step])
def test_schedules_of_steps_are_stepped_by_batch(model, outside):
    found = schedules(described(model, outside).module)["lr_scheduler"]
    assert found["interval"] == "step"
    scheduler = found["scheduler"]
    assert getattr(scheduler, "total_iters", None) == 200 or scheduler.step_size == 190


def test_the_rate_of_uninet_falls_after_a_whole_epoch(outside):
    assert dict(schedules(described("uninet", outside).module)[1][0].milestones) == {8: 1}


@pytest.mark.parametrize("model", MODELS)
def test_frozen_networks_rest_in_training(model, outside):
    method = described(model, outside).train()
    trained = {
        id(part) for path in MODELS[model].trained.values() for part in method.module.get_submodule(path).modules()
    }
    if model == "uninet":  # its normalization would follow the images
        assert not any(part.training for part in method.module.model.teachers.source_teacher.modules())
    assert all(part.training for part in method.module.modules() if id(part) in trained)


def test_efficient_ad_scales_its_maps_by_held_out_images(outside):
    method = build("efficient_ad", 256, outside=outside)
    image = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 256, 256))).float()
    method.eval().calibrate(lambda: [Features([], image)])
    found = method.module.model.quantiles
    assert found["qb_st"] > found["qa_st"] > 0
    assert found["qb_ae"] > found["qa_ae"] > 0


def test_the_page_has_the_rows():
    page = (ROOT / "docs" / "peers.md").read_text()
    assert table() in page
    assert deviations() in page
