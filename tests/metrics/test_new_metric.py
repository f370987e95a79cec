"""A metric is one file: it alone makes the metric measured, printed, reported and usable in searches."""

import json
import re
import shutil
import subprocess
import sys

import pandas as pd
import pytest

from tests.changes import SOURCE
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

METRIC = '''"""Share of anomalous images that do not score above all normal ones."""

from nfbench.metrics import BY_RULE, Metric


def _value(test, rule):
    normal, anomalous = (test.images[rule][test.labels == label] for label in (0, 1))
    return float((anomalous <= normal.max()).mean()) if normal.size and anomalous.size else float("nan")


METRICS = [
    Metric("image_missed", "missed images", _value, higher_is_better=False, variants=BY_RULE, note="none is alarmed")
]
'''
EXPERIMENT = """
title: A new metric
datasets:
  few: {dataset: synthetic, max_train: 6, max_test_normal: 4, max_test_anomalous: 6}
variants:
  tuned:
    method: padim
    search: {backbones: &b [{name: tf_efficientnet_lite0, input_size: 64, weights: random}],
             trials: 4, objective: test, metric: image_missed}
grid: [{methods: [tuned], backbones: *b, datasets: {few: [fabric]}}]
tables:
  new_results: {title: New, metric: image_missed_max}
  new_methods: {kind: methods, title: New, metrics: [image_missed, pixel_auroc, false_alarms_fair]}
figures:
  new_search: {kind: search}
"""
RUN = "from pathlib import Path; from tests.in_process import run_experiment; run_experiment(Path('.'), 'new')"


def run_in(folder, *arguments):
    variables = {"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of an experiment that shows and searches by a metric which is one more file in a copy of the package."""
    folder = tmp_path_factory.mktemp("new")
    shutil.copytree(SOURCE, folder / "nfbench", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "nfbench/metrics/image_missed.py").write_text(METRIC)
    (folder / "workflow/experiments").mkdir(parents=True)
    (folder / "workflow/experiments/new.yaml").write_text(EXPERIMENT)
    (folder / "config.yaml").write_text("experiment: new\n")
    run_in(folder, "-c", RUN)
    return folder / "results"


def test_it_is_measured_in_all_variants(results):
    record = json.loads(next(results.rglob("run.json")).read_text())
    measured = record["selections"]["last"]["metrics"]
    assert {f"image_missed{rule}" for rule in ("", "_max", "_mean", "_top1")} <= measured.keys()
    assert "image_missed" in record["specs"]["evaluate"]["metrics"]


def test_tables_print_it_with_title_unit_and_note(results):
    record = json.loads(next(results.rglob("run.json")).read_text())
    (row,) = pd.read_csv(results / "tables/new/new_results.csv").itertuples()
    assert row.mean == pytest.approx(100 * record["selections"]["last"]["metrics"]["image_missed_max"])
    page = (results / "tables/new/new_results.html").read_text()
    assert "New: missed images (maximum of the map) in percent, one seed" in page
    assert "None is alarmed." in page
    page = (results / "tables/new/new_methods.html").read_text()
    assert "New: missed images, pixel AUROC in percent, detected regions per 100 normal test images, at" in page


def test_the_report_knows_its_direction(results):
    page = (results / "reports/new.html").read_text()
    found = json.loads(re.search(r'"metrics": ?(\[.*?\])', page)[1])
    (about,) = [metric for metric in found if metric["name"] == "image_missed"]
    assert about == {"name": "image_missed", "title": "missed images", "lowest": True, "share": True}


def test_a_search_minimizes_it(results):
    study = json.loads(next(results.rglob("study.json")).read_text())
    record = json.loads(next(results.rglob("run.json")).read_text())
    values = [trial["value"] for trial in study["trials"] if trial["value"] is not None]
    assert (study["study"]["direction"], study["study"]["metric"]) == ("minimize", "image_missed")
    assert study["best"]["value"] == min(values) == record["selections"]["last"]["metrics"]["image_missed"]
