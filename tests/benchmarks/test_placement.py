"""No step of a method mixes tensors of the CPU and of a GPU, seen by a stand-in for a GPU in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from nfbench.blocks.method import PACKAGE
from nfbench.core.registry import plugin_names

ROOT = Path(__file__).parents[2]

SCRIPT = """
import json, sys, torch
from benchmarks.placement import build_placed, check, tiny
from nfbench.core.registry import plugin, plugin_names

package, broken = sys.argv[1:]
if broken:
    method = plugin(package, broken).METHOD
    score = method.score
    method.score = lambda self, features: score(self, features.map(lambda part: part + torch.ones(part.shape[-1])))
found = {}
for name in [broken] if broken else plugin_names(package):
    with build_placed(name, *tiny(name), n_classes=2) as placed:
        found[name] = check(placed)
print(json.dumps(found))
"""


def check(broken=""):
    command = [sys.executable, "-c", SCRIPT, PACKAGE, broken]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_every_step_of_every_method_computes_on_one_device():
    found = check()
    assert sorted(found) == sorted(plugin_names(PACKAGE))
    assert {(name, step): said for name, steps in found.items() for step, said in steps.items() if said} == {}


def test_a_step_that_mixes_devices_is_found():
    said = check("fastflow")["fastflow"]
    assert "standin:0 and cpu" in said["score"]
    assert said["prepare"] == said["calibrate"] == ""
