"""Every dataset meets its contract, on its miniature if it has one."""

import pytest

from nfbench.core.registry import plugin_names
from nfbench.datasets._base import PACKAGE, Counts, Dataset, find_dataset
from nfbench.datasets._manifest import build_manifest
from nfbench.datasets._sources import read_sources

pytestmark = pytest.mark.slow

DATASETS = plugin_names(PACKAGE)
MINIATURES = [name for name in DATASETS if find_dataset(name).has_miniature]


@pytest.mark.parametrize("name", DATASETS)
def test_description(name):
    dataset = find_dataset(name)
    assert isinstance(dataset, Dataset)
    for field in ("title", "licence", "citation", "source"):
        assert getattr(dataset, field), field
    assert len(set(dataset.categories)) == len(dataset.categories)


@pytest.mark.parametrize("name", MINIATURES)
def test_manifests_of_a_miniature_have_its_counts(name, tmp_path):
    dataset = find_dataset(name)
    expected = dataset.miniature(tmp_path)
    found = dataset.available(tmp_path)
    assert tuple(found) == dataset.miniature_categories
    assert set(expected) == set(found)
    for category in found:
        entries = build_manifest(dataset.samples(tmp_path, category))
        counts = Counts(
            sum(entry.split == "train" for entry in entries),
            sum(entry.split == "test" and not entry.label for entry in entries),
            sum(entry.label == 1 for entry in entries),
        )
        assert counts == expected[category]
        assert len({entry.image for entry in entries}) == len(entries)
        assert not any(entry.label for entry in entries if entry.split == "train")
        assert all((entry.label == -1) == (entry.split == "unlabelled") for entry in entries)
        assert all(bool(entry.mask) == (entry.label == 1) for entry in entries)
        splits = [entry.split for entry in entries]
        assert splits == sorted(splits, key=("train", "validation", "test", "unlabelled").index)


@pytest.mark.parametrize("name", MINIATURES)
def test_a_miniature_is_the_same_everywhere_and_made_once(name, tmp_path):
    dataset = find_dataset(name)
    for folder in ("a", "b"):
        dataset.miniature(tmp_path / folder)
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert files
    for path in files:
        assert (tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes(), path
    times = [(tmp_path / "a" / path).stat().st_mtime_ns for path in files]
    dataset.miniature(tmp_path / "a")
    assert [(tmp_path / "a" / path).stat().st_mtime_ns for path in files] == times


@pytest.mark.parametrize("name", read_sources())
def test_sources_are_of_readers_with_miniatures_and_their_categories(name):
    assert name in MINIATURES
    assert set(read_sources()[name].counts) <= set(find_dataset(name).categories)
