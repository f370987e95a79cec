"""Features of tiles: each row is a part of an image, and without tiles nothing changes."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import build_manifest, read_image, view_entries, write_manifest
from nfbench.datasets.folder import DATASET
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import Synthesis, extract_features
from nfbench.features.live import LiveLevel
from nfbench.features.meta import FeatureMeta, cache_key
from nfbench.features.recipe import Recipe
from nfbench.features.tiling import cut, like

CPU = torch.device("cpu")
LITE = {"name": "tf_efficientnet_lite0", "input_size": 64, "levels": (2, 3), "weights": "random"}
TILES = {"size": 32, "overlap": 8}
SIZES = [(48, 40)] * 3 + [(32, 90)] * 2 + [(32, 32)]
STARTS = {48: [0, 16], 40: [0, 8], 32: [0], 90: [0, 24, 48, 58]}
"""By side. All tiles are as large as they can be."""
COUNTS = [4, 4, 4, 4, 4, 1]


def save_random(path, size):
    rng = np.random.default_rng(abs(hash(size)) % 1000)
    Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def entries(image_folder):
    """Training images of three sizes, height and width."""
    paths = sorted((image_folder / "part/train/good").iterdir())
    for number, (path, size) in enumerate(zip(paths, SIZES, strict=True)):
        path.unlink()
        save_random(path.with_name(f"{number:03}.png"), size)
    return view_entries(build_manifest(DATASET.samples(image_folder, "part")), "train")


def extract(entries, path, **changed):
    options = {key: changed.pop(key) for key in ("online", "shard_bytes") if key in changed}
    backbone = BackboneConfig(**{**LITE, **changed})
    extract_features(entries, backbone, path, view="train", device=CPU, **options)
    return FeatureCache(path)


def assert_equal(features, others):
    for one, other in zip(features.levels, others.levels, strict=True):
        np.testing.assert_array_equal(one[np.arange(len(one))], other[np.arange(len(other))])


def test_rows_are_parts_of_images(entries, tmp_path):
    """They have the bits of images that are cut by hand, saved, and read without tiles."""
    cache, folder = extract(entries, tmp_path / "tiled/meta.json", tiles=TILES), tmp_path / "cut/part"
    for number, (entry, (height, width)) in enumerate(zip(entries, SIZES, strict=True)):
        for top in STARTS[height]:
            for left in STARTS[width]:
                path = folder / f"train/good/{number}_{top:02}_{left:02}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                read_image(entry.image).crop((left, top, left + 32, top + 32)).save(path)
    shutil.copytree(folder / "train/good", folder / "test/good")
    parts = view_entries(build_manifest(DATASET.samples(tmp_path / "cut", "part")), "train")
    assert len(parts) == len(cache.features) == cache.meta.n_rows == 21
    assert_equal(cache.features, extract(parts, tmp_path / "parts/meta.json").features)
    assert (len(cache), cache.features.n_images, cache.meta.n_images) == (6, 6, 6)
    assert cache.meta.image_sizes == [(3, 48, 40), (2, 32, 90), (1, 32, 32)]
    assert cache.features.tiling.counts == COUNTS


def test_images_are_selected_with_all_of_their_tiles(entries, tmp_path):
    cache = extract(entries, tmp_path / "meta.json", tiles=TILES)
    for found in (cache.part(3, 6), cache.features.select([3, 4, 5])):
        assert (len(found), found.n_images) == (9, 3)
        assert found.tiling.sizes == tuple(SIZES[3:])
        assert_equal(found, cache.features[np.arange(12, 21)])
        assert found.tiling.map_size((8, 8)) == cache.features.tiling.map_size((8, 8)) == (12, 22)
    picked = cache.features.select([5, 0])
    assert_equal(picked, cache.features[[20, 0, 1, 2, 3]])
    alone = extract(entries[5:], tmp_path / "alone/meta.json", tiles=TILES).features
    assert alone.tiling.map_size((8, 8)) == (8, 8)
    assert like(alone, cache.features).tiling.map_size((8, 8)) == (12, 22)


def test_caches_in_shards_and_without_values_have_the_same_rows(entries, tmp_path):
    cache = extract(entries, tmp_path / "meta.json", tiles=TILES)
    shards = extract(entries, tmp_path / "shards/meta.json", tiles=TILES, shard_bytes=20_000)
    assert len(list((tmp_path / "shards").glob("shards-*/*.json"))) > 3
    write_manifest(tmp_path / "m.csv", entries)
    online = extract(entries, tmp_path / "on/meta.json", tiles=TILES, online=tmp_path / "m.csv")
    assert isinstance(online.features.levels[0], LiveLevel)
    assert cache.meta.key == shards.meta.key == online.meta.key
    for other in (shards, online):
        assert_equal(cache.features, other.features)
        assert_equal(cache.part(2, 5), other.part(2, 5))


def test_an_image_that_fits_into_a_tile_has_the_bits_of_no_tiles(entries, tmp_path):
    whole = extract(entries, tmp_path / "whole/meta.json")
    one = extract(entries, tmp_path / "one/meta.json", tiles={"size": 90, "overlap": 32})
    assert_equal(whole.features, one.features)
    for name in ("level2.npy", "level3.npy"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    assert cut(entries, whole.features.tiling) is entries


def test_without_tiles_keys_and_descriptions_are_as_they_were():
    """The key was written down before there were tiles."""
    backbone = BackboneConfig(**LITE)
    described = {"dtype": "float16", "view": "train", "n_images": 3, "images_sha256": "1" * 64}
    meta = FeatureMeta(recipe=Recipe.of(backbone, "0" * 64), tag=backbone.tag_parts, transform="RGB", **described)
    assert cache_key(meta) == "903017ec68b84373bd7ad21c793ffcc17ee0f80a290a71c388d5da38c1197bad"
    assert (meta.tiling, meta.n_rows) == (None, 3)
    tiled = BackboneConfig(**LITE, tiles=TILES)
    other = meta.model_copy(update={"recipe": Recipe.of(tiled, "0" * 64), "image_sizes": [(3, 64, 32)]})
    assert cache_key(other) != cache_key(meta)
    assert other.n_rows == 9


def test_caches_of_other_tiles_do_not_match(entries, tmp_path):
    cache = extract(entries, tmp_path / "meta.json", tiles=TILES)
    other = extract(entries, tmp_path / "other/meta.json", tiles={**TILES, "overlap": 9})
    with pytest.raises(NfbenchError, match=r"backbone.tiles.overlap \(8 and 9\)"):
        cache.require_same_source(other.meta, other.path)
    few = extract(entries[:2], tmp_path / "few/meta.json", tiles=TILES)
    cache.require_same_source(few.meta, few.path)
    with pytest.raises(NfbenchError, match=r"differ in .*backbone\.tiles"):
        extract(entries, tmp_path / "meta.json")


def test_pseudo_anomalies_are_refused(entries, tmp_path):
    with pytest.raises(NfbenchError, match="'tiles' of a backbone and 'anomalies' of a variant exclude each other"):
        extract_features(
            entries, BackboneConfig(**LITE, tiles=TILES), tmp_path / "meta.json", view="blend-8", device=CPU,
            synthesis=Synthesis("blend", [], 8, 0),
        )  # fmt: skip
