"""Tables: published next to measured values, honest captions, escaping, and compilation by pdflatex."""

import csv
import io
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from nfbench.core.errors import NfbenchError
from nfbench.metrics import TRANSDUCTIVE
from nfbench.reference import PublishedValue, find_printed, published_names, published_table
from nfbench.results.compare import compare
from nfbench.tables._datasets import DatasetNote
from nfbench.tables._render import to_csv, to_html, to_latex, to_text
from nfbench.tables._titles import metric_title
from nfbench.tables.methods import MethodsTable
from nfbench.tables.results import ResultsTable
from tests.tables.making import make_table, others


def results(categories=("bottle", "carpet"), weights="pretrained", methods=(("uflow-x", "U-Flow <x>", "U-Flow"),)):
    rows = []
    for method, title, method_title in methods:
        for index, category in enumerate(categories):
            for seed in (0, 1):
                for selection, bonus in (("last", 0), ("oracle", 0.005)):
                    rows.append(
                        {"setting": "one-class", "dataset": "mvtec_ad", "category": category, "method": method,
                         "backbone": "resnet18.tv_in1k@256", "seed": seed, "variant_of": "uflow",
                         "method_title": method_title, "title": title, "input_size": 256, "levels": "1,2,3",
                         "weights": weights, "n_train": 188, "n_val": 21, "n_test": 83, "n_regions": 68,
                         "n_defects": 3, "image_side": 900, "n_test_normal": 20, "n_classes": 1,
                         "n_real": 0, "generator": "", "search": "", "search_metric": "", "search_chosen": True,
                         "n_validation": 0, "threshold_images": "held out", "search_trials": 0, "search_pruned": 0,
                         "search_failed": 0, "search_seconds": 0.0,
                         "epochs": 16, "image_score": "top1",
                         "parameters": 1, "train_seconds": 1.0, "selection": selection, "metric": "pixel_auroc",
                         "value": 0.98 + 0.01 * seed - 0.1 * index + bonus}
                    )  # fmt: skip
    return pd.DataFrame(rows)


CONFIG = ResultsTable(title="T_1 & more", metric="pixel_auroc", published="uflow_table1_pixel_auroc")


@pytest.fixture
def table():
    return make_table(CONFIG, results())


def test_cells_hold_mean_std_published_difference_and_status(table):
    bottle, carpet, average = table.rows
    cell = bottle.cells[0]
    assert cell.mean == pytest.approx(98.5)
    assert cell.std == pytest.approx(np.std([98, 99], ddof=1))
    assert cell.published.value == 98.65
    assert cell.difference == pytest.approx(98.5 - 98.65)
    assert cell.status == "reproduced"
    assert carpet.cells[0].status == "off"
    assert average.label == "average"
    assert average.cells[0].published.value == pytest.approx((98.65 + 99.42) / 2)
    assert average.cells[0].std == pytest.approx(np.std([93, 94], ddof=1))


def test_selections_stand_side_by_side():
    config = CONFIG.model_copy(update={"published": None, "selections": ("last", "val", "oracle")})
    table = make_table(config, results())
    assert [column.selection for column in table.columns] == ["last", "val", "oracle"]
    last, val, oracle = table.rows[0].cells
    assert oracle.mean - last.mean == pytest.approx(0.5)
    assert np.isnan(val.mean)
    assert "oracle: best checkpoint on the test set (optimistic)" in table.caption.lower()
    assert to_text(table).count("–") == 3


def test_metric_of_single_methods():
    frame = pd.concat([results(), results().assign(metric="miou_nfa", value=0.5)])
    config = ResultsTable(title="T", metric="miou_fair", metric_of={"uflow": "miou_nfa"})
    made = make_table(config, frame)
    assert made.rows[0].cells[0].mean == pytest.approx(50)
    assert made.details(made.columns[0]) == "last, NFA < 1"
    assert "of U-Flow, mean IoU of the a contrario mask, NFA < 1" in made.caption
    with pytest.raises(NfbenchError, match="unknown method 'u-flow' in 'metric_of'"):
        make_table(config.model_copy(update={"metric_of": {"u-flow": "miou_nfa"}}), frame)
    with pytest.raises(NfbenchError, match="no run has the metric 'miou_nfa_x'"):
        make_table(config.model_copy(update={"metric_of": {"uflow": "miou_nfa_x"}}), frame)


def test_datasets_without_the_metric_are_left_out_and_named():
    other = results().assign(dataset="elpv", metric="image_auroc")
    table = make_table(CONFIG, pd.concat([results(), other]))
    assert {row.labels[0] for row in table.rows} == {"mvtec_ad"}
    assert table.caption.endswith("Not defined on elpv, which has no masks.")
    assert "data: mvtec_ad, 2 of" in table.caption.lower()


def test_unknown_metric_is_named():
    config = CONFIG.model_copy(update={"metric": "pixel_auroq"})
    with pytest.raises(
        NfbenchError, match=r"table 't': no run has the metric 'pixel_auroq'; did you mean 'pixel_auroc'"
    ):
        make_table(config, results())


def test_published_methods_that_were_not_measured_stand_beside(table):
    assert others(table)[:3] == ["PatchSVDD", "SPADE", "PaDiM"]
    assert "U-Flow" not in others(table)
    assert table.rows[0].cells[3].text == "98.30"


@pytest.mark.parametrize(
    ("measured", "status"), [(0.984, "reproduced"), (0.973, "close"), (0.99, "close"), (0.9, "off"), (None, "missing")]
)
def test_status_follows_the_tolerance(measured, status):
    values = pd.Series([] if measured is None else [measured])
    assert compare(values, PublishedValue(98.2, True, ""), (0.5, 1.5), runs=pd.DataFrame()).status == status


def test_without_a_published_value_a_cell_is_measured():
    cell = compare(pd.Series([0.5, 0.7]), None, (0.5, 1.5), runs=pd.DataFrame())
    assert (cell.status, cell.published) == ("measured", None)
    assert np.isnan(cell.difference)


@pytest.mark.parametrize(
    "words",
    ["mean and standard deviation over 2 seeds", "setting one-class", "the last epoch", "resnet18.tv_in1k@256",
     "2 of 15 categories", "poch", "136 ground-truth regions", "U-Flow, Table 1", "original image size"],
)  # fmt: skip
def test_caption_says_what_was_measured(table, words):
    assert words.lower() in table.caption.lower()


@pytest.mark.parametrize(
    "kind", [lambda m: ResultsTable(title="T", metric=m), lambda m: MethodsTable(title="T", metrics=[m])]
)
def test_caption_tells_which_images_thresholds_are_from(kind):
    methods = [(name, name.upper(), f"m{name}") for name in "abc"]
    sources = {"a": "cross-fitted", "b": "training", "c": "training"}
    made = results(methods=methods)
    made = made.assign(threshold_images=made.method.map(sources), metric="miou_fair")
    caption = make_table(kind("miou_fair"), made).caption
    assert "Threshold from normal images each scored by a model that was not fitted to it (A); or that the" in caption
    assert "model was trained on, as in the papers (B, C)." in caption
    both = pd.concat([made, made.assign(metric="miou_oracle")])
    assert "hreshold from" not in make_table(kind("miou_oracle"), both).caption


def test_caption_tells_the_rule_of_the_image_score():
    config = ResultsTable(title="t", metric="image_auroc")
    caption = make_table(config, results().assign(metric="image_auroc")).caption
    assert "Image score: mean of the map's top 1 %." in caption


def test_caption_tells_random_weights_and_subsets():
    caption = make_table(
        CONFIG, results(weights="random"), {"mvtec_ad": DatasetNote(subset="a subset: at most 3 training images")}
    ).caption
    assert "RANDOM weights" in caption
    assert "a subset: at most 3 training images" in caption


def test_corrected_row_labels_are_used():
    """CFLOW-AD's column of U-Flow's Table 7 is printed in another order; carpet's value is not the printed one."""
    table = published_table("uflow_table7_image_auroc")
    assert table.value("CFLOW-AD", "bottle", "image_auroc").value == 100
    assert table.value("CFLOW-AD", "carpet", "image_auroc").value == 98.7
    assert not table.value("CutPaste", "bottle", "image_auroc").trusted


def test_blank_cells_are_left_out_and_fractions_become_percent():
    assert published_table("uflow_table3_miou").value("FastFlow", "carpet", "miou_oracle").value == pytest.approx(54.51)
    assert "uflow_table1_pixel_auroc" in published_names()
    with pytest.raises(NfbenchError, match=r"unknown published table 'uflow_table1'; did you mean"):
        published_table("uflow_table1")


def test_html_is_escaped_and_stands_alone(table):
    page = to_html(table)
    assert "U-Flow &lt;x&gt;" in page
    assert "T_1 &amp; more" in page
    assert "<x>" not in page
    assert "http" not in page


def test_csv_has_every_cell(table):
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(rows) == 3 * (1 + len(others(table)))
    assert rows[0]["status"] == "reproduced"
    assert float(rows[0]["mean"]) == pytest.approx(98.5)


def test_text_shows_published_values_in_brackets(table):
    assert "98.50 ± 0.71 [98.65]" in to_text(table)


def test_image_score_rules_are_spelled_out():
    assert metric_title("image_auroc_top1") == "image AUROC (mean of the map's top 1 %)"
    assert metric_title("pixel_aupro") == "AUPRO"


def by_size(sizes):
    """Runs of one method whose backbone has a size of its own for each category."""
    parts = [
        results(categories=(category,)).assign(input_size=size, backbone=f"resnet18.tv_in1k@{size}-reflect")
        for category, size in sizes
    ]
    return pd.concat(parts)


def test_one_method_at_several_sizes_is_one_column():
    other = results(methods=(("fastflow", "FastFlow", "FastFlow"),)).assign(variant_of="fastflow")
    frame = pd.concat([by_size([("bottle", 512), ("carpet", 128)]).assign(method="cflow", title="C"), other])
    table = make_table(CONFIG, frame)
    assert [column.title for column in table.measured] == ["C", "FastFlow"]
    assert table.details(table.columns[0]) == "resnet18.tv_in1k@128/512, last"
    assert table.details(table.columns[1]) == "resnet18.tv_in1k@256, last"
    assert [row.cells[0].n_seeds for row in table.rows] == [2, 2, 2]
    assert table.rows[2].cells[0].mean == pytest.approx(np.mean([row.cells[0].mean for row in table.rows[:2]]))
    assert "C: resnet18.tv_in1k@512-reflect on bottle; resnet18.tv_in1k@128-reflect on carpet." in table.caption
    assert "resnet18.tv_in1k@128/512" in to_csv(table)


def test_a_category_at_two_sizes_keeps_the_columns_apart():
    frame = by_size([("bottle", 512), ("bottle", 128), ("carpet", 128)])
    table = make_table(CONFIG, frame)
    assert [c.backbone for c in table.measured] == ["resnet18.tv_in1k@512-reflect", "resnet18.tv_in1k@128-reflect"]
    bottle, carpet, average = table.rows
    assert bottle.cells[0].mean == bottle.cells[1].mean == pytest.approx(98.5)
    assert carpet.cells[0].status == average.cells[0].status == "missing"
    assert average.cells[1].mean == pytest.approx((98.5 + 98.5) / 2)


def test_scores_relative_to_the_test_set_are_named():
    relative = "of scores relative to the test set's maximum, as published"
    assert metric_title("image_auroc_transductive") == f"image AUROC {relative}"
    assert metric_title("image_auroc_top1_transductive") == f"image AUROC (mean of the map's top 1 %) {relative}"
    assert metric_title(f"pixel_aupro{TRANSDUCTIVE}") != f"pixel_aupro{TRANSDUCTIVE}"
    frame = pd.concat([results(), results().assign(metric="pixel_auroc_transductive", value=0.75)])
    made = make_table(CONFIG.model_copy(update={"metric_of": {"uflow": "pixel_auroc_transductive"}}), frame, {})
    assert made.rows[0].cells[0].mean == pytest.approx(75)
    assert made.rows[0].cells[0].published.value == 98.65
    assert made.details(made.columns[0]) == "last, transductive"
    assert "of U-Flow, pixel AUROC of scores relative to the test set's maximum, as published" in made.caption


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"method": "U-Flow", "bakbone": "MS-CaiT"}, r"has no column 'bakbone'; did you mean 'backbone'\?"),
        ({"method": "U-Flow", "backbone": "MSCaiT"}, "has 0 rows with method 'U-Flow', backbone 'MSCaiT'"),
        ({"method": "U-Flow"}, "has 5 rows with method 'U-Flow', expected one"),
    ],
)
def test_rows_of_published_tables_are_found_or_named(where, message):
    with pytest.raises(NfbenchError, match=message):
        find_printed("uflow_table4_parameters", where)


def test_printed_numbers_are_compared_at_their_precision():
    printed = find_printed("uflow_table4_parameters", {"method": "CS-Flow", "backbone": "EfficientNet"})
    assert (printed.text, printed.unit) == ("275", "millions")
    assert printed.equals(275.227)
    assert not printed.equals(275.6)
    assert find_printed("uflow_table4_parameters", {"method": "CS-Flow", "backbone": "MS-CaiT"}) is None
    with pytest.raises(NfbenchError, match="'275 millions' is not a percentage or fraction"):
        printed.in_percent()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(table, tmp_path):
    body = to_latex(table) + to_latex(make_table(CONFIG.model_copy(update={"published": None}), results()))
    compile_latex(body, tmp_path)


def compile_latex(body, folder):
    document = (
        r"\documentclass{article}\usepackage{booktabs,graphicx,rotating}\begin{document}" + body + r"\end{document}"
    )
    (folder / "t.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (folder / "t.pdf").stat().st_size > 10_000
