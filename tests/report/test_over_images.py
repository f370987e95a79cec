"""Paired tests over images, for metrics that have values by image: against SciPy, from the files of runs."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nfbench.metrics import find_metric
from nfbench.plan.cells import Cell
from nfbench.plan.paths import Paths
from nfbench.report.analysis import tests as paired
from nfbench.results.files import ImageValue
from tests.made_up import write_known

METHODS, CATEGORIES, SEEDS = ("padim", "uflow"), ("bottle", "cable"), (0, 1)
BACKBONE = "resnet18.tv_in1k@256"
AUPIMO, AUROC = find_metric("pixel_aupimo"), find_metric("image_auroc")


@pytest.fixture
def runs(tmp_path):
    """Results of the last and of the best epoch, and the value of each image in the folder of its run."""
    rng, paths, rows, values = np.random.default_rng(0), Paths(tmp_path), [], {}
    for method, category, seed in itertools.product(METHODS, CATEGORIES, SEEDS):
        cell = Cell("one-class", "mvtec_ad", category, method, BACKBONE, seed)
        found = {f"{category}/{number}.png": rng.uniform(0, 1) for number in range(9 + (category == "cable"))}
        values[cell] = found
        file = [("pixel_aupimo", image, "hole", value) for image, value in found.items()]
        file += [("seg_f1_all", image, "hole", 0.5) for image in found]
        folder = paths.run_record(cell).parent
        folder.mkdir(parents=True)
        write_known(ImageValue, folder, file)
        for selection, metric in itertools.product(("last", "oracle"), ("pixel_aupimo", "image_auroc")):
            value = float(np.mean([*found.values()]))
            rows.append({**vars(cell), "selection": selection, "metric": metric, "value": value})
    return pd.DataFrame(rows), paths, values


def over(results, paths, unit, metrics=(AUPIMO, AUROC)):
    return [test for test in paired(results, metrics, paths) if test["unit"] == unit]


def test_they_are_those_of_scipy_on_means_over_seeds(runs):
    results, paths, values = runs
    (test,) = over(results, paths, "image")
    assert (test["metric"], test["selection"], test["n"], test["methods"]) == ("pixel_aupimo", "last", 19, [*METHODS])
    images = sorted({image for found in values.values() for image in found})
    of = {method: [found for cell, found in values.items() if cell.method == method] for method in METHODS}
    first, second = (
        np.array([np.mean([found[image] for found in of[method] if image in found]) for image in images])
        for method in METHODS
    )
    (pair,) = test["pairs"]
    assert pair[:2] == [*METHODS]
    assert pair[2] == pytest.approx(100 * (first - second).mean(), abs=1e-7)
    assert pair[3:5] == [(first > second).sum(), (first < second).sum()]
    assert pair[5] == pytest.approx(stats.wilcoxon(first, second).pvalue, rel=1e-2)


def test_other_units_are_as_before(runs):
    results, paths, _ = runs
    assert {(t["metric"], t["n"]) for t in over(results, paths, "run")} == {("pixel_aupimo", 4), ("image_auroc", 4)}
    assert {t["n"] for t in over(results, paths, "category")} == {2}


def test_only_images_that_all_methods_have_are_compared(runs):
    results, paths, values = runs
    for cell, found in values.items():
        if cell.method == "uflow" and cell.category == "cable":
            kept = [("pixel_aupimo", image, "hole", value) for image, value in found.items() if image < "cable/4"]
            write_known(ImageValue, paths.run_record(cell).parent, kept)
    (test,) = over(results, paths, "image")
    assert test["n"] == 9 + 4


def test_runs_without_the_file_have_no_test(runs):
    results, paths, values = runs
    for cell in values:
        if cell.method == "uflow":
            (paths.run_record(cell).parent / "by_image.csv").unlink()
    assert over(results, paths, "image") == []
    assert len(over(results, paths, "run")) == 4
