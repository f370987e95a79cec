"""Features of the images that a condition draws are rows of the caches; no file is written."""

import numpy as np
import pytest
import torch

from nfbench.config import BackboneConfig
from nfbench.datasets._drawn import Drawn, draw
from nfbench.datasets._manifest import build_manifest, read_checked_image, view_entries, write_manifest
from nfbench.datasets.folder import DATASET
from nfbench.features.batches import read_batches
from nfbench.features.cache import FeatureCache
from nfbench.features.drawn import drawn_features
from nfbench.features.extract import extract_features
from nfbench.training.assemble import Images
from tests.conftest import make_image_folder

CPU = torch.device("cpu")
VIEWS = ("train", "test", "test-noise40")
KINDS = {"stored": {}, "online": {"online": True}, "tiles": {"tiles": {"size": 32}}}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Caches of three views of a category: of images, computed when read, and of four tiles an image; its manifest."""
    folder = tmp_path_factory.mktemp("drawn")
    entries = build_manifest(DATASET.samples(make_image_folder(folder / "images", "part"), "part"))
    write_manifest(folder / "part.csv", entries)
    caches = {}
    for kind, keys in KINDS.items():
        backbone = BackboneConfig(name="tf_efficientnet_lite0", input_size=32, levels=(1, 2), weights="random", **keys)
        for view in VIEWS:
            path = folder / kind / view / "meta.json"
            manifest = folder / "part.csv" if backbone.online else None
            extract_features(view_entries(entries, view), backbone, path, view=view, device=CPU, online=manifest)
            caches[kind, view] = FeatureCache(path)
    return entries, caches


def values(features):
    """All values of the first level, as training reads them."""
    return torch.cat([part.levels[0] for part in read_batches(features, torch.arange(len(features)), CPU)]).numpy()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("condition", ["", "shots2", "shots6", "contamination0.3-of-0.3", "contamination0-of-0.3"])
def test_rows_are_those_of_the_caches(found, kind, condition):
    entries, caches = found
    train, test = (caches[kind, view].features for view in VIEWS[:2])
    drawn = draw(entries, condition, 0)
    expected = np.concatenate([values(train)[train.rows(drawn.normal)], values(test)[test.rows(drawn.added)]])
    assert len(expected) == drawn.n_train * (4 if kind == "tiles" else 1)
    assert np.array_equal(values(drawn_features(caches[kind, "train"], caches[kind, "test"], 6, drawn)), expected)
    assert len(drawn.added) == 2 * (condition == "contamination0.3-of-0.3")
    images = Images(entries, caches[kind, "train"], test=caches[kind, "test"], drawn=drawn)
    assert images.n_train == images.normal.n_images == len(images.normal_entries) == drawn.n_train


def test_all_images_are_read_from_the_file_itself(found):
    _, caches = found
    train = caches["stored", "train"]
    for drawn in (None, Drawn(list(range(6)), [], frozenset())):
        assert drawn_features(train, None, 6, drawn).levels[0] is train.features.levels[0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_shifted_view_is_made_of_shifted_images(found, kind):
    entries, caches = found
    clean, noisy = (values(caches[kind, view].features) for view in VIEWS[1:])
    assert clean.shape == noisy.shape
    assert np.abs(clean - noisy).max() > 0.01
    assert caches[kind, "test"].meta.key != caches[kind, "test-noise40"].meta.key
    if kind != "tiles":
        others = {"stored": "online", "online": "stored"}
        assert np.array_equal(noisy, values(caches[others[kind], "test-noise40"].features))
    shifted = view_entries(entries, "test-noise40")
    assert not np.array_equal(read_checked_image(shifted[0]), read_checked_image(view_entries(entries, "test")[0]))
