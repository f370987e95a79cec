"""Every dataset keeps its contract."""

import pytest

from nfbench.datasets.base import PACKAGE, Dataset, find_dataset
from nfbench.registry import plugin_names

DATASETS = plugin_names(PACKAGE)


@pytest.mark.parametrize("name", DATASETS)
def test_description(name):
    dataset = find_dataset(name)
    assert isinstance(dataset, Dataset)
    for field in ("title", "licence", "citation", "source"):
        assert getattr(dataset, field), field
    assert len(set(dataset.categories)) == len(dataset.categories)
