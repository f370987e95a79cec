"""The backbone that is the image itself: no levels, no weights, and the same caches as any other."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image

from nfbench.backbones._base import IMAGENET_MEAN, IMAGENET_STD
from nfbench.backbones._weights import load_backbone, state_hash
from nfbench.config import BackboneConfig, load_bench
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import build_manifest, write_manifest
from nfbench.datasets.folder import DATASET
from nfbench.features.cache import FeatureCache
from nfbench.plan.memory import memory_mb
from nfbench.plan.plan import Plan
from nfbench.plan.specs import ExtractSpec
from tests.in_process import run_nfbench

IMAGE = BackboneConfig(name="image", input_size=48)


@pytest.fixture
def extract(image_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entries = build_manifest(DATASET.samples(image_folder, "part"))
    write_manifest(tmp_path / "m.csv", entries)

    def extract(backbone: BackboneConfig, **keys: object) -> FeatureCache:
        features = f"{backbone.tag}/meta.json"
        spec = ExtractSpec(manifest="m.csv", view="train", features=features, backbone=backbone, **keys)
        run_nfbench(tmp_path, "extract_features", "--spec", spec.to_json())
        return FeatureCache(tmp_path / features)

    return extract


def test_its_cache_is_the_normalized_image(extract, image_folder):
    cache = extract(IMAGE)
    assert [file.name for file in cache.meta.files] == ["image.npy"]
    assert (cache.meta.stores_image, cache.meta.image_shape, cache.meta.shapes) == (True, (3, 48, 48), [])
    first = sorted((image_folder / "part/train/good").iterdir())[0]
    expected = np.asarray(Image.open(first).convert("RGB").resize((48, 48), 2)) / 255
    found = cache.features.image[0].transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_it_is_what_another_backbone_stores_of_the_image(extract):
    stored = extract(BackboneConfig(name="resnet18.tv_in1k", input_size=48, image=True, weights="random"))
    assert np.array_equal(extract(IMAGE).features.image, stored.features.image)


def test_rotated_and_online_images_are_as_those_of_any_backbone(extract):
    changes = ({}, {"rotations": 4}, {"online": True})
    plain, turned, online = (extract(IMAGE.model_copy(update=keys)) for keys in changes)
    assert turned.features.image.shape == (6, 4, 3, 48, 48)
    assert np.array_equal(turned.features.image[:, 0], plain.features.image)
    assert np.array_equal(online.features.image[np.arange(6)], plain.features.image)


def test_the_hash_of_no_weights_is_a_constant(extract):
    nothing = hashlib.sha256().hexdigest()
    assert state_hash(load_backbone(IMAGE.described, (), "none")) == nothing
    recipe = extract(IMAGE.model_copy(update={"weights": "random"})).meta.recipe
    assert (recipe.weights_sha256, recipe.weights) == (nothing, "none")
    assert recipe == extract(IMAGE).meta.recipe


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"levels": [1]}, "backbone 'image' has no levels and no weights; remove 'levels'"),
        ({"pooled": True}, "remove 'pooled'"),
        ({"weights": "hub"}, "remove 'weights'"),
        ({"input_size": 16}, "input_size"),
    ],
)
def test_keys_that_mean_nothing_are_refused(tmp_path, keys, message):
    block = {"methods": ["padim"], "backbones": [{"name": "image", **keys}], "datasets": {"own": ["a"]}}
    experiment = {"title": "x", "datasets": {"own": {"root": "images"}}, "grid": [block]}
    (tmp_path / "own.yaml").write_text(json.dumps(experiment))
    with pytest.raises(NfbenchError, match=message):
        load_bench({}, tmp_path)


def test_its_jobs_are_planned_as_those_of_any_backbone(tmp_path, image_folder):
    block = {
        "methods": ["padim"],
        "backbones": [IMAGE.model_dump(exclude_defaults=True)],
        "datasets": {"own": ["part"]},
    }
    experiment = {"title": "x", "datasets": {"own": {"root": str(image_folder)}}, "grid": [block]}
    (tmp_path / "own.yaml").write_text(json.dumps(experiment))
    plan = Plan(load_bench({}, tmp_path))
    spec = plan.train(plan.cells("own")[0]).spec
    assert spec.backbone == IMAGE
    assert spec.classes[0].features.endswith("/image@48/own/part/train/meta.json")
    assert "nfbench.backbones.image" in spec.plugins
    assert memory_mb(spec, 0) > 0


def test_methods_that_read_levels_say_so(tmp_path):
    with pytest.raises(NfbenchError, match="method 'PaDiM' reads levels, but its backbone has none"):
        run_nfbench(tmp_path, "describe", "padim", "--backbone", "image")
