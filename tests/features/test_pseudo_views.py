"""Cached and online features of pseudo-anomalies, and of the image itself."""

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench.anomalies._base import make_generator, view_seed
from nfbench.backbones._base import find_backbone
from nfbench.config import AnomaliesConfig, BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import build_manifest
from nfbench.datasets.folder import DATASET
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import Synthesis, extract_features
from nfbench.features.online import OnlineFeatures, pseudo_anomalies

CPU = torch.device("cpu")
BACKBONE = find_backbone("tf_efficientnet_lite0")
LITE = BackboneConfig(name=BACKBONE.name, input_size=64, weights="random")


@pytest.fixture
def entries(image_folder):
    return build_manifest(DATASET.samples(image_folder, "part"))


WITH_IMAGE = LITE.model_copy(update={"image": True})


def extract(entries, path, generator="blend", views=3, seed=0, backbone=WITH_IMAGE, **anomalies):
    config = AnomaliesConfig(generator=generator, **anomalies)
    made, used = make_generator(config, entries, seed, 64)
    view = config.view(seed)
    return extract_features(
        used, backbone, path, view=view, device=CPU, synthesis=Synthesis(generator, made, views, seed)
    )


def test_views_have_their_axis_and_their_masks(entries, tmp_path):
    meta = extract(entries, tmp_path / "meta.json")
    cache = FeatureCache(tmp_path / "meta.json")
    assert meta.synthesis.model_dump() == {"generator": "blend", "views": 3, "seed": 0, "masks_sha256": []}
    assert cache.features.image.shape == (6, 3, 3, 64, 64)
    assert [level.shape for level in cache.features.levels] == [(6, 3, *s) for s in BACKBONE.shapes(64)]
    assert cache.shapes == BACKBONE.shapes(64)
    assert cache.masks.shape == (6, 3, 64, 64)
    assert cache.masks.dtype == np.uint8
    generator, _ = make_generator(AnomaliesConfig(generator="blend"), entries, 0, 64)
    image, mask = generator(4, view_seed("blend", 0, 4, 2))
    assert np.array_equal(cache.masks[4, 2], mask)
    mean, std = (np.array(values)[:, None, None] for values in (BACKBONE.mean, BACKBONE.std))
    np.testing.assert_allclose(cache.features.image[4, 2] * std + mean, image.transpose(2, 0, 1) / 255, atol=2e-3)


def test_equal_seeds_give_equal_bytes(entries, tmp_path):
    files = ["masks.npy", "image.npy", "level1.npy"]
    for name in ("one", "same"):
        extract(entries, tmp_path / name / "meta.json", "rpag", real=2, seed=1)
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "same" / file).read_bytes()
    extract(entries, tmp_path / "other" / "meta.json", "rpag", real=2, seed=2)
    assert any((tmp_path / "one" / f).read_bytes() != (tmp_path / "other" / f).read_bytes() for f in files)


def test_a_cache_of_other_anomalies_is_refused(entries, tmp_path):
    extract(entries, tmp_path / "meta.json")
    with pytest.raises(NfbenchError, match="synthesis"):
        extract(entries, tmp_path / "meta.json", views=2)


def test_rotated_pseudo_anomalies_are_refused(entries, tmp_path):
    with pytest.raises(NfbenchError, match="exclude each other"):
        extract(entries, tmp_path / "meta.json", backbone=LITE.model_copy(update={"rotations": 4}))


def test_a_damaged_mask_file_is_named(entries, tmp_path):
    extract(entries, tmp_path / "meta.json")
    with open(tmp_path / "masks.npy", "r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    with pytest.raises(NfbenchError, match=r"masks\.npy has changed"):
        FeatureCache(tmp_path / "meta.json")


def test_online_anomalies_are_the_cached_ones_where_seeds_agree(entries, tmp_path):
    extract(entries, tmp_path / "meta.json")
    cache = FeatureCache(tmp_path / "meta.json")
    generator, _ = make_generator(AnomaliesConfig(generator="blend"), entries, 0, 64)
    online = OnlineFeatures(pseudo_anomalies([generator]), len(generator), cache.meta.recipe, CPU)
    features, masks = online.read(torch.tensor([4]), torch.tensor([view_seed("blend", 0, 4, 2)]))
    assert np.array_equal((255 * masks[0]).round().numpy(), cache.masks[4, 2])
    for level, cached in zip(features.parts(), cache.features.parts(), strict=True):
        torch.testing.assert_close(level[0], torch.from_numpy(cached[4, 2].astype(np.float32)), atol=1e-2, rtol=1e-2)


def test_training_reads_what_goes_with_clean_features_only(entries, tmp_path):
    extract(entries, tmp_path / "pseudo" / "meta.json")
    train = [entry for entry in entries if entry.split == "train"]
    extract_features(train, LITE, tmp_path / "train" / "meta.json", view="train", device=CPU)
    pseudo, clean = (FeatureCache(tmp_path / name / "meta.json") for name in ("pseudo", "train"))
    with pytest.raises(NfbenchError, match=r"image \(True and False\)"):
        pseudo.require_same_source(clean.meta, clean.path)


def test_an_image_that_changed_is_named(entries, tmp_path):
    Image.new("RGB", (48, 40)).save(entries[0].image)
    with pytest.raises(NfbenchError, match="has changed since the manifest was written"):
        extract(entries, tmp_path / "meta.json")
