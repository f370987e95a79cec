"""A checkout of its own for each module of tests, so that Snakemake's locks and metadata are its own too."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nfbench.datasets.synthetic import Synthetic
from tests.in_process import planned_jobs, run_snakemake

ROOT = Path(__file__).parents[2]
FINISHED = os.environ.get("NFBENCH_SMOKE")
PARTS = ["Snakefile", "config.yaml", "workflow", "profiles", "envs"]
CONDA = """#!/bin/sh
case "$1 $2" in
  "--version ") echo "conda 24.7.1" ;;
  "info --json") echo '{{"conda_prefix": "{base}", "platform": "linux-64"}}' ;;
  "clean -y") ;;
  "config --get") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
  "env create")
    while [ $# -gt 0 ]; do
      case "$1" in --file) file=$2 ;; --prefix) prefix=$2 ;; esac
      shift
    done
    mkdir -p "$prefix/bin" && cp "$file" "{base}/created.yaml"
    printf '#!/bin/sh\\necho "$@" >> {base}/used\\nexec {python} "$@"\\n' > "$prefix/bin/python"
    chmod +x "$prefix/bin/python" ;;
  *) echo "unexpected: conda $*" >&2; exit 1 ;;
esac
"""


class Checkout:
    """The workflow in a folder, and ways to run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for part in PARTS:
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "snakemake", "--cores", "2", *arguments]

    def snakemake(self, *arguments: str, fails: bool = False) -> str:
        """Run Snakemake and its jobs in this process; return all they printed."""
        return run_snakemake(self.folder, "--cores", "1", *arguments, fails=fails)

    def snakemake_apart(self, *arguments: str, fails: bool = False) -> str:
        """The same in a process of its own, and one for each job."""
        done = subprocess.run(
            self.command(*arguments), cwd=self.folder, capture_output=True, text=True, check=False, env=environment()
        )
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def jobs(self, *arguments: str) -> dict[str, int]:
        """Number of jobs of each rule in a dry run, in this process."""
        return planned_jobs(self.folder, *arguments)


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def images(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of the synthetic categories that smoke tests use: drawing one takes two seconds."""

    def make(folder: Path) -> None:
        if FINISHED:
            shutil.copytree(Path(FINISHED, "data", "synthetic"), folder, dirs_exist_ok=True)
        for category in ("fabric", "washer"):
            Synthetic().samples(folder, category)

    return once("images", make)


def with_images(folder: Path, images: Path) -> Checkout:
    """A checkout in which these images are drawn already."""
    shutil.copytree(images, folder / "data" / "synthetic", copy_function=os.link)
    return Checkout(folder)


@pytest.fixture(scope="module")
def new_checkout(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Checkout]:
    return lambda: with_images(tmp_path_factory.mktemp("checkout"), images)


@pytest.fixture(scope="session")
def smoke(once: Callable[[str, Callable[[Path], object]], Path], images: Path) -> Path:
    """The folder of a checkout in which the experiment 'smoke' has run: once for all processes of the tests.

    ``NFBENCH_SMOKE`` may name a checkout of the same commit in which it has run already.
    """

    def make(folder: Path) -> None:
        checkout = with_images(folder, images)
        for part in (".snakemake", "results") if FINISHED else ():
            shutil.copytree(Path(FINISHED, part), folder / part, ignore=shutil.ignore_patterns(".gitkeep"))
        checkout.snakemake("smoke")

    return once("smoke", make)


@pytest.fixture(scope="module")
def finished(smoke: Path, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A copy of the checkout in which the experiment 'smoke' has run, with the times of its files."""
    checkout = Checkout(tmp_path_factory.mktemp("finished"))
    shutil.copytree(smoke, checkout.folder, dirs_exist_ok=True)
    return checkout


@pytest.fixture
def conda(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for conda on the path; returns its folder.

    It answers what Snakemake asks conda, and makes environments whose Python is the one at hand. It solves and installs
    nothing.
    """
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "conda").write_text(CONDA.format(base=tmp_path, python=sys.executable))
    (tmp_path / "bin" / "conda").chmod(0o755)
    (tmp_path / "bin" / "activate").write_text('export PATH="$1/bin:$PATH"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return tmp_path
