"""Every method trains and scores on images that are not square, or refuses them in one line."""

import math

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.blocks.method import PACKAGE, LevelShape, build_method, resolve_settings
from nfbench.blocks.settings import TrainedSettings
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin_names
from nfbench.features.building import build_on
from nfbench.scoring.maps import score_images
from nfbench.training.checkpoint import SideFolder
from nfbench.training.data import CachedViews, TrainingData
from nfbench.training.loop import train
from tests.tiny_models import tiny_of

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
N_TRAIN, WIDER = 20, 2
REFUSED = {"anomalib": "takes square images alone"}
SEES_THE_WHOLE_IMAGE = {"riad"}
"""Methods whose tiny network sees the whole image; their own tests localize."""


def build(name, transposed=False):
    """The tiny model of a method on images twice as wide as high, or twice as high as wide."""
    tiny = tiny_of(name)
    turn = (lambda sides: sides[::-1]) if transposed else (lambda sides: sides)
    size = turn((tiny.side, WIDER * tiny.side))
    own = resolve_settings(name)
    short = {"epochs": 12, "batch_size": 10, "lr": 4e-3} if isinstance(own, TrainedSettings) else {}
    settings = resolve_settings(name, overrides={**short, "val_fraction": 0.0, **tiny.settings})
    if tiny.backbone:
        return build_on(tiny.backbone.model_copy(update={"input_size": size}), name, settings, 0)
    shapes = [LevelShape(shape.channels, *turn((shape.height, WIDER * shape.width))) for shape in tiny.shapes]
    return build_method(name, shapes, settings, size, 0)


def features_of(method, count, seed):
    """Normal images: what each position usually shows, and some noise."""
    usual, rng = np.random.default_rng(7), np.random.default_rng(seed)
    views = (4,) if method.views else ()
    levels = [
        (usual.normal(size=shape) + 0.3 * rng.normal(size=(count, *views, *shape))).astype(np.float16)
        for shape in method.shapes
    ]
    image = None
    if method.takes_image:
        noise = rng.normal(size=(count, 3, *method.map_size))
        image = (usual.normal(size=(3, 1, 1)) + 0.05 * noise).astype(np.float16)
    return Features(levels, image, np.zeros(count, np.int64) if method.takes_class else None)


def plant(features, corner):
    """Make a corner of all images anomalous: half of the shorter side high and wide."""
    for part in features.parts():
        if part is not features.classes:
            n = -(-min(part.shape[-2:]) // 2)
            place = {"left": np.s_[..., :n, :n], "right": np.s_[..., -n:, -n:]}[corner]
            part[place] += 4 * np.sign(part[place])


def views_of(method):
    """For methods that learn from anomalies: each image unchanged, and with an anomaly."""
    normal, anomalous = (features_of(method, N_TRAIN, 1) for _ in range(2))
    plant(anomalous, "left")
    masks = np.zeros((N_TRAIN, 2, *method.map_size), np.uint8)
    masks[:, 1, : method.map_size[0] // 2, : min(method.map_size) // 2] = 255
    return CachedViews(Features.join([normal, anomalous], lambda pair: np.stack(pair, 1)), masks, CPU)


def fitted(method, folder):
    images = views_of(method) if method.needs_anomalies else None
    data = TrainingData(features_of(method, N_TRAIN, 1), 0.0, 0, CPU, images)
    train(method, data, method.settings, SideFolder(folder, "not square"), method.title, math.inf)
    return method.eval()


def scores_of(method, features):
    maps = (lambda rows: torch.zeros(len(rows), *method.map_size)) if method.gradient_maps else None
    return score_images(method, features, CPU, None, maps)


@pytest.mark.parametrize("name", [name for name in plugin_names(PACKAGE) if name not in REFUSED])
@pytest.mark.parametrize("transposed", [False, True], ids=["wide", "high"])
def test_a_method_trains_and_finds_an_anomaly_at_its_place(name, transposed, tmp_path):
    method = build(name, transposed)
    height, width = method.map_size
    assert (height < width) != transposed
    fitted(method, tmp_path)
    normal = scores_of(method, features_of(method, 3, 2))
    assert all(np.isfinite(values).all() for values in normal.images.values())
    planted = features_of(method, 3, 2)
    plant(planted, "right")
    found = scores_of(method, planted)
    assert found.images["paper"].min() > normal.images["paper"].max()
    if found.maps is None or method.gradient_maps:
        return
    assert found.maps.shape == (3, height, width)
    if name not in SEES_THE_WHOLE_IMAGE:
        rise = (found.maps - normal.maps).mean(0)
        row, column = np.unravel_index(rise.argmax(), rise.shape)
        assert row >= 0.4 * height, "in the lower half"
        assert column >= 0.4 * width, "in the right half"


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_is_one_line(name):
    with pytest.raises(NfbenchError, match=REFUSED[name]) as caught:
        build(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["padim", "subspacead", "spade"])
def test_transposed_features_give_transposed_maps(name, tmp_path):
    """Of methods without trained weights, which see positions alone."""
    wide, high = build(name), build(name, transposed=True)
    of_wide = [features_of(wide, N_TRAIN, seed) for seed in (1, 2)]
    of_high = [Features([level.swapaxes(-1, -2).copy() for level in part.levels], None, None) for part in of_wide]
    maps = []
    for number, (method, (normal, tested)) in enumerate(((wide, of_wide), (high, of_high))):
        data = TrainingData(normal, 0.0, 0, CPU, None)
        train(method, data, method.settings, SideFolder(tmp_path / str(number), "x"), name, math.inf)
        maps.append(scores_of(method.eval(), tested).maps)
    assert maps[0].shape[1:] == maps[1].shape[:0:-1]
    np.testing.assert_allclose(maps[1].swapaxes(1, 2), maps[0], rtol=1e-4, atol=1e-4 * np.abs(maps[0]).max())
