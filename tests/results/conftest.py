"""A finished experiment for tests that read its results."""

from pathlib import Path

import pytest

from nfbench.plan.plan import Plan
from tests.results.tiny import finish_tiny


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    """A folder with a small finished experiment, and its plan, for work in that folder."""
    folder = tmp_path_factory.mktemp("tiny")
    return folder, finish_tiny(folder)


@pytest.fixture
def plan(tiny: tuple[Path, Plan], monkeypatch: pytest.MonkeyPatch) -> Plan:
    """The plan of the finished experiment; the test works in its folder and leaves the results as they are."""
    monkeypatch.chdir(tiny[0])
    return tiny[1]
