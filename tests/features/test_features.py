"""Extraction and the cache: same values as the bare model, keyed, verified, whole or not at all."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nfbench.backbones.base import find_backbone
from nfbench.backbones.weights import load_backbone
from nfbench.datasets.base import find_dataset
from nfbench.datasets.manifest import build_manifest, read_image, write_manifest
from nfbench.errors import NfbenchError
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import extract_features

BACKBONE = find_backbone("tf_efficientnet_lite0")
OPTIONS = {"view": "train", "input_size": 64, "levels": (1, 2, 3), "weights": "random", "device": torch.device("cpu")}


@pytest.fixture
def entries(image_folder):
    return [e for e in build_manifest(find_dataset("folder").samples(image_folder, "part")) if e.split == "train"]


@pytest.fixture
def meta_path(entries, tmp_path):
    path = tmp_path / "cache" / "meta.json"
    extract_features(entries, BACKBONE, path, **OPTIONS)
    return path


def test_values_are_those_of_the_bare_model(entries, meta_path):
    cache = FeatureCache(meta_path)
    model = load_backbone(BACKBONE, (1, 2, 3), "random")
    images = [np.asarray(read_image(entry.image).resize((64, 64), 2), dtype=np.float32) for entry in entries]
    x = (torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5
    with torch.inference_mode():
        expected = model(x)
    assert len(cache) == len(entries) == 6
    for level, features in zip(cache.levels, expected, strict=True):
        assert level.dtype == np.float16
        torch.testing.assert_close(torch.from_numpy(level.astype(np.float32)), features, atol=5e-3, rtol=5e-3)


def test_features_do_not_depend_on_the_number_of_threads(entries, meta_path, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 2)
    try:
        other = tmp_path / "other" / "meta.json"
        extract_features(entries, BACKBONE, other, **OPTIONS)
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
    before = FeatureCache(meta_path).meta["key"]
    extract_features(entries, BACKBONE, meta_path, **OPTIONS)
    assert FeatureCache(meta_path).meta["key"] == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"input_size": 96}, r"input_size \(64 and 96\)"),
        ({"levels": (2, 3)}, r"levels \(\[1, 2, 3\] and \[2, 3\]\)"),
        ({"weights": "package"}, r"weights \('random' and 'pretrained'\)"),
    ],
)
def test_cache_of_something_else_is_refused_and_both_sides_named(entries, meta_path, changed, message):
    content = meta_path.read_text()
    with pytest.raises(NfbenchError, match=message):
        extract_features(entries, BACKBONE, meta_path, **{**OPTIONS, **changed})
    assert meta_path.read_text() == content


def test_other_images_are_refused(entries, meta_path):
    with pytest.raises(NfbenchError, match="images_sha256"):
        extract_features(entries[:3], BACKBONE, meta_path, **OPTIONS)


def test_caches_of_two_sources_do_not_go_together(entries, meta_path, tmp_path):
    other = tmp_path / "other" / "meta.json"
    extract_features(entries, BACKBONE, other, **{**OPTIONS, "input_size": 96})
    with pytest.raises(NfbenchError, match=r"do not go together.*input_size \(64 and 96\)"):
        FeatureCache(meta_path).require_same_source(FeatureCache(other).meta, other)
    FeatureCache(meta_path).require_same_source({**FeatureCache(meta_path).meta, "view": "test"}, meta_path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "level2.npy").unlink(), "level2.npy is missing"),
        (lambda folder: (folder / "level2.npy").write_bytes(b"x"), "level2.npy has changed"),
        (lambda folder: flip_byte(folder / "level3.npy"), "level3.npy has changed"),
        (lambda folder: edit(folder / "meta.json"), "its key does not belong"),
    ],
)
def test_damaged_cache_is_named(meta_path, damage, message):
    damage(meta_path.parent)
    with pytest.raises(NfbenchError, match=message):
        FeatureCache(meta_path)


def flip_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def edit(path: Path) -> None:
    meta = json.loads(path.read_text())
    path.write_text(json.dumps({**meta, "input_size": 96}))


def test_image_that_changed_since_the_manifest_is_named(entries, tmp_path):
    path = Path(entries[2].image)
    shutil.copy(entries[3].image, path)
    with pytest.raises(NfbenchError, match=f"{path.name} has changed since the manifest"):
        extract_features(entries, BACKBONE, tmp_path / "c" / "meta.json", **OPTIONS)
    assert not list((tmp_path / "c").iterdir())


def test_error_in_a_thread_of_the_pool_is_one_line_on_the_command_line(entries, image_folder, tmp_path):
    write_manifest(tmp_path / "m.csv", entries)
    Path(entries[1].image).write_bytes(b"junk")
    command = [sys.executable, "-m", "nfbench", "--log", str(tmp_path / "log"), "extract_features"]
    command += ["--manifest", str(tmp_path / "m.csv"), "--view", "train", "--backbone", BACKBONE.name]
    command += ["--weights", "random", "--input-size", "64", "--output", str(tmp_path / "c" / "meta.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: image ")
    assert Path(entries[1].image).name in done.stderr
    assert "Traceback" not in done.stderr
    assert "Traceback" in (tmp_path / "log").read_text()
    assert not list((tmp_path / "c").iterdir())


def test_values_beyond_fp16_are_refused(entries, tmp_path, monkeypatch):
    from nfbench.features import extract

    class Huge(torch.nn.Module):
        def forward(self, x):
            return [torch.full((len(x), *shape), 1e6) for shape in BACKBONE.shapes(64)]

    monkeypatch.setattr(extract, "load_backbone", lambda *_: Huge())
    with pytest.raises(NfbenchError, match=r"level 1: values beyond fp16 \(1e\+06\)"):
        extract_features(entries, BACKBONE, tmp_path / "c" / "meta.json", **OPTIONS)
    assert not list((tmp_path / "c").iterdir())
