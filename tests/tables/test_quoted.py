"""Tables show everything that a paper prints: competitors, averages by kind, ±, doubtful and lost cells."""

import csv
import io
import shutil

import numpy as np
import pandas as pd
import pytest

from nfbench.datasets._base import find_dataset
from nfbench.reference import published_table
from nfbench.tables._holes import mark_holes
from nfbench.tables._render import to_csv, to_html, to_latex, to_text
from nfbench.tables.methods import MethodsTable
from tests.tables.making import make_table, others, own_rows
from tests.tables.test_tables import CONFIG, compile_latex, results

EVERY = find_dataset("mvtec_ad").categories
UNSUPERVISED = CONFIG.model_copy(update={"published": "bgad_mvtec_unsupervised"})
NFAD = {"method": "uflow-x", "published": {"method": "NFAD", "category": "average_total"}}
MEANS = MethodsTable(title="T", metrics=["pixel_auroc"], published="bgad_mvtec_unsupervised", rows=[NFAD])


def row(table, label):
    (found,) = (row for row in table.rows if row.label == label)
    return found


def test_averages_by_kind_are_those_that_the_paper_prints():
    table = make_table(CONFIG, results(EVERY))
    assert [row.label for row in table.rows[-3:]] == ["average texture", "average object", "average"]
    texture = row(table, "average texture").cells[0]
    assert texture.published.value == 98.51
    five = [found.cells[0].mean for found in table.rows if found.label in ("carpet", "grid", "leather", "tile", "wood")]
    assert texture.mean == pytest.approx(np.mean(five))
    assert [row.is_average for row in table.rows].count(True) == 3
    assert to_html(table).count('class="average"') == 3


def test_averages_of_some_categories_are_our_own():
    some = make_table(CONFIG, results(("carpet", "grid", "bottle", "cable")))
    assert row(some, "average texture").cells[0].published.value == pytest.approx((99.42 + 98.49) / 2)
    assert [row.label for row in make_table(CONFIG, results()).rows] == ["bottle", "carpet", "average"]


def test_columns_of_another_setting_are_quoted_under_its_name():
    table = make_table(UNSUPERVISED, results(EVERY))
    assert "BGAD (supervised-10)" in others(table)
    published = published_table("bgad_mvtec_unsupervised", frozenset({"one-class"}))
    quoted = row(table, "carpet").cells[-1].published
    assert quoted.value == published.value("BGAD (supervised-10)", "carpet", "pixel_auroc").value == pytest.approx(99.6)
    assert "99.60 ± 0.02" in to_html(table)
    lines = csv.DictReader(io.StringIO(to_csv(table)))
    (line,) = (x for x in lines if (x["category"], x["method"]) == ("carpet", "BGAD (supervised-10)"))
    assert (line["published"], line["published_std"], line["status"]) == ("99.6", "0.02", "published only")


def test_lost_and_doubtful_cells_are_marked_and_explained():
    table = make_table(UNSUPERVISED.model_copy(update={"published_as": {"uflow-x": "BGAD w/o"}}), results(EVERY))
    bottle, cable = (row(table, category).cells[0] for category in ("bottle", "cable"))
    assert bottle.published.is_lost
    assert bottle.status == "measured"
    assert not cable.published.trusted
    assert "[lost]" in to_text(table)
    assert "lost: BGAD w/o: cell lost in extraction" in to_text(table)
    assert "<p>?: DRAEM: column mean from its 15 rows" in to_html(table)
    assert r"\textsuperscript{lost}" in to_latex(table)
    assert make_table(CONFIG, results(EVERY)).footnotes == {}


def test_a_printed_average_that_does_not_follow_from_its_rows_is_doubtful():
    config = CONFIG.model_copy(update={"metric": "pixel_aupro", "published": "uflow_table2_pixel_aupro"})
    table = make_table(config, results(EVERY).assign(metric="pixel_aupro"))
    number = [column.title for column in table.columns].index("FastFlow")
    assert row(table, "average").cells[number].text == "92.18 ?"
    assert table.footnotes["?"].endswith("FastFlow: average; mean of its rows is 92.0513")


def test_means_of_competitors_stand_below_those_of_our_runs():
    table = make_table(MEANS, results(EVERY))
    assert [row.label for row in own_rows(table)] == ["U-Flow <x>"]
    assert [row.label.removesuffix(", published only") for row in table.rows[1:]] == [
        "DRAEM", "PaDiM", "MSFD", "PatchCore", "CFA", "BGAD w/o", "BGAD (supervised-10)",
    ]  # fmt: skip
    padim = table.rows[2].cells[0]
    assert (padim.published.value, padim.status, padim.n_seeds) == (pytest.approx(97.6), "published only", 0)
    assert np.isnan(padim.mean)
    assert mark_holes(table, []) == table


def test_rows_are_compared_on_each_dataset():
    config = MethodsTable(
        title="T",
        metrics=["image_auroc"],
        published="sanflow_ablation_statistics",
        published_datasets={"mvtec_ad": "MVTec AD", "stc": "STC"},
        rows=[{"method": "uflow-x", "published": {"variant": "Model (3a)"}}],
    )
    frame = results().assign(metric="image_auroc")
    table = make_table(config, pd.concat([frame, frame.assign(dataset="stc")]))
    shown = [(row.labels[0], row.cells[0].published.value) for row in table.rows]
    assert shown[:4] == [("mvtec_ad", value) for value in (97.6, 97.0, 98.1, 98.7)]
    assert shown[4:] == [("stc", value) for value in (75.9, 75.1, 74.5, 76.1)]


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_wide_tables_are_turned_and_compile(tmp_path):
    wide = to_latex(make_table(CONFIG, results(EVERY, methods=[("uflow-x", "[words] " * 9, "U-Flow")])))
    narrow = to_latex(make_table(MEANS, results(EVERY)))
    assert wide.startswith(r"\begin{sidewaystable}")
    assert narrow.startswith(r"\begin{table}")
    assert r"\shortstack{[words]" in wide
    compile_latex(wide + narrow, tmp_path)
