"""Large sets: shards that are resumed, and features that are computed on access."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nfbench.blocks.features import Features
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.seals import write_sealed
from nfbench.datasets._base import find_dataset
from nfbench.datasets._manifest import build_manifest, read_manifest, write_manifest
from nfbench.features import extract as extraction
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import extract_features
from nfbench.features.shards import Shards, plan_shards, reserve
from nfbench.features.stacked import StackedArrays
from nfbench.training.data import TrainingData

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Path:
    """20 frames of a video for training."""
    folder = tmp_path_factory.mktemp("frames")
    find_dataset("shanghaitech").miniature(folder / "images")
    samples = find_dataset("shanghaitech").samples(folder / "images", "all")
    train = [sample for sample in samples if sample.split == "train"][:20]
    test = [sample for sample in samples if sample.split == "test"][:6]
    write_manifest(folder / "m.csv", build_manifest([*train, *test]))
    return folder / "m.csv"


@pytest.fixture(scope="module")
def entries(manifest):
    return [entry for entry in read_manifest(manifest) if entry.split == "train"]


def extract(entries, path, view="train", **changed):
    keys = ("online", "shard_bytes")
    options = {key: changed.pop(key) for key in keys if key in changed}
    backbone = BackboneConfig(**{"name": "tf_efficientnet_lite0", "input_size": 64, "weights": "random", **changed})
    return extract_features(entries, backbone, path, view=view, device=CPU, **options)


def image_bytes(meta) -> int:
    return sum(2 * int(np.prod(shape)) for shape in meta.shapes)


@pytest.fixture(scope="module")
def whole(entries, tmp_path_factory) -> FeatureCache:
    path = tmp_path_factory.mktemp("whole") / "meta.json"
    extract(entries, path)
    return FeatureCache(path)


@pytest.fixture
def limit(whole) -> int:
    """Bytes of a shard of six images."""
    return 6 * image_bytes(whole.meta) + 1


def same(cache, whole) -> bool:
    pairs = zip(cache.features.levels, whole.features.levels, strict=True)
    return all(np.array_equal(np.array(a), np.array(b)) for a, b in pairs)


def test_shards_hold_the_values_of_one_file(entries, whole, limit, tmp_path):
    extract(entries, tmp_path / "meta.json", shard_bytes=limit)
    cache = FeatureCache(tmp_path / "meta.json")
    assert [file.images for file in cache.meta.files if file.level == "level1"] == [6, 6, 6, 2]
    assert cache.meta.key == whole.meta.key
    assert same(cache, whole)
    assert len(whole.meta.files) == len(whole.features.levels)
    sizes = [path.stat().st_size for path in tmp_path.glob("shards-*/*.00000.npy")]
    assert sum(sizes) <= limit + 128 * len(sizes)


@pytest.mark.parametrize("options", [{}, {"shard_bytes": 6}, {"online": True}], ids=["file", "shards", "online"])
def test_a_part_has_the_values_of_its_rows_and_reads_no_other(entries, manifest, whole, limit, options, tmp_path):
    given = {"shard_bytes": limit, "online": manifest}
    extract(entries, tmp_path / "meta.json", **{name: given[name] for name in options})
    cache = FeatureCache(tmp_path / "meta.json")
    for first, last in ((0, 20), (0, 7), (7, 20), (6, 12), (13, 14)):
        part = cache.part(first, last)
        assert len(part) == last - first
        for level, expected in zip(part.levels, whole.features.levels, strict=True):
            assert level.shape == (last - first, *expected.shape[1:])
            assert np.array_equal(level[np.arange(last - first)], expected[first:last])
    stacked = Features.join([cache.part(7, 20), cache.part(0, 7)], StackedArrays)
    for level, expected in zip(stacked.levels, whole.features.levels, strict=True):
        assert np.array_equal(level[[0, 12, 13, 19]], expected[[7, 19, 0, 6]])


@pytest.mark.parametrize("online", [False, True])
def test_a_view_without_images_is_cached(entries, manifest, whole, online, tmp_path):
    """A category may have only normal images."""
    write_manifest(tmp_path / "m.csv", entries)
    extract([], tmp_path / "meta.json", view="test", **({"online": tmp_path / "m.csv"} if online else {}))
    cache = FeatureCache(tmp_path / "meta.json")
    assert (len(cache), cache.meta.n_images) == (0, 0)
    assert [level.shape for level in cache.features.levels] == [(0, *x.shape[1:]) for x in whole.features.levels]


ROWS = [3, -1, slice(None), slice(4, 9), slice(None, None, 3), [0, 19, 5, 5], np.array([17, 2]), np.array([-20, -1])]


@pytest.mark.parametrize("rows", ROWS, ids=str)
def test_rows_of_shards_are_those_of_one_array(rows):
    array = np.arange(20 * 6, dtype=np.float16).reshape(20, 2, 3)
    parts = [array[:6], array[6:7], array[7:]]
    shards = Shards([lambda part=part: part for part in parts], map(len, parts), (2, 3), array.dtype)
    assert np.array_equal(shards[rows], array[rows])
    assert (shards.shape, len(shards), shards.nbytes, shards.dtype) == (array.shape, 20, array.nbytes, array.dtype)
    assert np.array_equal(np.array(shards), array)
    assert np.asarray(shards).dtype == np.float16


@pytest.mark.parametrize("rows", [20, -21, [0, 25]])
def test_rows_that_do_not_exist(rows):
    shards = Shards([lambda: np.zeros((20, 1))], [20], (1,), np.dtype(float))
    with pytest.raises(IndexError):
        shards[rows]


def test_a_plan_has_every_image_once():
    assert plan_shards(20, 10, 60) == [range(6), range(6, 12), range(12, 18), range(18, 20)]
    assert plan_shards(20, 10, 200) == [range(20)]
    assert [len(part) for part in plan_shards(3, 100, 10)] == [1, 1, 1]


def test_an_extraction_that_stopped_goes_on_with_the_next_shard(entries, whole, limit, tmp_path, monkeypatch):
    read = extraction.read_images
    seen = []

    def failing(batch, *arguments):
        seen.extend(batch)
        if entries[13] in batch and len(seen) < 40:
            raise NfbenchError("stopped here")
        return read(batch, *arguments)

    monkeypatch.setattr(extraction, "read_images", failing)
    with pytest.raises(NfbenchError, match="stopped here"):
        extract(entries, tmp_path / "meta.json", shard_bytes=limit)
    assert not (tmp_path / "meta.json").exists()
    assert [path.name for path in sorted(tmp_path.glob("shards-*/*.json"))] == ["00000.json", "00001.json"]
    monkeypatch.setattr(extraction, "read_images", lambda batch, *rest: (seen.extend(batch), read(batch, *rest))[1])
    seen.clear()
    extract(entries, tmp_path / "meta.json", shard_bytes=limit)
    assert sorted(entry.image for entry in seen) == sorted(entry.image for entry in entries[12:])
    assert same(FeatureCache(tmp_path / "meta.json"), whole)


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from nfbench.config import BackboneConfig
from nfbench.datasets._manifest import read_manifest
from nfbench.features import cache, extract
write = cache.write_index
def dies(path, files):
    if path.stem == "00002":
        os.kill(os.getpid(), signal.SIGKILL)
    write(path, files)
cache.write_index = dies
entries = [entry for entry in read_manifest(sys.argv[1]) if entry.split == "train"]
backbone = BackboneConfig(name="tf_efficientnet_lite0", input_size=64, weights="random")
cpu, limit = torch.device("cpu"), int(sys.argv[3])
extract.extract_features(entries, backbone, sys.argv[2], view="train", device=cpu, shard_bytes=limit)
"""


def test_an_extraction_that_is_killed_goes_on(entries, manifest, whole, limit, tmp_path):
    command = [sys.executable, "-c", KILLED, str(manifest), str(tmp_path / "meta.json"), str(limit)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (first,) = tmp_path.glob("shards-*/level1.00000.npy")
    made = first.stat().st_mtime_ns
    extract(entries, tmp_path / "meta.json", shard_bytes=limit)
    assert first.stat().st_mtime_ns == made
    assert same(FeatureCache(tmp_path / "meta.json"), whole)


def test_shards_of_another_cache_are_removed(entries, limit, tmp_path):
    extract(entries, tmp_path / "meta.json", shard_bytes=limit)
    os.remove(tmp_path / "meta.json")
    extract(entries[:13], tmp_path / "meta.json", shard_bytes=limit)
    assert len(list(tmp_path.glob("shards-*"))) == 1
    assert len(FeatureCache(tmp_path / "meta.json").features) == 13


def test_a_shard_that_changed_is_named_when_it_is_read(entries, limit, tmp_path):
    extract(entries, tmp_path / "meta.json", shard_bytes=limit)
    (path,) = tmp_path.glob("shards-*/level2.00003.npy")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    level = FeatureCache(tmp_path / "meta.json").features.levels[1]
    assert level[0].shape == level.shape[1:]
    with pytest.raises(NfbenchError, match=r"level2.00003.npy has changed since it was written"):
        level[19]


def test_too_little_space_is_said_before_with_what_helps(entries, limit, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 100_000}))
    with pytest.raises(NfbenchError, match=r"take 0\.000 GB, 0.000 GB are free; .*'stride'.*'online: true'"):
        extract(entries, tmp_path / "meta.json", shard_bytes=limit)
    assert not list(tmp_path.glob("shards-*/*"))


@pytest.fixture
def live(entries, manifest, tmp_path) -> FeatureCache:
    extract(entries, tmp_path / "meta.json", online=manifest)
    return FeatureCache(tmp_path / "meta.json")


def test_features_without_a_cache_are_those_of_a_cache(live, whole, tmp_path):
    assert live.meta.key == whole.meta.key
    assert live.shapes == whole.shapes
    assert [path.name for path in tmp_path.iterdir()] == ["meta.json"]
    for rows in (np.array([3]), np.array([7, 1, 19]), slice(2, 6)):
        for ours, theirs in zip(live.features.levels, whole.features.levels, strict=True):
            np.testing.assert_allclose(ours[rows].astype(float), theirs[rows].astype(float), atol=5e-3, rtol=5e-3)


def test_training_reads_features_without_a_cache_batch_by_batch(live, whole, monkeypatch):
    data = {name: TrainingData(cache.features, 0.1, 0, CPU) for name, cache in (("live", live), ("whole", whole))}
    read, at_once = extraction.read_images, []
    monkeypatch.setattr(
        "nfbench.features.live.read_images", lambda batch, *rest: (at_once.append(len(batch)), read(batch, *rest))[1]
    )
    pairs = zip(data["live"].batches(0, 4, False), data["whole"].batches(0, 4, False), strict=True)
    for ours, theirs in pairs:
        for a, b in zip(ours.features.levels, theirs.features.levels, strict=True):
            torch.testing.assert_close(a, b, atol=5e-3, rtol=5e-3)
    assert sum(at_once) == len(data["live"].train)  # all levels of an image in one pass
    assert max(at_once) <= 2


def test_other_images_than_those_described_are_refused(live, manifest, entries, tmp_path):
    meta = json.loads((tmp_path / "meta.json").read_text())
    write_manifest(tmp_path / "other.csv", entries[1:])
    write_sealed(
        tmp_path / "meta.json", {**meta, "online": {**meta["online"], "manifest": str(tmp_path / "other.csv")}}
    )
    with pytest.raises(NfbenchError, match=r"other.csv has other images than its features"):
        FeatureCache(tmp_path / "meta.json")


def refuses(number):
    def fallocate(*_):
        raise OSError(number, os.strerror(number))

    return fallocate


@pytest.mark.parametrize("system", ["Linux", "macOS", errno.EOPNOTSUPP, errno.EINVAL])
def test_space_is_reserved_on_every_system(tmp_path, monkeypatch, system):
    if system == "macOS":
        monkeypatch.delattr(os, "posix_fallocate")
    elif system != "Linux":
        monkeypatch.setattr(os, "posix_fallocate", refuses(system))
    path = tmp_path / "a.npy"
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(5000, 999))
    assert path.stat().st_blocks * 512 < path.stat().st_size
    reserve(path)
    assert path.stat().st_blocks * 512 >= path.stat().st_size
    assert not array.any()
    assert np.load(path).shape == (5000, 999)


def test_a_full_disk_is_seen_when_space_is_reserved(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x")
    monkeypatch.setattr(os, "posix_fallocate", refuses(errno.ENOSPC))
    with pytest.raises(OSError, match="No space left"):
        reserve(tmp_path / "a")


def test_features_are_cached_without_posix_fallocate(entries, tmp_path, monkeypatch):
    monkeypatch.delattr(os, "posix_fallocate")
    extract(entries, tmp_path / "meta.json")
    assert len(FeatureCache(tmp_path / "meta.json").features) == 20
