"""Killed trainings: with features extracted online, and during cross-fitting."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nfbench.blocks.method import Method
from nfbench.cli.load import load_plan
from nfbench.core.registry import plugin
from nfbench.plan.job import Job
from nfbench.stages.train import train_flow
from tests.conftest import ROOT, make_image_folder
from tests.in_process import run_job

BACKBONE = {"name": "tf_efficientnet_lite0", "input_size": 32, "levels": [2, 3], "weights": "random"}
SMALL = {"epochs": 4, "checkpoints": 2, "batch_size": 2, "val_fraction": 0}
CONDITIONAL = {**SMALL, "coupling_blocks": 1, "condition_dim": 8, "meta_epochs": 4}
VARIANTS = {
    "live": {"method": "fastflow", "settings": {**SMALL, "flow_steps": 1}},
    "rotated": {"method": "cflow", "settings": {**CONDITIONAL, "online_rotation": 5}},
    "drawn": {"method": "sanflow", "settings": CONDITIONAL, "anomalies": {"generator": "blend", "online": True}},
    "folded": {"method": "padim", "settings": {"reduced_dimensions": 20, "folds": 3}},
}
KEYS = {"live": {"online": True}, "drawn": {"image": True}}
"""What a variant asks of its backbone."""
KILLED = """
import os, signal, sys
from nfbench.stages import train
from nfbench.training import crossfit
from nfbench.plan.specs import TrainSpec

score, scored = crossfit._score, []

def killed(*arguments):
    scored.append(1)
    if len(scored) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return score(*arguments)

crossfit._score = killed
train.train_flow(TrainSpec.parse(sys.argv[1]), "cpu", 1)
"""


class Stop(Exception):
    """Stands for a kill."""


def prepared(folder: Path, variant: str) -> Job:
    """The training of a variant on a folder of images, after the jobs before it."""
    make_image_folder(folder / "images", "part")
    (folder / "workflow/experiments").mkdir(parents=True)
    (folder / "config.yaml").write_text("experiment: own\n")
    backbone = {**BACKBONE, **KEYS.get(variant, {})}
    experiment = {
        "title": "T",
        "datasets": {"mine": {"root": "images"}},
        "variants": {variant: VARIANTS[variant]},
        "grid": [{"methods": [variant], "backbones": [backbone], "datasets": {"mine": ["part"]}}],
        "tables": {"numbers": {"title": "T", "metric": "image_auroc"}},
    }
    (folder / "workflow/experiments/own.yaml").write_text(json.dumps(experiment))
    plan = load_plan()
    (cell,) = plan.cells("own")
    training = plan.train(cell)
    for before in training.before:
        run_job(before)
    return training


def weights(job: Job) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(job.spec.run).glob("*.safetensors")}


@pytest.mark.parametrize("variant", ["live", "rotated", "drawn"])
def test_a_training_whose_features_are_made_online_goes_on_with_equal_weights(variant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = prepared(tmp_path, variant)
    method: type[Method] = plugin("nfbench.methods", job.spec.method).METHOD
    losses, batches = method.losses, []

    def stopped(self, batch, generator):
        batches.append(batch.progress)
        if len(batches) == 8:  # in the third of four epochs of three batches
            raise Stop
        return losses(self, batch, generator)

    train_flow(job.spec, "cpu", 1, 0.0)
    whole = weights(job)
    shutil.rmtree(job.spec.run)
    monkeypatch.setattr(method, "losses", stopped)
    with pytest.raises(Stop):
        train_flow(job.spec, "cpu", 1, 0.0)
    assert not weights(job)
    train_flow(job.spec, "cpu", 1, 0.0)
    assert batches[8] == 0.5  # the two epochs before were not repeated
    assert weights(job) == whole
    assert {path.name for path in Path(job.spec.run).iterdir()} == {*whole, "history.csv", "training.json"}


def test_a_training_that_is_killed_while_it_cross_fits_leaves_nothing_and_runs_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = prepared(tmp_path, "folded")
    run_job(job)
    whole = weights(job)
    shutil.rmtree(job.spec.run)
    command = [sys.executable, "-c", KILLED, job.spec.to_json()]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not list(Path(job.spec.run).rglob("*"))
    again = load_plan().train(job.spec.cell)
    assert again.state == "missing"
    run_job(again)
    assert weights(job) == whole
    assert load_plan().train(job.spec.cell).state == "done"
