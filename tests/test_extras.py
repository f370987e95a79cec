"""Extras: their packages, what works without them, and the one-line error if one is missing."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distributions

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from nfbench.core.errors import NfbenchError
from nfbench.core.extras import EXTRAS, require
from nfbench.tracking.store import Store
from tests.conftest import ROOT
from tests.in_process import run_nfbench

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEED_AN_EXTRA = {"nfbench.search.objective", "nfbench.search.study", "nfbench.search.summary", "nfbench.stages.search"}
NEED_AN_EXTRA |= {"nfbench.inference.demo"}
IMPORT_ALL = """
import sys
for name in sys.argv[1].split(","):
    sys.modules[name] = None
for name in sys.argv[2].split(","):
    __import__(name)
"""


def modules(*extras):
    return [module for extra in extras for module in EXTRAS[extra].modules]


@pytest.fixture
def without(monkeypatch):
    """Hides the packages of extras."""

    def hide(*extras):
        for name in modules(*extras):
            for loaded in [one for one in sys.modules if one.partition(".")[0] == name]:
                monkeypatch.delitem(sys.modules, loaded)
            monkeypatch.setitem(sys.modules, name, None)

    return hide


def names(requirements):
    return {canonicalize_name(Requirement(one).name) for one in requirements}


@pytest.mark.parametrize("extra", EXTRAS)
def test_packages_of_an_extra_are_in_it_and_not_in_the_base(extra):
    assert set(EXTRAS[extra].modules) <= names(PROJECT["optional-dependencies"][extra])
    assert not set(EXTRAS[extra].modules) & names(PROJECT["dependencies"])


def test_the_workflow_is_an_extra():
    assert names(PROJECT["optional-dependencies"]["pipeline"]) == {"snakemake"}
    assert "snakemake" not in names(PROJECT["dependencies"])


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_extra_is_one_line_that_names_it(extra, without):
    require(extra)
    without(extra)
    with pytest.raises(NfbenchError) as raised:
        require(extra)
    assert str(raised.value).startswith(EXTRAS[extra].needed_by)
    assert str(raised.value).endswith(f": pip install 'nfbench[{extra}]'")


@pytest.mark.parametrize(
    ("extra", "command"),
    [
        ("search", ["create_study", "--spec", "{}"]),
        ("search", ["search_hyperparameters", "--spec", "{}"]),
        ("search", ["summarize_study", "--spec", "{}"]),
        ("search", ["check_start", "--extra", "search"]),
        ("tracking", ["check_start", "--extra", "tracking"]),
        ("demo", ["demo", "run"]),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_commands_say_which_extra_they_need(extra, command, without):
    without(extra)
    with pytest.raises(NfbenchError, match=rf"^{EXTRAS[extra].needed_by}.*: pip install 'nfbench\[{extra}\]'$"):
        run_nfbench(ROOT, *command)


def test_tracking_needs_mlflow(without, tmp_path):
    without("tracking")
    with pytest.raises(NfbenchError, match=r"^tracking needs MLflow .*: pip install 'nfbench\[tracking\]'$"):
        Store(tmp_path).connect()
    assert not list(tmp_path.iterdir())


def test_all_other_modules_import_without_extras():
    paths = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "nfbench").rglob("*.py")]
    found = {".".join(path.parts).removesuffix(".__init__") for path in paths} - {"nfbench.__main__"}
    assert found > NEED_AN_EXTRA
    command = [sys.executable, "-c", IMPORT_ALL, ",".join(["snakemake", *modules(*EXTRAS)])]
    done = subprocess.run(
        [*command, ",".join(sorted(found - NEED_AN_EXTRA))], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr


def test_variants_are_checked_without_extras(without):
    """A run of one experiment checks the variants of all experiments, including searches."""
    without(*EXTRAS)
    assert run_nfbench(ROOT, "check_start") == ""


def test_the_lock_covers_all_extras():
    locked = names((ROOT / "requirements.lock").read_text().splitlines())
    asked = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]
    assert names(asked) <= locked


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_all_locked_releases_run_on_all_supported_versions_of_python(python):
    assert python in SpecifierSet(PROJECT["requires-python"])
    accepted = {one.metadata["Name"]: one.metadata.get("Requires-Python") or "" for one in distributions()}
    assert [name for name, versions in accepted.items() if python not in SpecifierSet(versions)] == []


def test_the_quickstart_lists_all_extras():
    """Each with the packages that it adds and with commands that exist."""
    page = (ROOT / "docs" / "quickstart.md").read_text()
    rows = {row[0]: row[1:] for row in re.findall(r"^\| `(\w+)` \| (.*) \| (.*) \|$", page, re.M)}
    assert set(rows) == set(PROJECT["optional-dependencies"])
    for extra, (packages, users) in rows.items():
        assert all(name.casefold() in packages.casefold() for name in modules(*{extra} & set(EXTRAS)))
        for command in re.findall(r"`nfbench (\w+)", users):
            assert run_nfbench(ROOT, command, "--help")
        for target in re.findall(r"`make ([\w-]+)`", users):
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
    for asked in re.findall(r"\[([a-z,]+)\]'", page):
        assert set(asked.split(",")) <= set(rows)
