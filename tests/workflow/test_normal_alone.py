"""The user's own images where some are missing: from normal images alone to tables, figures and a report."""

import json
import shutil
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nfbench.cli.load import load_plan
from nfbench.config import FigureConfig
from nfbench.core.errors import NfbenchError
from nfbench.core.registry import plugin_names
from nfbench.figures._base import NothingToDraw, read_runs, write_figure
from nfbench.plan.paths import Paths
from nfbench.results.record import read_record
from tests.conftest import make_image_folder
from tests.in_process import run_experiment, run_nfbench

pytestmark = [pytest.mark.workflow, pytest.mark.slow]

KEPT = {"alone": (), "good": ("good",), "bad": ("dent",), "validated": ()}
LACKING = {"alone": "no test images", "good": "no anomalous test images", "bad": "no normal test images"}
BACKBONE = {"name": "tf_efficientnet_lite0", "input_size": 64, "weights": "random"}
EXPERIMENT = {
    "title": "Own",
    "seeds": 1,
    "datasets": {"own": {"root": "own"}},
    "variants": {"small": {"method": "fastflow", "settings": {"epochs": 2, "batch_size": 4, "flow_steps": 2}}},
    "grid": [
        {"methods": ["small"], "backbones": [BACKBONE], "datasets": {"own": list(KEPT)}},
        {"methods": ["padim"], "backbones": [BACKBONE], "datasets": {"own": ["validated"]}},
    ],
    "tables": {
        "auroc": {"title": "AUROC", "metric": "image_auroc"},
        "alarms": {"kind": "alarms", "title": "Alarms"},
        "sizes": {"kind": "statistics", "title": "Images", "dataset": "own"},
    },
    "figures": {kind: {"kind": kind} for kind in ("maps", "thresholds", "histograms", "speed")},
}


@pytest.fixture(scope="module")
def finished(new_checkout):
    checkout = new_checkout()
    for category, kept in KEPT.items():
        folder = make_image_folder(checkout.folder / "own", category) / category
        for test in (folder / "test").iterdir():
            if test.name not in kept:
                shutil.rmtree(test)
    shutil.copytree(folder / "train/good", folder / "validation/good")
    (checkout.folder / "workflow/experiments/own.yaml").write_text(json.dumps(EXPERIMENT))
    run_experiment(checkout.folder, "own")
    return checkout


def records(checkout, method="small"):
    found = (checkout.folder / "results/runs").rglob(f"{method}/*/seed0/run.json")
    return {record.cell.category: record for record in map(read_record, found)}


def test_what_is_undefined_is_none_and_thresholds_are_there(finished):
    found = records(finished)
    for category, lacking in LACKING.items():
        record = found[category]
        assert record.data.lacking == lacking
        assert record.selections["last"].metrics["image_auroc"] is None
        assert record.segmentation.thresholds["fair"] > 0
        assert record.segmentation.threshold_images.source == "held out"
    assert found["good"].selections["last"].metrics["false_alarms_fair"] is not None
    assert found["bad"].selections["last"].metrics["pixel_auroc"] is not None
    assert set(found["alone"].selections["last"].metrics.values()) == {None}


def test_thresholds_come_from_validation_images_that_no_training_counts(finished):
    for method, n_train, n_val in (("small", 5, 1), ("padim", 6, 0)):
        record = records(finished, method)["validated"]
        assert (record.data.n_train, record.data.n_val, record.data.n_validation) == (n_train, n_val, 6)
        assert record.segmentation.threshold_images.model_dump() == {"source": "validation", "n_images": 6}
        (path,) = (finished.folder / "results/runs").rglob(f"validated/{method}/*/*/training.json")
        training = json.loads(path.read_text())
        assert "cross_fit" not in training["seconds"]
        assert training["classes"]["validated"]["n_validation"] == 6


def test_tables_mark_what_is_undefined_and_say_why(finished):
    tables = finished.folder / "results/tables/own"
    assert pd.read_csv(tables / "auroc.csv")["mean"].isna().all()
    page = (tables / "auroc.html").read_text()
    assert "Undefined on own/alone, own/validated (no test images); own/good (no anomalous test images)" in page
    assert "no normal test images" in page
    assert (
        "Undefined on own/alone, own/validated (no test images); own/bad (no normal test images)"
        in (tables / "alarms.html").read_text()
    )
    counts = pd.read_csv(tables / "sizes.csv").set_index("category")
    assert counts.loc["alone", ["normal test images", "anomalous test images"]].tolist() == [0, 0]


def test_the_report_says_why(finished):
    report = (finished.folder / "results/reports/own.html").read_text()
    assert '"lacking":"own/alone, own/validated (no test images);' in report.replace('": "', '":"')


def drawn(figure, runs):
    """The figure, or the error that says why there is none."""
    try:
        return figure.draw(runs)
    except NfbenchError as error:
        return error


@pytest.mark.parametrize("kind", plugin_names(FigureConfig.package))
@pytest.mark.parametrize("categories", [("alone",), ("good", "bad")], ids=" ".join)
def test_every_figure_is_drawn_or_says_what_it_needs(finished, kind, categories, tmp_path):
    figure = FigureConfig.model_validate({"kind": kind, **FigureConfig.of_kind(kind).example})
    with chdir(finished.folder):
        cells = {cell: "" for cell in load_plan().cells("own") if cell.category in categories}
        runs = read_runs(cells, Paths(Path("results")))
        found = drawn(figure, runs)
    if isinstance(found, Figure):
        write_figure(found, [tmp_path / "figure.png"])
    else:
        assert str(found).startswith("a figure of")
        assert isinstance(found, NothingToDraw) or kind in ("search", "anomalies")  # which need other variants


def test_figures_without_content_say_so_in_their_place(finished):
    folder = finished.folder / "results/figures/own"
    heights = {kind: Image.open(folder / f"{kind}.png").height for kind in EXPERIMENT["figures"]}
    assert heights["speed"] < 60
    assert heights["histograms"] > 200


def test_data_check_and_preflight_agree(finished):
    printed = run_nfbench(finished.folder, "data", "check", "folder", "--root", "own")
    assert "alone: 6 for training, 0 normal and 0 anomalous for testing" in printed
    assert run_nfbench(finished.folder, "check")
