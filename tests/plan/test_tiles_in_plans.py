"""Plans count tiles: memory, disk and work; variants that learn from anomalies are refused before anything runs."""

import json

import pytest

from nfbench.config import BackboneConfig, load_bench
from nfbench.core.errors import NfbenchError
from nfbench.plan.cells import expand
from nfbench.plan.memory import feature_bytes, map_pixels, memory_mb
from nfbench.plan.specs import ExtractSpec, PrepareSpec
from nfbench.plan.supposed import count_images, images_of_view
from tests.plan.test_memory import train_spec, write_manifest

TILES = {"size": 512, "overlap": 64}
LITE = {"name": "tf_efficientnet_lite0", "input_size": 256}
PER_IMAGE = 9  # of 1024 pixels per side


def test_memory_of_a_training_is_that_of_its_tiles(tmp_path):
    manifest = write_manifest(tmp_path / "m.csv", 300, 3, 1024)
    many = write_manifest(tmp_path / "many.csv", 300 * PER_IMAGE, 3, 400)
    tiled = memory_mb(train_spec("patchcore", manifest, tiles=TILES), 0)
    assert tiled == memory_mb(train_spec("patchcore", many), 0) > 3 * memory_mb(train_spec("patchcore", manifest), 0)
    small = write_manifest(tmp_path / "small.csv", 300, 3, 512)
    assert memory_mb(train_spec(manifest=small, tiles=TILES), 0) == memory_mb(train_spec(manifest=small), 0)
    unknown = tmp_path / "none.csv"  # 400 images of 1024 x 1024 pixels are assumed
    assert memory_mb(train_spec(manifest=unknown, tiles=TILES), 0) > memory_mb(train_spec(manifest=unknown), 0)


@pytest.mark.parametrize(("size", "pixels"), [((1024, 1024), 512**2), ((512, 512), 256**2), ((512, 2048), 256 * 1024)])
def test_pixels_of_a_merged_map(size, pixels):
    assert map_pixels(BackboneConfig(**LITE, tiles=TILES), size) == pixels
    assert map_pixels(BackboneConfig(**LITE), size) == 256**2


def prepare_spec(manifest):
    return PrepareSpec(
        dataset={"dataset": "folder"}, root=str(manifest.parent / "none"), category="part", manifest=str(manifest)
    )


def test_images_of_a_view_are_its_tiles(tmp_path):
    manifest = write_manifest(tmp_path / "m.csv", 7, 3, 1024)
    images, backbone = count_images(prepare_spec(manifest)), BackboneConfig(**LITE, tiles=TILES)
    views = {
        view: ExtractSpec(manifest=str(manifest), view=view, backbone=backbone, features="meta.json")
        for view in ("train", "test")
    }
    assert images.largest == (1024, 1024)
    assert {view: images_of_view(spec, images) for view, spec in views.items()} == {"train": 63, "test": 27}
    whole = views["train"].model_copy(update={"backbone": BackboneConfig(**LITE)})
    assert images_of_view(whole, images) == 7
    assert feature_bytes(backbone) == feature_bytes(whole.backbone)  # of one tile
    assumed = count_images(prepare_spec(tmp_path / "missing.csv"))
    assert (assumed.source, assumed.tiles(backbone), assumed.tiles(whole.backbone)) == ("assumed", PER_IMAGE, 1)


@pytest.mark.parametrize("tiles", [None, TILES], ids=["whole", "tiles"])
def test_a_variant_with_anomalies_is_refused_on_tiles(tmp_path, tiles):
    experiment = {
        "title": "tiles",
        "variants": {
            "mixed": {"method": "sanflow", "settings": {"val_fraction": 0}, "anomalies": {"generator": "blend"}}
        },
        "grid": [{"methods": ["mixed"], "backbones": [{**LITE, "tiles": tiles}], "datasets": {"mvtec_ad": ["bottle"]}}],
    }
    (tmp_path / "tiles.yaml").write_text(json.dumps(experiment))
    bench = load_bench({}, tmp_path)
    if tiles is None:
        assert len(expand(bench, "tiles", lambda _: ["bottle"])) == 1
        return
    with pytest.raises(NfbenchError, match="'mixed' has 'anomalies', which cannot be combined with the 'tiles' of"):
        expand(bench, "tiles", lambda _: ["bottle"])
