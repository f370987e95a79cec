"""Continuous integration runs what the docs promise, each test once, and fails if a tool is missing."""

import itertools
import os
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from _pytest.mark.expression import Expression

from tests.conftest import ROOT

RUN = (ROOT / ".ci" / "run").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
STAGES = dict(re.findall(r"^(?:test .* \|\| )?stage (\w+) (.+)$", RUN, re.M))


def target(name: str) -> list[str]:
    """The commands of a target of the Makefile."""
    (lines,) = re.findall(rf"^{name}:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    return [line.strip() for line in lines.splitlines()]


def test_stages_run_in_order_and_stop_early():
    assert list(STAGES) == ["tools", "lint", "fast", "run", "bare", "rest", "docs", "wheel"]
    assert "set -euo pipefail" in RUN


def runs_of(expression: str) -> set[tuple[str, ...]]:
    """The combinations of marks that an expression selects."""
    marks = ("slow", "workflow", "slurm")
    chosen = itertools.chain.from_iterable(itertools.combinations(marks, count) for count in range(4))
    compiled = Expression.compile(expression)
    return {names for names in chosen if compiled.evaluate(lambda name, names=names, **_: name in names)}


def test_each_test_runs_in_one_stage():
    """``make test-fast`` and ``make test-rest`` together are ``make test``, and no test is in both."""
    fast, rest = (re.search(r'-m "(.+)"', target(name)[0])[1] for name in ("test-fast", "test-rest"))
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    every = re.search(r"-m '(.+)'", options)[1]
    assert target("test") == ["$(PYTEST)"]
    assert runs_of(fast) | runs_of(rest) == runs_of(every)
    assert not runs_of(fast) & runs_of(rest)
    assert {"make test-fast", "make test-rest"} <= set(STAGES.values())


def run_script(folder, text: str) -> subprocess.CompletedProcess:
    script = folder / ".ci" / "run"
    script.parent.mkdir(exist_ok=True)
    script.write_text(text)
    return subprocess.run(["bash", script], capture_output=True, text=True, check=False)


def test_times_are_printed_and_a_failure_ends_the_run(tmp_path):
    head = RUN[: RUN.index("rm -rf .venv")]
    done = run_script(tmp_path, head + "stage one true\nstage two false\nstage three touch after\n")
    assert done.returncode == 1
    assert re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M) == [("one", "0"), ("two", "0")]
    assert done.stderr == "stage 'two' failed\n"
    assert not (tmp_path / "after").exists()
    done = run_script(tmp_path, head + "stage one true\n")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "all stages passed")


SKIPS = """
import pytest

def test_tool():
    pytest.skip("LaTeX is not installed")

def test_package():
    pytest.importorskip("no_such_package")

def test_data():
    pytest.skip("the data are not there")
"""


def test_a_run_that_is_stopped_has_not_passed(tmp_path):
    script = RUN[: RUN.index("rm -rf .venv")] + "stage one bash -c 'kill -TERM $PPID; sleep 0.2'\nstage two true\n"
    done = run_script(tmp_path, script)
    assert done.returncode == 143
    assert "passed" not in done.stdout
    assert done.stderr.endswith("stage 'one' failed\n")


@pytest.mark.parametrize(("required", "counts"), [("", "3 skipped"), ("1", "2 failed, 1 skipped")])
def test_a_missing_tool_fails_where_tools_are_required(tmp_path, required, counts):
    (tmp_path / "test_skips.py").write_text(SKIPS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.required_tools", "-p", "no:cacheprovider", "."]
    variables = {**os.environ, "NFBENCH_REQUIRE_TOOLS": required, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1].startswith(counts), done.stdout


def test_ci_requires_tools():
    assert "export NFBENCH_REQUIRE_TOOLS=1" in RUN


def test_the_public_service_runs_the_same_script():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step][-1] == ".ci/run"
    (python,) = [step["with"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert python["cache"] == "pip"
    assert python["cache-dependency-path"] == "requirements.lock"


def test_hooks_before_a_commit_are_commands_of_make_lint():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"].removeprefix(".venv/bin/") for hook in local["hooks"]]
    assert local["repo"] == "local"
    assert all(hook["language"] == "system" for hook in local["hooks"])  # the versions of the lock
    assert hooks == [line for line in target("lint") if line != "snakemake --lint"]
