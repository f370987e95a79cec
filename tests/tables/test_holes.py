"""Missing runs are marked at the cells of their setting, category, method and backbone, and nowhere else."""

import pandas as pd

from nfbench.plan.cells import Cell
from nfbench.results.ledger import Account
from nfbench.tables._holes import mark_holes
from nfbench.tables.results import ResultsTable
from tests.tables.making import make_table
from tests.tables.test_settings_table import CONFIG as BOTH
from tests.tables.test_settings_table import runs

ONE_CLASS = ResultsTable(title="One", metric="pixel_auroc", setting="one-class")


def hole(setting, category="bottle", method="a"):
    return Account(Cell(setting, "mvtec_ad", category, method, "resnet18.tv_in1k@256", 2), "missing", "not run yet")


def marks(table):
    return {row.label: [cell.holes for cell in row.cells] for row in table.rows}


def test_a_hole_is_marked_in_its_category_and_in_the_average():
    table = mark_holes(make_table(ONE_CLASS, runs()), [hole("one-class"), hole("one-class", method="b")])
    assert marks(table) == {"bottle": [1], "carpet": [0], "average": [1]}
    assert "NOT DONE, marked †" in table.caption


def test_a_hole_of_another_setting_is_none_of_the_table():
    made = make_table(ONE_CLASS, runs())
    assert mark_holes(made, [hole("unified")]) == made
    both = mark_holes(made, [hole("one-class", "carpet"), hole("unified")])
    assert marks(both) == {"bottle": [0], "carpet": [1], "average": [1]}
    assert "unified" not in both.caption


def test_a_category_without_any_run_is_marked_by_the_setting_of_the_table():
    other = runs().assign(method="b", title="Method B", method_title="B")
    lacking = runs().query("setting == 'unified' or category != 'bottle'")
    made = make_table(ONE_CLASS, pd.concat([other, lacking]))
    assert marks(mark_holes(made, [hole("one-class")]))["bottle"] == [0, 1]
    assert marks(mark_holes(made, [hole("unified")]))["bottle"] == [0, 0]


def test_a_table_of_settings_marks_the_column_of_the_setting_and_the_difference():
    made = make_table(BOTH, runs())
    assert marks(mark_holes(made, [hole("unified")])) == {"Method A": [0, 1, 1]}
    assert marks(mark_holes(made, [hole("one-class")])) == {"Method A": [1, 0, 1]}
    assert marks(mark_holes(made, [hole("few-anomaly")])) == {"Method A": [0, 0, 0]}
