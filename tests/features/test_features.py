"""Extraction and the cache: values equal the bare model's; caches are keyed, verified and written atomically."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nfbench.backbones._base import find_backbone
from nfbench.backbones._weights import load_backbone
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.seals import write_sealed
from nfbench.datasets._base import find_dataset
from nfbench.datasets._manifest import build_manifest, read_image, write_manifest
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import extract_features
from nfbench.features.forward import load_extractor
from nfbench.features.online import OnlineFeatures, RandomRotations
from nfbench.plan.specs import ExtractSpec
from tests.in_process import run_nfbench

BACKBONE = find_backbone("tf_efficientnet_lite0")
CPU = torch.device("cpu")


def extract(entries, path, **changed):
    backbone = BackboneConfig(**{"name": BACKBONE.name, "input_size": 64, "weights": "random", **changed})
    return extract_features(entries, backbone, path, view="train", device=CPU)


@pytest.fixture
def entries(image_folder):
    return [e for e in build_manifest(find_dataset("folder").samples(image_folder, "part")) if e.split == "train"]


@pytest.fixture
def meta_path(entries, tmp_path):
    path = tmp_path / "cache" / "meta.json"
    extract(entries, path)
    return path


def test_values_are_those_of_the_bare_model(entries, meta_path):
    cache = FeatureCache(meta_path)
    model = load_backbone(BACKBONE, (1, 2, 3), "random")
    images = [np.asarray(read_image(entry.image).resize((64, 64), 2), dtype=np.float32) for entry in entries]
    x = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        expected = model(x)
    assert len(cache) == len(entries) == 6
    for level, features in zip(cache.features.levels, expected, strict=True):
        assert level.dtype == np.float16
        torch.testing.assert_close(torch.from_numpy(level.astype(np.float32)), features, atol=5e-3, rtol=5e-3)


def test_features_do_not_depend_on_the_number_of_threads(entries, meta_path, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 2)
    try:
        other = tmp_path / "other" / "meta.json"
        extract(entries, other)
        assert torch.get_num_threads() == threads + 2
    finally:
        torch.set_num_threads(threads)
    for name in ("level1.npy", "level2.npy", "level3.npy"):
        assert (meta_path.parent / name).read_bytes() == (other.parent / name).read_bytes()


def test_cache_is_written_whole(meta_path):
    assert sorted(path.name for path in meta_path.parent.iterdir()) == [
        "level1.npy",
        "level2.npy",
        "level3.npy",
        "meta.json",
    ]


def test_second_extraction_of_the_same_is_allowed(entries, meta_path):
    before = FeatureCache(meta_path).meta.key
    extract(entries, meta_path)
    assert FeatureCache(meta_path).meta.key == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_size": 96}, r"input_size \(64 and 96\)"),
        ({"levels": (2, 3)}, r"levels \(\[1, 2, 3\] and \[2, 3\]\)"),
        ({"weights": "package"}, r"backbone.weights \('random' and 'package'\), weights_sha256"),
    ],
)
def test_cache_of_something_else_is_refused_and_both_sides_named(entries, meta_path, changed, message):
    content = meta_path.read_text()
    with pytest.raises(NfbenchError, match=message):
        extract(entries, meta_path, **changed)
    assert meta_path.read_text() == content


def test_other_images_are_refused(entries, meta_path):
    with pytest.raises(NfbenchError, match="images_sha256"):
        extract(entries[:3], meta_path)


def test_caches_of_two_sources_do_not_go_together(entries, meta_path, tmp_path):
    other = tmp_path / "other" / "meta.json"
    extract(entries, other, input_size=96)
    with pytest.raises(NfbenchError, match=r"do not match.*input_size \(64 and 96\)"):
        FeatureCache(meta_path).require_same_source(FeatureCache(other).meta, other)
    of_test = FeatureCache(meta_path).meta.model_copy(update={"view": "test"})
    FeatureCache(meta_path).require_same_source(of_test, meta_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "level2.npy").unlink(), "level2.npy is missing"),
        (lambda folder: (folder / "level2.npy").write_bytes(b"x"), "level2.npy has changed"),
        (lambda folder: flip_byte(folder / "level3.npy"), "level3.npy has changed"),
        (lambda folder: edit(folder / "meta.json"), "its key does not belong"),
        (lambda folder: flip_byte(folder / "meta.json", -30), r"meta\.json has changed since it was written"),
    ],
)
def test_damaged_cache_is_named(meta_path, damage, message):
    damage(meta_path.parent)
    with pytest.raises(NfbenchError, match=message):
        FeatureCache(meta_path)


def flip_byte(path: Path, place: int = -1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def edit(path: Path) -> None:
    meta = json.loads(path.read_text())
    meta["recipe"]["backbone"]["input_size"] = 96
    write_sealed(path, meta)


def test_image_that_changed_since_the_manifest_is_named(entries, tmp_path):
    path = Path(entries[2].image)
    shutil.copy(entries[3].image, path)
    with pytest.raises(NfbenchError, match=f"{path.name} has changed since the manifest"):
        extract(entries, tmp_path / "c" / "meta.json")
    assert not list((tmp_path / "c").iterdir())


def test_error_in_a_thread_of_the_pool_is_that_of_the_command(entries, tmp_path, capfd):
    write_manifest(tmp_path / "m.csv", entries)
    Path(entries[1].image).write_bytes(b"junk")
    spec = ExtractSpec(
        manifest="m.csv", view="train", features="c/meta.json",
        backbone={"name": BACKBONE.name, "weights": "random", "input_size": 64},
    )  # fmt: skip
    with pytest.raises(NfbenchError, match=rf"^image .*{Path(entries[1].image).name}"):
        run_nfbench(tmp_path, "extract_features", "--spec", spec.to_json())
    assert "Traceback" not in capfd.readouterr().err
    assert not list((tmp_path / "c").iterdir())


def test_values_beyond_fp16_are_refused(entries, tmp_path, monkeypatch):
    from nfbench.features import forward

    class Huge(torch.nn.Module):
        def forward(self, x):
            return [torch.full((len(x), *shape), 1e6) for shape in BACKBONE.shapes(64)]

    monkeypatch.setattr(forward, "load_backbone", lambda *_, **__: Huge())
    with pytest.raises(NfbenchError, match=r"level1: values beyond fp16 \(1e\+06\)"):
        extract(entries, tmp_path / "c" / "meta.json")
    assert not list((tmp_path / "c").iterdir())


def bare(images):
    x = (torch.from_numpy(np.stack(images).astype(np.float32)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        return load_backbone(BACKBONE, (1, 2, 3), "random")(x)


def test_scales_are_levels_of_their_own(entries, tmp_path):
    extract(entries, tmp_path / "meta.json", scales=(1, 2), levels=(2,))
    cache = FeatureCache(tmp_path / "meta.json")
    assert [file.name for file in cache.meta.files] == ["level2.npy", "level2-scale2.npy"]
    assert cache.shapes == [(40, 8, 8), (40, 4, 4)]
    halved = [np.asarray(read_image(entry.image).resize((64, 64), 2))[::2, ::2] for entry in entries]  # nearest
    expected = bare(halved)[1]
    found = torch.from_numpy(cache.features.levels[1].astype(np.float32))
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=5e-3)


def test_rotated_views_have_an_axis_of_their_own(entries, tmp_path):
    extract(entries, tmp_path / "meta.json", rotations=4)
    cache = FeatureCache(tmp_path / "meta.json")
    assert cache.features.levels[0].shape == (6, 4, *cache.shapes[0])
    turned = [np.rot90(np.asarray(read_image(entry.image).resize((64, 64), 2))).copy() for entry in entries]
    torch.testing.assert_close(
        torch.from_numpy(cache.features.levels[2][:, 1].astype(np.float32)), bare(turned)[2], atol=5e-3, rtol=5e-3
    )
    plain = extract(entries, tmp_path / "plain" / "meta.json")
    assert plain.key != cache.meta.key


def test_pooled_levels_are_means(entries, meta_path, tmp_path):
    extract(entries, tmp_path / "pooled" / "meta.json", pooled=True)
    pooled, plain = FeatureCache(tmp_path / "pooled" / "meta.json"), FeatureCache(meta_path)
    assert pooled.shapes == [(channels, 1, 1) for channels, _, _ in plain.shapes]
    for mean, level in zip(pooled.features.levels, plain.features.levels, strict=True):
        np.testing.assert_allclose(mean, level.astype(np.float32).mean((2, 3), keepdims=True), atol=2e-3)


def test_recipe_of_a_cache_is_the_one_it_was_made_by(entries, tmp_path):
    keys = {
        "input_size": 256, "levels": (2, 3), "scales": (1, 2), "interpolation": "bilinear", "padding": "reflect",
        "rotations": 3, "pooled": True, "image": True,
    }  # fmt: skip
    extract(entries, tmp_path / "meta.json", **keys)
    meta = FeatureCache(tmp_path / "meta.json").meta
    assert meta.backbone == BackboneConfig(name=BACKBONE.name, weights="random", **keys)
    assert meta.tag == meta.backbone.tag_parts
    assert (meta.image_shape, meta.shapes) == ((3, 256, 256), [(40, 1, 1), (112, 1, 1)] * 2)
    assert load_extractor(meta.recipe) is not None
    with pytest.raises(NfbenchError, match="have changed since its features were cached"):
        load_extractor(meta.recipe.model_copy(update={"weights_sha256": "0" * 64}))


def test_inputs_too_small_to_reflect_are_named(entries, tmp_path):
    with pytest.raises(NfbenchError, match="at 64 pixels has levels that are too small for 'padding: reflect'"):
        extract(entries, tmp_path / "meta.json", padding="reflect")


def test_online_features_without_rotation_are_the_cached_ones(entries, meta_path):
    cache = FeatureCache(meta_path)
    unrotated = RandomRotations(entries, 64, degrees=0.0, views=None)
    online = OnlineFeatures(unrotated, len(entries), cache.meta.recipe, CPU)
    features, masks = online.read(torch.tensor([3, 0]), torch.tensor([1, 2]))
    assert masks is None
    for level, cached in zip(features.levels, cache.features.levels, strict=True):
        expected = torch.from_numpy(cached[[3, 0]].astype(np.float32))
        torch.testing.assert_close(level, expected, atol=5e-3, rtol=5e-3)


def test_online_rotations_follow_from_the_draw(entries, meta_path):
    rotations = RandomRotations(entries, 64, degrees=30.0, views=4)
    angles = [rotations.angles(seed) for seed in range(300)]
    assert angles == [rotations.angles(seed) for seed in range(300)]
    flat = np.array(angles).ravel()
    assert len(set(flat)) == flat.size
    assert -30 <= flat.min() < -29
    assert 29 < flat.max() <= 30
    online = OnlineFeatures(rotations, len(entries), FeatureCache(meta_path).meta.recipe, CPU)
    views = online.read(torch.tensor([1]), torch.tensor([2]))[0].levels[0]
    assert views.shape == (1, 4, *BACKBONE.shapes(64)[0])
    assert not torch.equal(views[0, 0], views[0, 1])
    assert torch.equal(views, online.read(torch.tensor([1]), torch.tensor([2]))[0].levels[0])
    views.requires_grad_().sum().backward()  # what is trained on it can differentiate
