"""One finished run of each method, tiny, with its model."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from nfbench.blocks.method import PACKAGE, resolve_settings
from nfbench.blocks.settings import epochs_of
from nfbench.core.registry import plugin, plugin_names
from nfbench.results.record import RunRecord, read_record
from tests.in_process import run_experiment
from tests.tiny_models import ALWAYS_ANOMALIES, NO_ANOMALIES, OWN_BACKBONES, tiny_of
from tests.workflow.conftest import Checkout

METHODS = plugin_names(PACKAGE)
LITE = {"name": "tf_efficientnet_lite0", "input_size": 64, "weights": "random"}
SCALED = {**LITE, "input_size": 128, "levels": [3], "scales": [1, 2, 4]}
BACKBONES = {
    "csflow": SCALED,
    "differnet": {**SCALED, "levels": [4], "rotations": 2, "pooled": True},
    "ae_ssim": {"name": "image", "input_size": 64},
    "riad": {"name": "image", "input_size": 64},
    "sanflow": {**LITE, "image": True},
    **OWN_BACKBONES,
}

GENERATED = {"generator": "cutpaste", "views": 2}


@dataclass
class Runs:
    """Runs of all methods on synthetic fabric: of ``hgad`` one model of two categories."""

    folder: Path

    def of(self, method: str) -> Path:
        """Folder of the run of a method, relative to the checkout."""
        (found,) = self.folder.glob(f"results/runs/*/synthetic-tiny/fabric/tiny-{method}/*/seed0/run.json")
        return found.parent

    def record(self, method: str) -> RunRecord:
        return read_record(self.of(method) / "run.json")


def variant_of(name: str) -> dict:
    settings = {**plugin(PACKAGE, name).METHOD.tiny.settings, **NO_ANOMALIES.get(name, {})}
    trained = {"epochs": 1, "batch_size": 4, "val_fraction": 0.3} if epochs_of(resolve_settings(name)) else {"folds": 3}
    if name not in ALWAYS_ANOMALIES:
        return {"method": name, "settings": {**settings, **trained}}
    return {"method": name, "settings": {**settings, **trained, "val_fraction": 0}, "anomalies": GENERATED}


def backbone_of(name: str) -> dict:
    trained = tiny_of(name).backbone
    return trained.model_dump(mode="json", exclude_unset=True) if trained else BACKBONES.get(name, LITE)


@pytest.fixture(scope="session")
def runs(once, tmp_path_factory) -> Runs:
    """A copy of the runs of all methods, which are made once for all processes of the tests."""
    folder = tmp_path_factory.mktemp("inference")
    shutil.copytree(once("runs_of_all_methods", make_runs), folder, dirs_exist_ok=True)
    return Runs(folder)


def make_runs(folder: Path) -> None:
    Checkout(folder)

    def block(name: str) -> dict:
        unified = plugin(PACKAGE, name).METHOD.takes_class
        return {
            "methods": [f"tiny-{name}"],
            "backbones": [backbone_of(name)],
            "datasets": {"synthetic-tiny": ["fabric", "washer"] if unified else ["fabric"]},
            **({"setting": "unified"} if unified else {}),
        }

    experiment = {
        "title": "Runs of all methods",
        "keep_models": "last",
        "datasets": {
            "synthetic-tiny": {"dataset": "synthetic", "max_train": 10, "max_test_normal": 3, "max_test_anomalous": 4}
        },
        "variants": {f"tiny-{name}": variant_of(name) for name in METHODS},
        "grid": [block(name) for name in METHODS],
        "tables": {
            "every_auroc": {"title": "All", "kind": "methods", "metrics": ["image_auroc"], "setting": "one-class"}
        },
    }
    (folder / "workflow/experiments/every.yaml").write_text(yaml.safe_dump(experiment))
    run_experiment(folder, "every")
