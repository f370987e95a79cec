"""The GPU table and its rehearsal run here at a small size, so that errors do not first appear on a GPU."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nfbench.blocks.method import PACKAGE
from nfbench.core.registry import plugin_names

ROOT = Path(__file__).parents[2]


def run(module, *arguments):
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_table_of_a_gpu_has_every_method_and_no_failure():
    table = run("gpu", "--device", "cpu", "--quick")
    lines = [line for line in table.splitlines() if line.startswith("| ")][2:]
    assert {line.split()[1] for line in lines} == {*plugin_names(PACKAGE), "extraction"}
    assert not [line for line in lines if "failed" in line or "not installed" in line]
    assert len(re.findall(r"anomalib .* x its speed", table)) == 3
    assert "not reached" not in table


@pytest.mark.slow
def test_what_the_deadline_leaves_out_is_listed():
    table = run("gpu", "--device", "cpu", "--quick", "--seconds", "0")
    left = table.partition("not reached:\n")[2].splitlines()
    assert {line.split()[0] for line in left} == {*plugin_names(PACKAGE), "extraction"}


@pytest.mark.slow
def test_a_pair_is_rehearsed_from_images_to_metrics():
    table = run("rehearsal", "--experiment", "uflow_table1", "--only", "patchcore", "--seconds", "300")
    (row,) = [line for line in table.splitlines() if line.startswith("| patchcore")]
    assert row.split("|")[-2].strip() == "well"


@pytest.mark.slow
def test_a_pair_that_takes_too_long_is_named_with_its_stage():
    table = run("rehearsal", "--experiment", "uflow_table1", "--only", "patchcore", "--seconds", "2")
    assert "longer than 2 s" in table
