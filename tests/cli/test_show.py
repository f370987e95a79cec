"""``nfbench show``: means with one column per method, and selections below each other."""

import pandas as pd

from nfbench.cli.show import _notes, means_of
from nfbench.results.compare import compare
from nfbench.tables._model import Column, Row, Table, Text, average_label

SELECTIONS = ("last", "val")


def cell(value):
    return compare(pd.Series([value]), runs=pd.DataFrame())


def table(*datasets, own_metric=""):
    """Two methods and two selections; each dataset is its rows of category and value."""
    methods = ("FastFlow", ""), ("U-Flow", own_metric)
    columns = [Column(title, selection=s, metric=metric) for title, metric in methods for s in SELECTIONS]
    columns.append(Column("Published", is_text=True))
    rows = [
        Row((dataset, category), (*(cell(value + number / 100) for number in range(4)), Text("0.9")))
        for dataset, categories in datasets
        for category, value in categories
    ]
    return Table("x", "A table: image AUROC. Random weights.", tuple(columns), tuple(rows))


def test_methods_are_columns_and_selections_are_rows():
    several = ("mvtec_ad", [("bottle", 0.1), ("cable", 0.2), (average_label(), 0.5)])
    first, _, *lines = means_of([("image_auroc", table(several, ("btad", [("01", 0.7)])))]).splitlines()
    assert first.split() == ["metric", "dataset", "selection", "FastFlow", "U-Flow"]
    assert [line.split() for line in lines] == [
        ["image", "AUROC", "mvtec_ad", "last", "50.00", "52.00"],
        ["val", "51.00", "53.00"],
        ["btad", "last", "70.00", "72.00"],
        ["val", "71.00", "73.00"],
    ]


def test_a_method_with_its_own_metric_has_rows_of_its_own():
    lines = means_of([("miou_fair", table(("btad", [("01", 0.7)]), own_metric="miou_nfa"))]).splitlines()[2:]
    assert [line.split()[-2:] for line in lines] == [
        ["last", "70.00"],
        ["val", "71.00"],
        ["last", "72.00"],
        ["val", "73.00"],
    ]


def test_notes_of_captions_are_kept_once():
    captions = ["A: image AUROC. Random weights. Epochs 1; x.", "B: pixel AUROC. Random weights. Needs masks."]
    assert _notes(captions) == "Random weights. Epochs 1; x. Needs masks."
