"""Memory requests of jobs cover the models of all experiments and depend on images and shapes."""

import math
import subprocess
import sys

import pytest

from nfbench import methods
from nfbench.blocks.method import count_parameters, resolve_settings
from nfbench.cli.load import load
from nfbench.config import BackboneConfig
from nfbench.core.registry import plugin_names
from nfbench.features.building import count_on
from nfbench.plan.cells import Cell
from nfbench.plan.memory import coefficients, memory_mb
from nfbench.plan.specs import ClassSpec, EvaluateSpec, PrepareSpec, ScoreSpec, TrainSpec
from tests.conftest import ROOT

WIDE = {"name": "wide_resnet50_2.tv_in1k", "levels": [1, 2, 3], "input_size": 64}
COLUMNS = "split,label,defect,image,mask,height,width,sha256,mask_sha256\n"


def models():
    """Each model of an experiment once: variant, backbone, and their shapes."""
    bench = load(folder=ROOT)
    found = {}
    for experiment in bench.experiments.values():
        for block in experiment.grid:
            for method in block.methods:
                for backbone in block.backbones:
                    variant = bench.variant(method)
                    found[variant.method, str(variant.settings), backbone.tag] = variant, backbone
    return found.values()


def test_no_model_of_an_experiment_has_more_parameters_than_its_method_says():
    seen = set()
    for variant, backbone in models():
        pairs = sum(channels**2 for channels, _, _ in backbone.level_shapes.values())
        settings = resolve_settings(variant.method, backbone=backbone.name, overrides=variant.settings)
        model = count_on(backbone, variant.method, settings, 15)
        counted, known = count_parameters(model)["total"], coefficients(variant.method)
        assert counted <= known["parameters"] * pairs + known["network"] + 1, (variant.method, backbone.tag)
        seen.add(variant.method)
    assert seen == set(plugin_names("nfbench.methods"))


def train_spec(method="fastflow", manifest="none.csv", **backbone):
    config = BackboneConfig(**{"name": "tf_efficientnet_lite0", **backbone})
    one = ClassSpec(name="part", manifest=str(manifest), features="meta.json")
    cell = Cell("one-class", "own", "part", method, config.tag, 0)
    return TrainSpec(cell=cell, method=method, reader="folder", backbone=config, classes=(one,), run="run")


def write_manifest(path, train, test, side):
    rows = [f"train,0,good,{n}.png,,{side},{side},0,\n" for n in range(train)]
    rows += [f"test,1,dent,{n}.png,{n}_mask.png,{side},{side},0,0\n" for n in range(test)]
    path.write_text(COLUMNS + "".join(rows))
    return path


def test_measured_peaks_are_covered(tmp_path):
    """Peaks of the quickstart on two cores: 714 MB of a training, 875 MB of an evaluation; PaDiM's beyond its start."""
    manifest = write_manifest(tmp_path / "m.csv", 96, 100, 300)
    assert 714 * 1.2 < memory_mb(train_spec(manifest=manifest), 0) <= 4000
    assert memory_mb(evaluate_spec(manifest), 0) > 875 * 1.2
    assert memory_mb(train_spec("padim", manifest), 0) > 1081 + 500


PADIM = """
import torch
from nfbench.blocks.features import Features
from nfbench.blocks.method import LevelShape, build_method, resolve_settings
from nfbench.methods import padim

def peak():  # getrusage would count what the process that started this one had
    (line,) = (line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024

torch.set_num_threads(1)
padim._SUMS = 2**27
shapes = [LevelShape(256, 16, 16), LevelShape(512, 8, 8), LevelShape(1024, 4, 4)]
model = build_method("padim", shapes, resolve_settings("padim"), (64, 64), 0)
batch = Features([torch.randn(16, *shape) for shape in shapes])
start = peak()
model.prepare(lambda: [batch] * 2)
print(peak(), peak() - start)
"""


def test_fitting_covariances_takes_one_part_of_their_sums_at_a_time(tmp_path):
    """At a quarter of the paper's size in each direction; with all 550 channels."""
    printed = subprocess.run([sys.executable, "-c", PADIM], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    peak, fitting = map(float, printed.split())
    assert fitting < 2.6 * 2**27 / 2**20  # two parts at a time took 3.1
    spec = train_spec("padim", write_manifest(tmp_path / "m.csv", 32, 2, 64), **WIDE)
    assert 1.2 * peak < memory_mb(spec, 0) < 4 * peak


def score_spec(manifest):
    train = train_spec(manifest=manifest)
    features = {"train_features": "train/meta.json", "features": "test/meta.json"}
    return ScoreSpec(
        cell=train.cell, method="fastflow", backbone=train.backbone, trained="run", manifest=str(manifest),
        run="run", **features,
    )  # fmt: skip


def evaluate_spec(manifest):
    return EvaluateSpec(cell=train_spec().cell, trained="run", manifest=str(manifest), run="run")


def test_more_images_and_larger_ones_take_more(tmp_path):
    few, many = (write_manifest(tmp_path / f"{n}.csv", n, n, 1024) for n in (100, 4000))
    assert memory_mb(train_spec(manifest=many), 0) > memory_mb(train_spec(manifest=few), 0)
    assert memory_mb(score_spec(many), 0) > memory_mb(score_spec(few), 0)
    assert memory_mb(evaluate_spec(few), 0) < memory_mb(evaluate_spec(many), 0) < 10_000  # what is large is in files
    large = train_spec(manifest=few, name="wide_resnet50_2.tv_in1k", input_size=512)
    assert memory_mb(large, 0) > memory_mb(train_spec(manifest=few), 0)


def test_a_network_that_is_trained_on_images_is_counted(tmp_path, monkeypatch):
    (tmp_path / "on_images.py").write_text('MEMORY = {"parameters": 0, "network": 25_000_000, "pixels": 2000}\n')
    monkeypatch.setattr(methods, "__path__", [str(tmp_path)])
    small, large = (memory_mb(train_spec("on_images", name="image", input_size=side), 0) for side in (256, 512))
    network, pixels = 36 * 25, 16 * 256**2 * 2000 / 1e6
    assert small > network + pixels
    assert large > network + 4 * pixels


def test_a_stored_image_is_counted():
    assert memory_mb(train_spec(image=True), 0) > memory_mb(train_spec(), 0)


@pytest.mark.parametrize("method", plugin_names("nfbench.methods"))
def test_every_method_has_numbers(method):
    found = coefficients(method)
    assert set(found) == {"parameters", "network", "pixels", "state", "channels", "patches"}
    assert all(value >= 0 and not math.isnan(value) for value in found.values())


def test_other_stages_ask_for_what_their_rule_says():
    spec = PrepareSpec(dataset={"dataset": "folder"}, category="part", root="own", manifest="m.csv")
    assert memory_mb(spec, 1000) == 1000
