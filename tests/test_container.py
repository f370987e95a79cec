"""The Dockerfile agrees with the Makefile, the lock and docs/cluster.md. No test builds the image."""

import re
import tomllib

import yaml

from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
ARGUMENTS = dict(re.findall(r"^ARG (\w+)=(\S*)$", DOCKERFILE, re.M))


def test_the_base_is_pinned_to_the_python_of_the_lock():
    python = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-\w+", ARGUMENTS["BASE"])[1]
    dependencies = yaml.safe_load((ROOT / "envs" / "nfbench.yaml").read_text())["dependencies"]
    assert f"python={python}" in dependencies


def test_packages_come_from_the_lock_as_in_the_makefile():
    install = re.search(r"pip install (?:.*\\\n)*.*", DOCKERFILE)[0]
    for words in ("--constraint requirements.lock", "--editable"):
        assert words in install
        assert words in (ROOT / "Makefile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras) - {"test", "dev"} <= set(ARGUMENTS["EXTRAS"].split(","))


def test_copied_files_exist():
    for line in re.findall(r"^COPY --chown=\S+ (.+)$", DOCKERFILE, re.M):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources), line


def test_no_made_file_is_copied():
    """What git ignores is left out of the image, except for virtual environments' own rules."""
    left_out = set((ROOT / ".dockerignore").read_text().split())
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()]
    assert {name for name in ignored if name not in left_out and f"**/{name}" not in left_out} == {"!/results/.gitkeep"}


def test_commands_of_the_documents_use_the_arguments_that_exist():
    told = re.findall(r"docker build .*", (ROOT / "docs" / "cluster.md").read_text())
    assert {"docker build --tag nfbench:cpu .", "docker build --tag nfbench:cuda --build-arg TORCH_INDEX= ."} == set(
        told
    )
    assert set(re.findall(r"--build-arg (\w+)=", " ".join(told))) <= set(ARGUMENTS)
