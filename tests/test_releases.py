"""The newest version in the changelog is that of the package and of the citation."""

import re

import yaml

import nfbench
from tests.conftest import ROOT


def test_changelog_citation_and_package_have_one_version():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    version, date = re.search(r"^## (\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d)$", changelog, re.M).groups()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert (citation["version"], citation["date-released"]) == (version, date)
    assert nfbench.__version__ == version
