"""The page of licences has a row for each dataset, backbone and method, and agrees with the code."""

import re
from fnmatch import fnmatch

import pytest

from nfbench.backbones._base import backbone_names
from nfbench.core.registry import plugin_names
from nfbench.datasets._base import find_dataset
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "licences.md").read_text()


def rows(heading: str) -> list[list[str]]:
    (section,) = re.findall(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    table = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_datasets_have_the_licences_of_their_readers():
    found = {quoted(name)[0]: licence for name, licence in rows("Data")}
    own = {"folder"}  # the user's images
    assert found == {name: find_dataset(name).licence for name in plugin_names("nfbench.datasets") if name not in own}


@pytest.mark.parametrize("backbone", [name for name in backbone_names() if name != "image"])  # which has no weights
def test_the_weights_of_each_backbone_are_in_one_row(backbone):
    assert sum(any(fnmatch(backbone, name) for name in quoted(names)) for names, _, _ in rows("Weights")) == 1


def test_methods_name_the_code_that_the_page_names():
    listed = {
        method: code.split(", ") for code, methods, _ in rows("Code that methods follow") for method in quoted(methods)
    }
    for method, codes in listed.items():
        text = (ROOT / "nfbench" / "methods" / f"{method}.py").read_text()
        assert all(code in text for code in codes if "/" in code), method
    assert set(listed) == set(plugin_names("nfbench.methods"))
