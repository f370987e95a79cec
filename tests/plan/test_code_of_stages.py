"""The code of nfbench's stages: plug-ins change only their own hash, and all code that runs is covered."""

import ast
import inspect
import itertools
import shutil
from pathlib import Path

import pytest

import nfbench
from nfbench.anomalies._base import PACKAGE as ANOMALIES
from nfbench.backbones._base import PACKAGE as BACKBONES
from nfbench.blocks.method import PACKAGE as METHODS
from nfbench.config import FigureConfig, TableConfig
from nfbench.core.registry import plugin_names
from nfbench.datasets._base import PACKAGE as DATASETS
from nfbench.metrics import PACKAGE as METRICS
from nfbench.plan.cells import Cell
from nfbench.plan.code import Code, code_hash, reachable
from nfbench.plan.specs import EvaluateSpec, ExtractSpec, PrepareSpec, ScoreSpec, TrainSpec
from nfbench.stages.evaluate import evaluate_run
from nfbench.stages.extract import extract_features
from nfbench.stages.prepare import prepare_data
from nfbench.stages.score import score_run
from nfbench.stages.train import train_flow
from tests.conftest import make_image_folder
from tests.executed import Executed

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("parsed_once")]

BACKBONE = "tf_efficientnet_lite0"
SOURCE = Path(nfbench.__file__).parent
PACKAGES = (METHODS, DATASETS, BACKBONES, ANOMALIES, METRICS, TableConfig.package, FigureConfig.package)
PLUGINS = [(package, name) for package in PACKAGES for name in plugin_names(package)]


def hash_of(folder, *roots):
    return Code(folder, folder.name).hash(*roots)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of nfbench, and hashes of its plug-ins."""
    folder = tmp_path_factory.mktemp("copy") / "nfbench"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder, hashes_of(folder)


def hashes_of(folder):
    code = Code(folder, "nfbench")
    return {(package, name): code.hash(f"{package}.{name}") for package, name in PLUGINS}


def file_of(folder, package, name):
    return folder / package.rpartition(".")[2] / f"{name}.py"


@pytest.mark.parametrize(("package", "name"), PLUGINS, ids=[f"{p.rpartition('.')[2]}-{n}" for p, n in PLUGINS])
def test_a_plugin_depends_on_its_own_file(copy, package, name):
    folder, hashes = copy
    path = file_of(folder, package, name)
    text = path.read_text()
    tree = ast.parse(text)
    last = next(node for node in reversed(tree.body) if isinstance(node, ast.Assign))
    last.value = ast.BoolOp(ast.Or(), [last.value, ast.Constant(None)])
    path.write_text(ast.unparse(tree))
    after = hash_of(folder, f"{package}.{name}")
    path.write_text(text)
    assert after != hashes[package, name]


def test_a_plugin_does_not_depend_on_its_looks(copy):
    folder, hashes = copy
    texts = {path: path.read_text() for path in (file_of(folder, *plugin) for plugin in PLUGINS)}
    for path, text in texts.items():
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value += " In other words."
        path.write_text(f"# {path.name}\n{ast.unparse(tree)}")  # in another format, and without the comments
    after = hashes_of(folder)
    for path, text in texts.items():
        path.write_text(text)
    assert after == hashes


def test_a_new_plugin_leaves_the_others_alone(copy):
    folder, hashes = copy
    new = []
    for package in {package for package, _ in PLUGINS}:
        some = next(name for found, name in PLUGINS if found == package)
        new.append(file_of(folder, package, "brand_new"))
        new[-1].write_text(new[-1].with_name(f"{some}.py").read_text())
    after = hashes_of(folder)
    for path in new:
        path.unlink()
    assert after == hashes


def test_the_hash_is_of_all_roots_in_any_order():
    both = code_hash("nfbench.training.fit:fit", "nfbench.methods.fastflow")
    assert len(both) == 12
    assert both == Code(SOURCE, "nfbench").hash("nfbench.methods.fastflow", "nfbench.training.fit:fit")
    assert both not in {code_hash("nfbench.training.fit:fit"), code_hash("nfbench.methods.fastflow")}


def modules_of(*roots):
    return {name.partition(":")[0] for name in reachable(*roots)}


def test_what_a_training_and_an_evaluation_follow_from():
    training = modules_of("nfbench.training.fit:fit", "nfbench.methods.fastflow")
    wanted = (
        "blocks.flow_method",
        "blocks.method",
        "training.loop",
        "training.data",
        "features.cache",
        "features.shards",
    )
    assert {f"nfbench.{name}" for name in wanted} <= training
    evaluation = modules_of("nfbench.scoring.protocol:score_views", "nfbench.scoring.protocol:measure")
    assert {"nfbench.metrics._ranking", "nfbench.metrics._iou", "nfbench.scoring.maps"} <= evaluation
    rooms = {name.split(".")[1] for name in training | evaluation}
    assert not rooms & {"tables", "figures", "report", "results", "search", "tracking", "cli", "reference"}
    assert not training & {"nfbench.config.tables", "nfbench.methods.padim", "nfbench.scoring.evaluate"}


METHODS_RUN = {
    "fastflow": {"epochs": 1, "batch_size": 4, "checkpoints": 1, "flow_steps": 2},
    "padim": {"reduced_dimensions": 8},
    "patchcore": {},
    "uflow": {"epochs": 1, "batch_size": 4, "checkpoints": 1, "flow_steps": 1},
    "sanflow": {
        "epochs": 1, "batch_size": 4, "checkpoints": 1, "statistics_size": 8, "coupling_blocks": 1, "condition_dim": 8,
        "val_fraction": 0.0,
    },
}  # fmt: skip


def run_stage(stage, spec, least):
    """Run a stage of nfbench; all that it executes is part of its job's code."""
    with Executed() as executed:
        stage(spec, **({"device": "cpu"} if "device" in inspect.signature(stage).parameters else {}))
    assert len(executed.names) >= least, sorted(executed.names)
    reached = set(reachable(f"nfbench.stages.{spec.function}", *spec.plugins))
    assert not executed.names - reached, sorted(executed.names - reached)
    return executed.names


def extract_spec(folder, image, view):
    backbone = {"name": BACKBONE, "input_size": 64, "image": image, "weights": "random"}
    return ExtractSpec(
        manifest=str(folder / "m.csv"), view=view, backbone=backbone, features=str(folder / f"{view}{image}/meta.json")
    )


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """The folder of a small category's manifest and features, with and without the image."""
    folder = tmp_path_factory.mktemp("extracted")
    root = make_image_folder(folder / "own", "part")
    spec = PrepareSpec(dataset={"dataset": "folder"}, category="part", root=str(root), manifest=str(folder / "m.csv"))
    run_stage(prepare_data, spec, 12)
    for image, view in itertools.product((False, True), ("train", "test")):
        run_stage(extract_features, extract_spec(folder, image, view), 40)
    return folder


@pytest.mark.parametrize("method", METHODS_RUN)
def test_all_that_runs_is_part_of_the_jobs_code(extracted, tmp_path, method):
    image = method == "sanflow"
    train, test = (extract_spec(extracted, image, view) for view in ("train", "test"))
    cell = Cell("one-class", "own", "part", method, train.backbone.tag, 0)
    shared = {
        "cell": cell, "method": method, "backbone": train.backbone, "run": str(tmp_path / "run"),
        "anomalies": {"generator": "cutpaste", "online": True} if image else None,
    }  # fmt: skip
    one = {"name": "part", "manifest": train.manifest, "features": train.features}
    spec = TrainSpec(**shared, reader="folder", classes=[one], settings=METHODS_RUN[method])
    trained = run_stage(train_flow, spec, 60)
    own = set(reachable(f"nfbench.methods.{method}"))
    assert trained & (own - set(reachable(f"nfbench.stages.{spec.function}"))), "the method's own code did not run"
    place = {"trained": spec.run, "manifest": train.manifest}
    scored = ScoreSpec(**shared, **place, train_features=train.features, features=test.features)
    run_stage(score_run, scored, 60)
    run_stage(evaluate_run, EvaluateSpec(cell=cell, **place, run=spec.run), 40)
