"""A new key of backbones needs one field and one place that implements it; the rest is automatic."""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
import torch

from nfbench.config import BackboneConfig
from nfbench.datasets._manifest import build_manifest, read_manifest, write_manifest
from nfbench.datasets.folder import DATASET
from nfbench.features.extract import extract_features
from tests.changes import SOURCE

FIELDS = """
    halved: Annotated[bool, Key(lambda _: "halved")] = Field(False, description="divide all levels by two")
    added: int | None = Field(None, description="what to add to all levels")

    @field_validator("levels", "scales")"""
MEANING = """
    levels = [level / (2 if backbone.halved else 1) + (backbone.added or 0) for level in levels]
    if backbone.pooled:"""


@pytest.fixture
def run(tmp_path, image_folder):
    """Run commands with a copy of the package whose backbones have two more keys."""
    shutil.copytree(SOURCE, tmp_path / "nfbench", ignore=shutil.ignore_patterns("__pycache__"))
    for file, before, after in (
        ("config/backbone.py", '\n    @field_validator("levels", "scales")', FIELDS),
        ("features/forward.py", "\n    if backbone.pooled:", MEANING),
    ):
        path = tmp_path / "nfbench" / file
        assert path.read_text().count(before) == 1
        path.write_text(path.read_text().replace(before, after))
    write_manifest(tmp_path / "m.csv", build_manifest(DATASET.samples(image_folder, "part")))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    return run


SCRIPT = """
import json, torch
from pathlib import Path
from nfbench.config import BackboneConfig
from nfbench.core.errors import NfbenchError
from nfbench.datasets._manifest import read_manifest
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import extract_features

entries, found = [entry for entry in read_manifest("m.csv") if entry.split == "train"], {}

def extract(name, **keys):
    backbone = BackboneConfig(name="resnet18.tv_in1k", input_size=32, levels=[3], weights="random", **keys)
    extract_features(entries, backbone, name, view="train", device=torch.device("cpu"))
    found[backbone.tag] = FeatureCache(name).features.levels[0][0, :2].ravel().tolist()

for name, keys in {"plain": {}, "halved": {"halved": True}, "added": {"added": 3}}.items():
    extract(f"{name}/meta.json", **keys)
plain, halved = (FeatureCache(f"{name}/meta.json") for name in ("plain", "halved"))
for refused in (
    lambda: extract("plain/meta.json", halved=True),
    lambda: plain.require_same_source(halved.meta, halved.path),
):
    try:
        refused()
    except NfbenchError as error:
        found.setdefault("errors", []).append(str(error))
found["schema"] = BackboneConfig.model_json_schema()["properties"]["added"]
print(json.dumps(found))
"""


def test_a_new_key_is_in_tag_values_hash_meta_errors_and_schema(run, tmp_path):
    done = run("-c", SCRIPT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    plain, halved, added = (json.loads((tmp_path / n / "meta.json").read_text()) for n in ("plain", "halved", "added"))
    start = "resnet18.tv_in1k@32-l3-"
    (hashed,) = (tag for tag in found if re.fullmatch(rf"{re.escape(start)}random-[0-9a-f]{{8}}", tag))
    values = found[f"{start}random"]
    assert found[f"{start}random-halved"] == pytest.approx([value / 2 for value in values], rel=1e-2)
    assert found[hashed] == pytest.approx([value + 3 for value in values], rel=1e-2)
    assert (plain["recipe"]["backbone"]["halved"], halved["recipe"]["backbone"]["halved"]) == (False, True)
    assert added["tag"] == {"levels": "l3", "weights": "random", "added": hashed.rpartition("-")[2]}
    assert len({plain["key"], halved["key"], added["key"]}) == 3
    assert all(error.count("backbone.halved (False and True)") == 1 for error in found["errors"])
    assert len(found["errors"]) == 2
    assert found["schema"]["description"] == "what to add to all levels"


def test_caches_from_before_it_stay_valid(run, tmp_path):
    entries = [entry for entry in read_manifest(tmp_path / "m.csv") if entry.split == "train"]
    backbone = BackboneConfig(name="resnet18.tv_in1k", input_size=32, levels=[3], weights="random")
    meta = extract_features(entries, backbone, tmp_path / "old/meta.json", view="train", device=torch.device("cpu"))
    preamble, _, _ = SCRIPT.partition("for name, keys")
    done = run("-c", preamble + "extract('old/meta.json'); print(FeatureCache('old/meta.json').meta.key)")
    assert done.stdout.strip() == meta.key, done.stderr
