"""The code of the stages of nfbench: plug-ins change their own hash alone, and all that runs is reached."""

import ast
import itertools
import shutil
import sys
import threading
from pathlib import Path

import pytest
import torch

import nfbench
from nfbench.anomalies.base import PACKAGE as ANOMALIES
from nfbench.backbones.base import PACKAGE as BACKBONES
from nfbench.backbones.base import find_backbone
from nfbench.blocks.method import PACKAGE as METHODS
from nfbench.blocks.method import resolve_settings
from nfbench.config import AnomaliesConfig
from nfbench.core.registry import plugin_names
from nfbench.datasets.base import PACKAGE as DATASETS
from nfbench.datasets.base import find_dataset
from nfbench.datasets.manifest import build_manifest
from nfbench.features.cache import FeatureCache
from nfbench.features.extract import extract_features
from nfbench.features.recipe import Recipe
from nfbench.plan.cells import Cell
from nfbench.plan.code import Code, code_hash, reachable
from nfbench.scoring.evaluate import GroundTruth
from nfbench.scoring.protocol import Views, score_and_evaluate
from nfbench.training.assemble import Images
from nfbench.training.fit import fit
from tests.conftest import make_image_folder

CPU = torch.device("cpu")
BACKBONE = "tf_efficientnet_lite0"
FIND_DATASET = "nfbench.datasets.base:find_dataset"
SOURCE = Path(nfbench.__file__).parent
PLUGINS = [(package, name) for package in (METHODS, DATASETS, BACKBONES, ANOMALIES) for name in plugin_names(package)]


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
    evaluation = modules_of("nfbench.scoring.protocol:score_and_evaluate")
    assert {"nfbench.metrics.ranking", "nfbench.metrics.iou", "nfbench.scoring.maps"} <= evaluation
    rooms = {name.split(".")[1] for name in training | evaluation}
    assert not rooms & {"tables", "figures", "report", "results", "search", "tracking", "cli", "reference"}
    assert not training & {"nfbench.config.tables", "nfbench.methods.padim", "nfbench.scoring.evaluate"}


class Executed:
    """Top-level definitions of nfbench that run within the block, in any thread, but for what an import runs."""

    def __init__(self):
        self.names, self._codes, self._spans = set(), set(), {}

    def __enter__(self):
        for name in [name for name in sys.modules if name.startswith("nfbench.")]:
            for value in vars(sys.modules[name]).values():
                getattr(value, "cache_clear", bool)()
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *error):
        sys.setprofile(None)
        threading.setprofile(None)

    def _note(self, frame, event, argument):
        code = frame.f_code
        if event != "call" or code in self._codes or not code.co_filename.startswith(f"{SOURCE}/"):
            return
        while frame is not None:
            if frame.f_code.co_name == "<module>" and frame.f_code.co_filename.startswith(f"{SOURCE}/"):
                return
            frame = frame.f_back
        self._codes.add(code)
        self.names.add(self._name(Path(code.co_filename), code.co_firstlineno))

    def _name(self, path, line):
        """The definition at a line of a file, as ``reachable`` names it."""
        if path not in self._spans:
            self._spans[path] = ast.parse(path.read_text()).body
        for node in self._spans[path]:
            first = min([node.lineno, *(found.lineno for found in getattr(node, "decorator_list", []))])
            if first <= line <= node.end_lineno:
                parts = path.relative_to(SOURCE.parent).with_suffix("").parts
                module = ".".join(parts).removesuffix(".__init__")
                return f"{module}:{getattr(node, 'name', None) or ast.unparse(node.targets[0])}"
        raise AssertionError(f"{path}:{line}")


METHODS_RUN = {
    "fastflow": {"flow_steps": 2},
    "padim": {"reduced_dimensions": 8},
    "patchcore": {},
    "uflow": {"flow_steps": 1},
    "sanflow": {"statistics_size": 8, "coupling_blocks": 1, "condition_dim": 8, "val_fraction": 0.0},
}


def require_reached(executed, least, *roots):
    assert len(executed.names) >= least, sorted(executed.names)
    assert not executed.names - set(reachable(*roots))


@pytest.fixture(scope="module")
def extracted(tmp_path_factory):
    """Entries of a small category, and the folder of their features, with and without the image."""
    folder = tmp_path_factory.mktemp("extracted")
    with Executed() as prepare:
        entries = build_manifest(find_dataset("folder").samples(make_image_folder(folder / "own", "part"), "part"))
    require_reached(prepare, 8, "nfbench.datasets.manifest:build_manifest", "nfbench.datasets.folder", FIND_DATASET)
    with Executed() as extract:
        for image, view in itertools.product((False, True), ("train", "test")):
            recipe = Recipe(find_backbone(BACKBONE), 64, image=image, weights="random")
            of_view = [entry for entry in entries if entry.split == view]
            extract_features(of_view, recipe, meta_path(folder, image, view), view=view, device=CPU)
    require_reached(extract, 40, "nfbench.features.extract:extract_features", "nfbench.backbones.efficientnet_lite")
    return entries, folder


def meta_path(folder, image, view):
    return folder / f"{view}{image}" / "meta.json"


@pytest.mark.parametrize("method", METHODS_RUN)
def test_all_that_runs_is_reached(extracted, tmp_path, method):
    entries, folder = extracted
    own, with_image = resolve_settings(method), method == "sanflow"
    overrides = {"epochs": min(own.epochs, 1), "batch_size": 4, "checkpoints": 1, **METHODS_RUN[method]}
    known = {key: value for key, value in overrides.items() if key in type(own).model_fields}
    settings = resolve_settings(method, overrides=known)
    cell = Cell("one-class", "folder", "part", method, f"{BACKBONE}@64", 0)
    anomalies = AnomaliesConfig(generator="cutpaste", online=True) if with_image else None
    with Executed() as train:
        images = Images(entries, FeatureCache(meta_path(folder, with_image, "train")), anomalies)
        fitted = fit(cell, method, settings, [images], CPU, tmp_path / "run")
    generators = ["nfbench.anomalies.cutpaste"] if anomalies else []
    require_reached(train, 20, "nfbench.training.fit:fit", f"nfbench.methods.{method}", *generators)
    with pytest.raises(AssertionError):  # the method's own code did run
        require_reached(train, 20, "nfbench.training.fit:fit", *generators)
    with Executed() as evaluate:
        truth = GroundTruth([entry for entry in entries if entry.split == "test"])
        views = Views(images.features.levels, FeatureCache(meta_path(folder, with_image, "test")).levels)
        score_and_evaluate(fitted.model, views, truth, CPU)
    roots = ["nfbench.scoring.protocol:score_and_evaluate", "nfbench.features.cache:FeatureCache"]
    require_reached(evaluate, 30, *roots, f"nfbench.methods.{method}")
