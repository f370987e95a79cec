"""The grid: exact counts of cells."""

import json

import pytest

from nfbench.config import load_bench
from nfbench.core.errors import NfbenchError
from nfbench.plan.cells import Cell, expand

FOUND = {"mvtec_ad": ["bottle", "cable", "screw"]}

EXPERIMENT = """
title: grid
seeds: 2
grid:
  - methods: [fastflow, uflow]
    backbones: [resnet18.tv_in1k, {name: resnet18.tv_in1k, input_size: 448}]
    datasets: {mvtec_ad: available, elpv: [mono, poly]}
  - methods: [fastflow]
    backbones: [resnet18.tv_in1k]
    datasets: {elpv: [mono]}
"""


def bench(tmp_path, **config):
    (tmp_path / "grid.yaml").write_text(EXPERIMENT)
    return load_bench(config, tmp_path)


def cells(tmp_path, **config):
    return expand(bench(tmp_path, **config), "grid", FOUND.__getitem__)


def test_full_product_without_repetition(tmp_path):
    # 2 methods x 2 backbones x (3 + 2) categories x 2 seeds; the second block repeats cells of the first
    assert len(cells(tmp_path)) == 2 * 2 * 5 * 2
    assert len(set(cells(tmp_path))) == 40


def test_seeds_of_the_configuration_win(tmp_path):
    assert len(cells(tmp_path, seeds=5)) == 2 * 2 * 5 * 5
    assert {cell.seed for cell in cells(tmp_path, seeds=5)} == set(range(5))


def test_categories_filter_all_datasets(tmp_path):
    assert {cell.category for cell in cells(tmp_path, categories=("screw", "mono"))} == {"screw", "mono"}


def test_categories_that_match_nothing_are_an_error(tmp_path):
    with pytest.raises(NfbenchError, match=r"'categories'.* 'grid': no category 'scrw'; did you mean 'screw'\?"):
        cells(tmp_path, categories=("scrw",))


def test_one_of_several_categories_that_matches_nothing_is_an_error(tmp_path):
    with pytest.raises(NfbenchError, match=r"no category 'mnoo'; did you mean 'mono'\?"):
        cells(tmp_path, categories=("screw", "mnoo"))


@pytest.mark.parametrize("found", [["part", "{braces}"], ["../up"], ["average"], ["-x", "part"]])
def test_folders_that_no_category_can_be_named_by_are_named(tmp_path, found):
    own = {"own": {"root": "images"}}
    block = {"methods": ["padim"], "backbones": ["resnet18.tv_in1k"], "datasets": {"own": "available"}}
    (tmp_path / "own.yaml").write_text(json.dumps({"title": "x", "grid": [block]}))
    with pytest.raises(NfbenchError, match=r"dataset 'own': category '.*'.*; rename its folder"):
        expand(load_bench({"datasets": own}, tmp_path), "own", lambda name: found)


def test_categories_of_an_own_folder_are_looked_up_on_disk(tmp_path):
    datasets = {"own": {"root": "images"}, "both": {"union": {"own": "available"}}}
    for asked in datasets:
        block = {"methods": ["padim"], "backbones": ["resnet18.tv_in1k"], "datasets": {asked: ["part", "prat2"]}}
        (tmp_path / "own.yaml").write_text(json.dumps({"title": "x", "grid": [block]}))
        bench = load_bench({"datasets": datasets}, tmp_path)
        with pytest.raises(NfbenchError, match=rf"dataset '{asked}': no category 'prat2'; did you mean 'part2'\?"):
            expand(bench, "own", lambda name: ["part", "part2"])
        assert len(expand(bench, "own", lambda name: ["part", "prat2"])) == 2


def test_unknown_experiment_names_the_nearest(tmp_path):
    with pytest.raises(NfbenchError, match=r"unknown experiment 'grd'; did you mean 'grid'\?"):
        expand(bench(tmp_path), "grd", FOUND.__getitem__)


def test_cell_prints_as_its_path():
    cell = Cell("one-class", "mvtec_ad", "bottle", "uflow", "resnet18.tv_in1k@448", 3)
    assert str(cell) == "one-class/mvtec_ad/bottle/uflow/resnet18.tv_in1k@448/seed3"


def test_order_is_that_of_the_experiment(tmp_path):
    assert [cell.dataset for cell in cells(tmp_path)] == ["mvtec_ad"] * 24 + ["elpv"] * 16


@pytest.mark.parametrize(
    ("setting", "anomalies", "message"),
    [
        ("few-anomaly", None, r"use a variant with 'anomalies: \{real: \.\.\.\}'; it has 0 real anomalies"),
        ("few-anomaly", {"generator": "blend"}, "it has 0 real anomalies"),
        ("one-class", {"real": 10}, "it has 10 real anomalies"),
    ],
)
def test_real_anomalies_belong_to_their_setting(tmp_path, setting, anomalies, message):
    variant = {"method": "bgad", "anomalies": anomalies}
    grid = [
        {"setting": setting, "methods": ["b"], "backbones": ["resnet18.tv_in1k"], "datasets": {"mvtec_ad": ["screw"]}}
    ]
    text = json.dumps({"title": "few", "variants": {"b": variant}, "grid": grid})
    (tmp_path / "few.yaml").write_text(text)
    with pytest.raises(NfbenchError, match=message):
        expand(load_bench({}, tmp_path), "few", FOUND.__getitem__)
