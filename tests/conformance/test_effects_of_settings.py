"""Every setting of every method changes something: the model, its scores or its maps."""

import math
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from nfbench.blocks.features import Features
from nfbench.core.errors import NfbenchError
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import JoinedSources, TrainingData
from nfbench.training.loop import train
from tests.conformance.test_methods import (
    CPU,
    METHODS,
    anomalous_views,
    build,
    features_of,
    find,
    settings_of,
    tensors,
)
from tests.tiny_models import build_tiny

pytestmark = pytest.mark.slow

OTHER = {
    "base": "fitted",
    "betas": (0.5, 0.9),
    "compile": None,  # leaves the numbers, see test_settings_and_splits.py
    "confidence_margin": 0.05,
    "eps": 1e-2,
    "folds": None,  # chooses where thresholds come from, see tests/training/test_crossfit.py
    "gradient_clip": 1e-4,
    "kernel_sizes": (3,),
    "map_side": 8,
    "margin": 2.0,
    "meta_epochs": 3,
    "milestones": (0.9,),
    "online_rotation": None,  # chooses where features come from, see tests/features/test_features.py
    "smoothing": 0.01,
    "train_views": 2,
}
"""Values for which twice or half the default is no choice; None where no number of the model follows from them."""
GIVEN = {
    "checkpoints": {"epochs": 2},
    "coupling": {"normalization": "standardize"},
    "fibre_batch": {"fibre_batch": 64},
    "gamma": {"schedule": "step", "milestones": (0.3,)},
    "knn_neighbors": {"density": "knn"},
    "meta_epochs": {"schedule": "warmup_cosine"},
    "milestones": {"schedule": "step", "milestones": (0.3,)},
    "projection_dim": {"projection_dim": 8},
    "reweighting_neighbors": {"reweighting": True},
    "schedule": {"epochs": 2, "milestones": (0.5,)},
}
"""What gives a setting its meaning in a tiny model."""


def other_value(name, key):
    """A valid value of a setting other than the tiny model's; None if there is no rule for one."""
    if key in OTHER:
        return OTHER[key] if OTHER[key] is None or is_legal(name, key, OTHER[key]) else None
    if key == "precision" and not any(isinstance(part, nn.Linear | nn.Conv2d) for part in build(name).modules()):
        return None  # autocast concerns matrix products alone
    now = getattr(small(name, **GIVEN.get(key, {})), key)
    if isinstance(now, bool):
        return not now
    if isinstance(now, str):
        candidates = get_args(find(name).settings_type.model_fields[key].annotation)
    elif isinstance(now, int | float):
        candidates = (2 * now, now // 2 if isinstance(now, int) else now / 2, 1, 0.5)
    else:
        return None
    return next((value for value in candidates if value != now and is_legal(name, key, value)), None)


def is_legal(name, key, value):
    try:
        small(name, **{**GIVEN.get(key, {}), key: value})
    except NfbenchError:
        return False
    return True


def small(name, **overrides):
    short, fields = {"epochs": 1, "batch_size": 3, "lr": 1e-3, "checkpoints": 1}, find(name).settings_type.model_fields
    return settings_of(name, **{**{key: value for key, value in short.items() if key in fields}, **overrides})


def outcome(name, folder, **overrides):
    """All numbers of an epoch of seven images in batches of three, and of the scores of two others."""
    tiny, n_classes = find(name).tiny, 1 + find(name).takes_class
    side = tiny.side if tiny.shapes else 2 * tiny.side  # patches of an image are smaller than it
    method = build_tiny(name, small(name, **overrides), n_classes=n_classes, side=side)
    numbers = range(n_classes)
    features = Features.join([features_of(method, 7, 1, number) for number in numbers], np.concatenate)
    views = JoinedSources([anomalous_views(method, n, 7) for n in numbers], CPU) if method.needs_anomalies else None
    data = TrainingData(features, method.settings.val_fraction, 0, CPU, views)
    result = train(method, data, method.settings, SideFolder(folder, "conformance"), name, math.inf)
    scores = method.eval().score(tensors(features_of(method, 2, 2)))
    numbers = {f"{epoch} {key}": value for epoch, kept in result.kept.items() for key, value in kept.items()}
    return {**numbers, "maps": scores.maps, "images": scores.images, "gradients": method.gradient_maps}


def same(one, other):
    tensor = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    return torch.equal(one, other) if tensor else one == other


@pytest.mark.parametrize("name", METHODS)
def test_every_setting_has_an_effect(name, tmp_path):
    usual, idle = {}, []
    for key in find(name).settings_type.model_fields:
        value, given = other_value(name, key), GIVEN.get(key, {})
        if value is None:
            continue
        if str(given) not in usual:
            usual[str(given)] = outcome(name, tmp_path, **given)
        found = outcome(name, tmp_path, **{**given, key: value})
        expected = usual[str(given)]
        if found.keys() == expected.keys() and all(same(found[part], expected[part]) for part in expected):
            idle.append(key)
    assert not idle
