"""Environments of rules: what they hold, and Snakemake's side of ``--use-conda`` with a stand-in for conda.

The stand-in installs nothing: that the pins can be installed together is shown by the lock, which they are part of.
"""

import ast
import re
import shutil
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))


def rules() -> dict[str, str]:
    """The text of every rule of the rule files."""
    texts = [path.read_text() for path in sorted((ROOT / "workflow" / "rules").glob("*.smk"))]
    parts = re.split(r"^(?:rule|checkpoint) (\w+):$", "\n".join(texts), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def pins(path: Path) -> list[str]:
    """The packages that an environment takes from PyPI."""
    listed = yaml.safe_load(path.read_text())["dependencies"]
    return next(entry["pip"] for entry in listed if isinstance(entry, dict))


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(requirement).name) for requirement in requirements}


@pytest.mark.parametrize(
    "name", [name for name, text in rules().items() if re.search(r"^    (shell|script):", text, re.M)]
)
def test_every_rule_that_works_names_its_environment(name):
    named = re.search(r"^    conda:\n        \"(.+)\"$", rules()[name], re.M)
    assert named, f"rule {name} has no environment"
    assert (ROOT / "workflow" / "rules" / named[1]).resolve() in ENVIRONMENTS


@pytest.mark.parametrize("path", ENVIRONMENTS, ids=lambda path: path.name)
def test_pins_are_those_of_the_lock(path):
    assert set(pins(path)) <= set((ROOT / "requirements.lock").read_text().splitlines())
    assert yaml.safe_load(path.read_text())["channels"] == ["conda-forge", "nodefaults"]


def test_all_that_nfbench_imports_is_in_its_environment():
    trees = [ast.parse(path.read_text()) for path in (ROOT / "nfbench").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    modules = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    tops = (
        {module.partition(".")[0] for module in modules} - set(sys.stdlib_module_names) - {"nfbench", "pydantic_core"}
    )  # pydantic pins it
    listed = names(pins(ROOT / "envs" / "nfbench.yaml"))
    files = [path for name in listed for path in distribution(name).files]
    assert tops - {path.parts[0].removesuffix(".py") for path in files} == set()


def test_no_environment_loses_its_packages_of_pypi_to_a_pin_file():
    """Snakemake installs a pin file instead of the environment file, and a pin file cannot name packages of PyPI."""
    assert [path for path in ENVIRONMENTS if pins(path) and list(path.parent.glob(f"{path.stem}.*.pin.txt"))] == []


@pytest.mark.workflow
def test_jobs_run_in_their_environment(new_checkout, conda):
    checkout = new_checkout()
    checkout.snakemake_apart("results/sources.json", "--use-conda")
    assert yaml.safe_load((conda / "created.yaml").read_text()) == yaml.safe_load(ENVIRONMENTS[0].read_text())
    (used,) = (conda / "used").read_text().splitlines()
    assert used.startswith("-m nfbench --log results/logs/list_data/sources.log data list")
    assert (checkout.folder / "results" / "sources.json").exists()


@pytest.mark.workflow
def test_without_the_option_jobs_run_in_the_environment_at_hand(new_checkout, conda):
    checkout = new_checkout()
    printed = checkout.snakemake("--printshellcmds", "results/sources.json")
    assert "Conda environments: ignored" in printed
    assert not (conda / "used").exists()


@pytest.mark.workflow
def test_the_option_without_conda_stops_before_the_first_job(new_checkout, monkeypatch):
    if shutil.which("conda"):
        pytest.skip("conda is installed")
    checkout = new_checkout()
    assert "conda" in checkout.snakemake_apart("results/sources.json", "--use-conda", fails=True)
    assert not (checkout.folder / "results").exists()
