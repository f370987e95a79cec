"""Latency: what is timed, for how long, and where it is stored."""

import json

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from nfbench import Detector
from nfbench.core.errors import NfbenchError
from nfbench.inference import latency
from nfbench.inference.latency import count_flops, latency_of_run, measure_latency, time_single
from nfbench.results.aggregate import aggregate
from nfbench.results.latency import LATENCIES
from nfbench.results.record import read_record
from tests.in_process import run_experiment, run_nfbench
from tests.workflow.conftest import Checkout

CPU = torch.device("cpu")
BACKBONE = {"name": "tf_efficientnet_lite0", "input_size": 64, "weights": "random"}


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)) for _ in range(4)]


@pytest.fixture(scope="module")
def scorer(pictures):
    settings = {"reduced_dimensions": 8, "smoothing": 0}
    return Detector("padim", BACKBONE, settings=settings, device="cpu").fit(pictures)._scorer


class Clock:
    """A clock that an image moves on by a known time."""

    def __init__(self, monkeypatch, seconds):
        self.now, self.seconds, self.scored = 0.0, seconds, []
        monkeypatch.setattr(latency, "perf_counter", lambda: self.now)

    def score(self, picture):
        self.scored.append(picture)
        self.now += self.seconds


@pytest.mark.parametrize(("seconds", "timed"), [(0.01, 20), (0.5, 6), (60.0, 3)])
def test_the_number_of_timed_images_is_bounded_by_time(seconds, timed, monkeypatch):
    clock = Clock(monkeypatch, seconds)
    assert time_single(clock.score, "abc", 2.5) == pytest.approx([seconds] * timed)
    assert len(clock.scored) == timed + 2  # the first two warm up
    assert clock.scored[:4] == ["a", "b", "c", "a"]


def test_a_latency_has_all_that_tables_show(scorer, pictures):
    found = measure_latency(scorer, pictures)
    assert 0 < found.ms <= found.p95_ms
    assert found.n_images >= 3
    assert found.threads == torch.get_num_threads()
    assert found.method_parameters == 0
    values = sum(p.nbytes for part in (scorer.extractor.model, scorer.model) for p in part.state_dict().values())
    assert found.model_mb == pytest.approx(values / 1e6)
    assert tuple(found.columns) == LATENCIES


def test_a_batch_that_would_take_too_long_is_left_out(scorer, pictures):
    assert measure_latency(scorer, pictures, seconds=1e-9).fps_32 is None
    assert measure_latency(scorer, pictures, seconds=1e9).fps_32 > 0


def test_operations_of_products_and_convolutions_are_counted(scorer, pictures):
    network = scorer.extractor.model
    taken = []

    def count(module, inputs, output):
        kernel = module.weight[0].numel()
        taken.append(2 * kernel * output[0].numel())

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    with torch.inference_mode():
        network(torch.zeros(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    positions, width = scorer.model.mean.shape
    assert count_flops(scorer, pictures[0]) == sum(taken) + 2 * positions * width * width


def test_without_the_weights_of_the_backbone_there_is_no_latency(scorer, pictures, monkeypatch, caplog):
    def missing(recipe):
        raise NfbenchError("no weights")

    monkeypatch.setattr("nfbench.features.extractor.load_extractor", missing)
    assert latency_of_run(scorer.model, scorer.recipe, pictures, CPU, 0) is None
    assert "latency was not measured: no weights" in caplog.text


EXPERIMENT = {
    "title": "Timed",
    "datasets": {
        "synthetic-timed": {"dataset": "synthetic", "max_train": 4, "max_test_normal": 2, "max_test_anomalous": 2}
    },
    "variants": {"timed": {"method": "padim", "settings": {"reduced_dimensions": 8}}},
    "grid": [{"methods": ["timed"], "backbones": [BACKBONE], "datasets": {"synthetic-timed": ["fabric"]}}],
    "tables": {
        "timed_methods": {
            "title": "Costs", "kind": "methods", "metrics": ["image_auroc"], "costs": ["latency_ms", "flops"]
        },
    },
}  # fmt: skip


@pytest.mark.slow
def test_a_table_that_shows_latency_has_it_measured(tmp_path, monkeypatch):
    checkout = Checkout(tmp_path)
    (tmp_path / "workflow/experiments/timed.yaml").write_text(yaml.safe_dump(EXPERIMENT))
    run_experiment(checkout.folder, "timed")
    (run,) = (tmp_path / "results").glob("runs/*/*/*/timed/*/seed0/run.json")
    untimed = read_record(run)
    assert untimed.latency is None
    assert aggregate([untimed])["latency_ms"].isna().all()
    table = next((tmp_path / "results/tables/timed").glob("*.csv")).read_text()

    spec = json.dumps(json.loads(run.read_text())["specs"]["score"])
    run_nfbench(tmp_path, "score_run", "--spec", spec, "--device", "cpu", "--latency")
    run_nfbench(tmp_path, "evaluate_run", "--spec", json.dumps(json.loads(run.read_text())["specs"]["evaluate"]))
    timed = read_record(run)
    assert timed.latency.ms > 0
    assert timed.selections == untimed.selections
    row = aggregate([timed]).iloc[0]
    assert row.flops == timed.latency.flops
    assert "–" in table or "nan" not in table
