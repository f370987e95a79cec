"""Snakemake with its own dependencies alone, in a clone: the workflow is read, and jobs run in conda's environment.

The environment of Snakemake is a folder of links to the packages that it requires. Conda is played by a stand-in, whose
environment is the Python that runs the tests.
"""

import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import nfbench
from tests.workflow.conftest import Checkout, environment

pytestmark = [pytest.mark.workflow, pytest.mark.slow]


def required(name: str, found: set[str]) -> set[str]:
    """A distribution and all that it requires, without extras."""
    if name not in found:
        found.add(name)
        for line in distribution(name).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                required(requirement.name.lower(), found)
    return found


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with Snakemake and what it requires."""
    folder = tmp_path_factory.mktemp("packages")
    for name in required("snakemake", set()):
        found = distribution(name)
        for top in {path.parts[0] for path in found.files if path.parts[0] not in ("..", "__pycache__")}:
            if not (folder / top).exists():
                (folder / top).symlink_to(found.locate_file(top))
    return folder


def bare(folder: Path, packages: Path, *arguments: str) -> str:
    """Run Python without any other packages; return all it printed."""
    done = subprocess.run(
        [sys.executable, "-S", *arguments], cwd=folder, capture_output=True, text=True, check=False,
        env={**environment(), "PYTHONPATH": str(packages)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def clone(checkout: Checkout) -> Path:
    """The checkout's folder, with nfbench in it as in a clone."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(nfbench.__file__).parent, checkout.folder / "nfbench", ignore=ignored)
    return checkout.folder


@pytest.mark.parametrize("name", ["typer", "numpy", "PIL", "torch", "pandas", "nfbench"])
def test_what_jobs_need_is_not_there(packages, tmp_path, name):
    with pytest.raises(AssertionError, match=f"No module named '{name}'"):
        bare(tmp_path, packages, "-c", f"import {name}")


def test_an_experiment_is_planned_from_nothing(packages, conda, new_checkout):
    printed = bare(clone(new_checkout()), packages, "-m", "snakemake", "--cores", "all", "--use-conda", "-n", "smoke")
    jobs = dict(line.split() for line in printed.splitlines() if len(line.split()) == 2)
    assert (jobs["train_flow"], jobs["build_table"], jobs["total"]) == ("4", "3", "30")


def test_an_experiment_runs_to_its_tables(packages, conda, finished):
    folder = clone(finished)
    table = folder / "results/tables/smoke/smoke_image_auroc.tex"
    table.unlink()
    bare(folder, packages, "-m", "snakemake", "--cores", "all", "--use-conda", "smoke")
    (used,) = (conda / "used").read_text().splitlines()
    assert used.startswith("-m nfbench --log results/logs/build_table/smoke/smoke_image_auroc.log build_table --spec")
    assert "RANDOM weights" in table.read_text()
