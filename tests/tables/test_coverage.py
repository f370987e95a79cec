"""Every published value is in a table of an experiment, and the coverage page equals nfbench's output."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from nfbench.cli import app
from nfbench.config import load_bench
from nfbench.reference import PrintedCell, printed_cells
from nfbench.results.aggregate import aggregate
from nfbench.results.record import read_record
from nfbench.results.supposed import official_results
from nfbench.tables._coverage import figures_without_target, missing_cells, quoted_alone, reasons, shown_cells
from tests.made_up import MadeUp

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def bench():
    return load_bench({"seeds": 1}, ROOT / "workflow" / "experiments")


@pytest.fixture(scope="module")
def shown(bench):
    return list(shown_cells(bench))


def test_every_published_value_is_in_a_table(shown):
    assert missing_cells(shown) == []


def test_every_figure_of_the_documents_is_drawn(bench):
    assert figures_without_target(bench) == []


def test_a_value_that_no_table_shows_is_missing(shown):
    first = PrintedCell("uflow_table2_pixel_aupro", 0)
    missing = missing_cells(one for one in shown if one.cell != first)
    assert set(missing) - set(missing_cells(shown)) == {first}
    assert len(missing_cells([])) == 4285  # 20 of them were lost, and are marked so


def test_values_of_our_own_runs_and_of_others_are_told_apart(shown):
    by_method = {}
    for one in shown:
        if one.table == "uflow_table1":
            by_method.setdefault(one.cell.printed["method"], set()).add(one.compared_with)
    assert by_method["U-Flow"] == {("uflow-cait-all",)}
    assert by_method["PatchSVDD"] == {()}
    assert {one.compared_with for one in shown if one.table == "uflow_table4"} == {("counted",)}


def test_each_method_that_is_quoted_alone_says_why(shown):
    quoted, why = quoted_alone(shown), reasons()
    unexplained = [(method, table) for method, table in quoted if not {(method, table), (method, "")} & why.keys()]
    assert unexplained == []
    used = {key for method, table in quoted for key in ((method, table), (method, ""))}
    assert why.keys() <= used  # no reason outlives the runs that make it untrue
    assert all(why.values())


def test_a_cell_of_a_mean_over_some_categories_is_that_of_each(bench, shown):
    """Where all categories are shown, each printed average is a cell of its own."""
    averages = {one.cell for one in shown if one.cell.printed["category"].startswith("average_")}
    printed = [cell for cell in printed_cells("uflow_table7_image_auroc") if cell.printed["category_kind"] == "average"]
    assert len(printed) == 27
    assert averages >= set(printed)


def test_the_page_is_what_nfbench_prints(monkeypatch, shown):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("nfbench.tables._coverage.shown_cells", lambda bench: shown)
    printed = CliRunner().invoke(app, ["coverage"])
    assert printed.output == (ROOT / "docs" / "coverage.md").read_text(encoding="utf-8")


def test_supposed_results_have_the_columns_of_measured_ones(bench, tmp_path):
    made = MadeUp(tmp_path, {"uflow": "uflow"}, categories=("bottle",), seeds=1).write()
    measured = aggregate([read_record(made.paths.run_record(cell)) for cell in made.cells])
    supposed = official_results(bench, "uflow_table6", ["pixel_auroc"])
    kinds = {column: kind.kind for column, kind in measured.dtypes.items()}
    assert {column: kind.kind for column, kind in supposed.dtypes.items()} == kinds
