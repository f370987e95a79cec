"""Small models of anomalib through the method ``anomalib``, with random weights, and images for them."""

import numpy as np
import torch

from nfbench.blocks.anomalib.models import MODELS
from nfbench.blocks.features import Features
from nfbench.blocks.method import resolve_settings
from nfbench.config import BackboneConfig
from nfbench.features.building import build_on, count_on
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import TrainingData
from nfbench.training.loop import train

SMALL = {"epochs": 4, "batch_size": 3, "checkpoints": 2}
NETWORKS = {"vit": "vit_small_patch14_dinov2.lvd142m", "timm": "resnet18.tv_in1k", "torchvision": "resnet18.tv_in1k"}
SMALLEST = {"patchflow": "tf_efficientnet_b5.aa_in1k"}
"""Of models for which there is no smaller network than theirs."""
LEVELS = {"cflow": (2, 3, 4), "patchcore": (2, 3), "patchflow": (2, 3, 4)}


def backbone_of(model, side, name="", **keys):
    row = MODELS[model]
    if not row.network:
        return BackboneConfig(name="image", input_size=side)
    levels = {"levels": LEVELS[model]} if model in LEVELS else {}
    name = name or (row.backbone if row.fixed else SMALLEST.get(model, NETWORKS[row.network]))
    return BackboneConfig(name=name, input_size=side, frozen=False, weights="random", **{**levels, **keys})


def settings_of(model, **overrides):
    row = MODELS[model]
    files = {key: "noise" if key == "textures" else __file__ for key in row.needs}
    short = {**({"epochs": 1} if row.fitted else {}), **({"batch_size": 1} if row.batch == 1 else {})}
    return resolve_settings("anomalib", overrides={"model": model, **SMALL, **short, **files, **overrides})


def build(model, side=32, seed=0, **overrides):
    return build_on(backbone_of(model, side), "anomalib", settings_of(model, **overrides), seed)


def counted(model, side, name="", **overrides):
    """Without values."""
    return count_on(backbone_of(model, side, name), "anomalib", settings_of(model, **overrides))


def images(side, count=7):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(1, 3, 1, 1)) + 0.3 * rng.normal(size=(count, 3, side, side))
    return Features([], values.clip(-2, 2).astype(np.float16))


def run(method, folder, stop=None, features=None):
    """Train; the error ``stop`` is raised when the model of the last epoch is kept."""

    def on_kept(_, epoch, __):
        if stop and epoch == method.settings.epochs:
            raise stop

    data = TrainingData(features or images(method.map_size[0]), method.settings.val_fraction, 0, torch.device("cpu"))
    return train(method, data, method.settings, SideFolder(folder, "f"), "cell", 0.0, on_kept)
